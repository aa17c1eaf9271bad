"""Quantities: a number with its unit, label or bound, and whether an answer gives the true one.

The number alone does not decide: "5 am" is not "5 pm", "Table 2" not "Figure 2", "more than 3" not "3". What an
answer omits does not contradict: "20" is right for "20 g".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, takewhile

from pairuni.rewards.answers.numbers import Number, numbers_in, tokens_of
from pairuni.rewards.answers.tokens import Token, word_set
from pairuni.rewards.answers.units import Units, singular, units_at, word_units

_FUNCTION_WORDS = word_set("""
    in on at of for from by with to into onto over under near and as so because since which that who where when
    while is are was were be been being has have had can could will would should may might must it its they
    their there here this these those he she his her we you your i my our total altogether overall only exactly
    precisely just approximately about around roughly circa visible shown seen present picture pictures image
    images photo photograph scene o'clock clock answer correct number numbers value amount count counted see
    sees show shows showing say says read reads display displays contain contains equal equals cost costs weigh
    weighs measures last lasts give gives get me think believe would estimate final then therefore thus hence
    yes well okay sure result each per
""")
"""Words that do not name what is counted."""

_SHORT = {"fig": "figure", "ch": "chapter", "vol": "volume", "pg": "page", "p": "page", "eq": "equation"}
_LABEL_SIGNS = frozenset({"number", "no", "nr"})
_MONTHS = word_set("""
    january february march april may june july august september october november december jan feb mar apr jun
    jul aug sep sept oct nov dec
""")
_OPPOSITES = {
    one: other
    for pair in (
        ("left", "right"), ("top", "bottom"), ("up", "down"), ("upper", "lower"), ("front", "back"), ("north", "south"),
        ("east", "west"), ("above", "below"), ("men", "women"), ("man", "woman"), ("boy", "girl"), ("male", "female"),
        ("inside", "outside"), ("black", "white"), ("more", "fewer"), ("more", "less"), ("old", "new"), ("win", "loss"),
    )
    for one, other in (pair, pair[::-1])
}  # fmt: skip

_GREATER = word_set("more greater higher larger bigger longer older taller heavier")
_LESS = word_set("less fewer lower smaller shorter younger lighter")
_BEFORE = {
    "<": "<", ">": ">", "≤": "<=", "≥": ">=", "±": "±", "over": ">", "above": ">", "beyond": ">", "exceeding": ">",
    "exceeds": ">", "under": "<", "below": "<", "almost": "<", "nearly": "<", "at least": ">=", "minimum": ">=",
    "minimum of": ">=", "at most": "<=", "up to": "<=", "maximum": "<=", "maximum of": "<=", "as many as": "<=",
    "no more than": "<=", "no less than": ">=", "no fewer than": ">=", "after": ">", "before": "<", "until": "<",
    "till": "<", "past": ">", "since": ">", "half of": "*", "twice": "*", "double": "*", "triple": "*",
    "quarter to": "<", "close to": "~", "next to": "~", "are no": "!", "is no": "!", "have no": "!", "has no": "!",
    "see no": "!", "≠": "!",
}  # fmt: skip
"""Words and signs before a number -> how the quantity differs from the number."""
_AFTER = {
    "or more": ">=", "and more": ">=", "or above": ">=", "and above": ">=", "and up": ">=", "or over": ">=",
    "or higher": ">=", "at least": ">=", "or less": "<=", "or fewer": "<=", "or lower": "<=", "or below": "<=",
    "at most": "<=", "times as": "*",
}  # fmt: skip
_DIRECTLY_AFTER = {
    "+": ">=",
    "plus": ">=",
    "maximum": "<=",
    "max": "<=",
    "minimum": ">=",
    "squared": "*",
    "cubed": "*",
}
_APPROXIMATE = word_set("about approximately around roughly circa just exactly only precisely")
_PRONOUN_BEFORE_ONE = word_set("no this that each every any another which other last next")
_JOINING = word_set("and or but than while whereas plus")
"""Words after which something else is named than the number's noun."""
_REACH = 3
"""Words within which a unit may follow its number, as in "20 whole grams"."""
_FACTORS = {"factor/thousand": 1_000, "factor/million": 1_000_000}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in a text with what its clause says about it.

    bound: "" for the number itself, else a sign for how the quantity differs from it. label: the word directly before.
    noun: the word directly after number and unit. words: all words after it except function words. Words are
    singular and in lower case. span: the tokens of number, unit and currency.
    """

    number: Number
    bound: str
    units: Units
    label: str
    noun: str
    words: tuple[str, ...]
    span: tuple[int, int]


def quantities_in(text: str) -> Iterator[Quantity]:
    """All quantities of a text, in order."""
    tokens = tokens_of(text)
    numbers = numbers_in(tokens)
    end = 0
    for place, number in enumerate(numbers):
        if number.first >= end and not _is_pronoun(tokens, number):
            limit = numbers[place + 1].first if place + 1 < len(numbers) else len(tokens)
            quantity = _quantity(tokens, number, limit)
            end = quantity.span[1]
            yield quantity


def true_quantity(truth: str) -> Quantity | None:
    """The quantity that a truth states: one number, with at most a unit or one other word; else None."""
    quantities = list(islice(quantities_in(truth), 2))
    if len(quantities) != 1 or quantities[0].number.value is None:
        return None
    (one,) = quantities
    others = [
        token
        for place, token in enumerate(tokens_of(truth))
        if place not in range(*one.span) and token.kind != "stop" and token.lower not in _LABEL_SIGNS
    ]
    if one.bound:
        return one
    return one if len(others) <= (0 if one.units else 1) else None


def quantities_match(truth: Quantity, text: str, question: str) -> bool:
    """Whether all quantities in a text are the true one and no word contradicts it."""
    if _opposed(truth, text):
        return False
    named = [
        one for one in quantities_in(text) if one.number.value is None or one.number.kind in _kinds(truth)
    ]
    if _is_total_of_parts(named) and all(token.lower != "or" for token in tokens_of(text)):
        named = named[:1]
    return bool(named) and all(_equal(truth, one, question) for one in named)


def _is_total_of_parts(quantities: Sequence[Quantity]) -> bool:
    """Whether the first quantity is the sum of the others, which have nouns: "3 cats: 2 black and 1 white"."""
    if len(quantities) < 3 or quantities[0].bound:
        return False
    parts = [one.number.value for one in quantities[1:] if one.words and not one.bound]
    known = [part for part in parts if part is not None]
    return len(known) == len(quantities) - 1 and quantities[0].number.value == sum(known)


def _kinds(truth: Quantity) -> tuple[str, ...]:
    """Kinds of numbers that can contradict a truth; an ordinal does not contradict a count."""
    if truth.label in _MONTHS:
        return ("", "ordinal")
    return (truth.number.kind,) if truth.number.kind else ("", "time")


def _equal(truth: Quantity, given: Quantity, question: str) -> bool:
    value, units = given.number.value, given.units
    equal_kinds = ("", "ordinal") if truth.label in _MONTHS else (truth.number.kind,)
    if value is None or given.bound != truth.bound or given.number.kind not in equal_kinds:
        return False
    if value != truth.number.value:
        multiples = [value * factor for unit, factor in _FACTORS.items() if unit in units]
        return truth.number.value in multiples and not (truth.units or truth.words or truth.label)
    if truth.units:
        if not units:
            return not given.noun
        are_degrees = all(unit.startswith("temperature/") for unit in truth.units)
        return bool(truth.units & units) or (units == {"angle/degree"} and are_degrees)
    if truth.words:
        return truth.words[0] in given.words or not (given.words or units)
    if truth.label:
        if given.label:
            return given.label == truth.label
        return not (given.noun or units) or (truth.label in _MONTHS and truth.label in given.words)
    return _fits(units, question)


def _fits(units: Units, question: str) -> bool:
    """Whether an answer may have these units where the truth has none."""
    if any(unit in _FACTORS or unit == "era/bc" for unit in units):
        return False
    if "factor/times" in units:
        return "times" in question.lower()
    if "share/percent" in units:
        return "percent" in question.lower() or "%" in question
    asked = {unit for token in tokens_of(question) if len(token.text) > 1 for unit in word_units(token.text)}
    kinds = {unit.partition("/")[0] for unit in units}
    rivals = {unit for unit in asked if unit.partition("/")[0] in kinds}
    return not rivals or bool(rivals & units)


def _opposed(truth: Quantity, text: str) -> bool:
    opposites = {_OPPOSITES.get(word) for word in (*truth.words, truth.label)} - {None}
    return bool(opposites) and any(token.lower in opposites for token in tokens_of(text))


def _quantity(tokens: Sequence[Token], number: Number, limit: int) -> Quantity:
    """The quantity of a number; limit: the first token of the next number."""
    first, last = number.first, number.last
    units: Units = frozenset()
    if first and (tokens[first - 1].kind == "sign" or tokens[first - 1].text.isupper()):
        money = frozenset(unit for unit in units_at(tokens, first - 1)[0] if unit.startswith("money/"))
        units, first = money, first - bool(money)
    suffix = tokens[last] if last < len(tokens) and tokens[last].joined else None
    after, last = _units_after(tokens, last, limit)
    units = units or after
    if suffix is not None and suffix.kind == "word":
        number, units = _with_suffix(number, suffix.text, units)
    rest = list(takewhile(lambda token: token.lower not in _JOINING, _clause(tokens[last:limit])))
    words = tuple(singular(token.text) for token in rest if token.kind == "word" and not _is_function(token))
    noun = words[0] if words and rest and not _is_function(rest[0]) else ""
    bound = _bound_before(tokens, first) or _bound_after(tokens[number.last : limit])
    label = "" if bound else _label(tokens, first)
    return Quantity(number, bound, units, label, noun, words if not bound else (), (first, last))


def _units_after(tokens: Sequence[Token], place: int, limit: int) -> tuple[Units, int]:
    """The units of the number that ends at ``place``, and the place after them if they follow directly."""
    if place >= len(tokens):
        return frozenset(), place
    preposition = tokens[place].lower == "in" and place + 1 < len(tokens) and tokens[place + 1].kind != "stop"
    units, after = (frozenset[str](), place) if preposition else units_at(tokens, place)
    if units:
        return units, after
    for token in list(_clause(tokens[place:limit]))[:_REACH]:
        if token.kind == "word" and (units := word_units(token.text)):
            return units, place
    return frozenset(), place


def _with_suffix(number: Number, suffix: str, units: Units) -> tuple[Number, Units]:
    """A number and its units, given letters joined to it: 5k is thousands, 1990s a decade, 3D a label."""
    value = number.value
    if suffix in ("k", "K"):
        return number, frozenset({"factor/thousand", "temperature/kelvin"})
    decade = suffix == "s" and value is not None and value >= 1000 and value % 10 == 0
    if decade or (not units and not number.kind and len(suffix) <= 2 and suffix.isascii()):
        return Number(None, number.first, number.last), units
    return number, units


def _clause(tokens: Sequence[Token]) -> Iterator[Token]:
    """Tokens up to the end of the clause."""
    return takewhile(lambda token: token.kind != "stop", tokens)


def _is_function(token: Token) -> bool:
    word = token.lower.removesuffix("'s").removesuffix("'re")
    return token.kind != "word" or (word in _FUNCTION_WORDS and token.text != "May")


def _label(tokens: Sequence[Token], place: int) -> str:
    """The word directly before ``place`` if it may name what is numbered, as in "Figure 2"."""
    if place > 1 and tokens[place - 1].text == "." and tokens[place - 2].lower in (*_LABEL_SIGNS, *_SHORT):
        place -= 1
    while place and tokens[place - 1].lower in _LABEL_SIGNS:
        place -= 1
    if not place or _is_function(tokens[place - 1]):
        return ""
    word = singular(tokens[place - 1].text)
    return _SHORT.get(word, word)


def _bound_before(tokens: Sequence[Token], place: int) -> str:
    while place and tokens[place - 1].lower in _APPROXIMATE:
        place -= 1
    words = [token.lower for token in tokens[max(0, place - 3) : place]]
    if words[-1:] != ["than"]:
        return _phrase(words)
    if words[0] == "no" or len(words) == 1:  # no more than
        return _phrase(words) or "~"
    return ">" if words[-2] in _GREATER else "<" if words[-2] in _LESS else "~"


def _is_pronoun(tokens: Sequence[Token], number: Number) -> bool:
    """Whether a number is the pronoun "one": "no one", "the red one", "one of them"."""
    if not tokens[number.first].worded or tokens[number.first].text != "1" or number.last - number.first > 1:
        return False
    before = tokens[number.first - 1] if number.first else None
    after = tokens[number.last] if number.last < len(tokens) else None
    if after is not None and after.lower in ("of", "another", "can", "could", "should"):
        return True
    if before is None or before.kind != "word":
        return False
    return before.lower in _PRONOUN_BEFORE_ONE or not _is_function(before)


def _phrase(words: Sequence[str]) -> str:
    return next((_BEFORE[text] for n in (3, 2, 1) if (text := " ".join(words[-n:])) in _BEFORE), "")


def _bound_after(tokens: Sequence[Token]) -> str:
    words = [token.lower for token in _clause(tokens)][: _REACH + 3]
    if words[:1] and words[0] in _DIRECTLY_AFTER:
        return _DIRECTLY_AFTER[words[0]]
    for place, pair in enumerate(pairwise(words)):
        if (sign := _AFTER.get(" ".join(pair))) and words[max(0, place - 1)] != "more":
            return sign
    return ""
