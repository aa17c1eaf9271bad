"""Units of quantities: the symbols and words of each unit, and the kind of quantity that it measures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pairuni.rewards.answers.tokens import Token

_PREFIXES = {
    "": "", "n": "nano", "μ": "micro", "u": "micro", "m": "milli", "c": "centi", "d": "deci", "k": "kilo",
    "M": "mega", "G": "giga", "T": "tera",
}  # fmt: skip
_METRIC = {
    # symbol: (kind, words)
    "m": ("length", "metre meter"),
    "g": ("mass", "gram gramme"),
    "s": ("time", "second sec"),
    "L": ("volume", "litre liter"),
    "N": ("force", "newton"),
    "J": ("energy", "joule"),
    "W": ("power", "watt"),
    "V": ("voltage", "volt"),
    "A": ("current", "ampere amp"),
    "Hz": ("frequency", "hertz"),
    "Pa": ("pressure", "pascal"),
    "Ω": ("resistance", "ohm"),
    "F": ("capacitance", "farad"),
    "C": ("charge", "coulomb"),
    "T": ("flux density", "tesla"),
    "H": ("inductance", "henry"),
    "mol": ("amount", "mole"),
    "eV": ("energy", "electronvolt"),
    "cal": ("energy", "calorie"),
    "Wh": ("energy", "watthour"),
    "B": ("data", "byte"),
    "b": ("data", "bit"),
    "bar": ("pressure", "bar"),
    "lm": ("light", "lumen"),
}
"""Units that take metric prefixes."""
_OTHER = {
    # kind/name: (symbols, words)
    "length/inch": ("in", "inch inches"),
    "length/foot": ("ft", "foot feet"),
    "length/yard": ("yd", "yard"),
    "length/mile": ("mi", "mile"),
    "mass/pound": ("lb lbs", "pound"),
    "mass/ounce": ("oz", "ounce"),
    "mass/tonne": ("t", "tonne ton"),
    "mass/stone": ("", "stone"),
    "time/minute": ("min", "minute mins"),
    "time/hour": ("h hr hrs", "hour"),
    "time/day": ("d", "day"),
    "time/week": ("wk wks", "week"),
    "time/month": ("", "month"),
    "time/year": ("yr yrs", "year"),
    "time/decade": ("", "decade"),
    "time/century": ("", "century centuries"),
    "half/am": ("am AM a.m. A.M. a.m A.M", "morning"),
    "half/pm": ("pm PM p.m. P.M. p.m P.M", "afternoon evening"),
    "era/ad": ("AD CE", ""),
    "era/bc": ("BC BCE", ""),
    "area/acre": ("", "acre"),
    "area/hectare": ("ha", "hectare"),
    "volume/gallon": ("gal", "gallon"),
    "volume/pint": ("pt", "pint"),
    "volume/quart": ("qt", "quart"),
    "volume/cup": ("", "cup"),
    "volume/tablespoon": ("tbsp", "tablespoon"),
    "volume/teaspoon": ("tsp", "teaspoon"),
    "temperature/celsius": ("C", "celsius centigrade"),
    "temperature/fahrenheit": ("F", "fahrenheit"),
    "temperature/kelvin": ("K", "kelvin"),
    "angle/degree": ("°", "degree deg"),
    "angle/radian": ("rad", "radian"),
    "share/percent": ("%", "percent pct"),
    "money/dollar": ("$ USD", "dollar usd buck"),
    "money/euro": ("€ EUR", "euro eur"),
    "money/pound": ("£ GBP", "pound gbp quid"),
    "money/yen": ("¥ JPY", "yen jpy"),
    "money/yuan": ("¥ CNY RMB", "yuan rmb cny"),
    "money/rupee": ("₹ INR", "rupee inr"),
    "money/won": ("₩ KRW", "won krw"),
    "money/cent": ("¢", "cent"),
    "length/mile per time/hour": ("mph", ""),
    "length/km per time/hour": ("kph kmh kmph", ""),
    "rotation/rpm": ("rpm", ""),
    "rate/fps": ("fps", ""),
    "level/decibel": ("dB", "decibel"),
    "length/pixel": ("px", "pixel"),
    "factor/thousand": ("k", ""),
    "factor/million": ("M", ""),
    "factor/times": ("x", ""),
}
_POWERS = {"square": "2", "sq": "2", "squared": "2", "cubic": "3", "cu": "3", "cubed": "3"}

Units = frozenset[str]
"""The units that a word or symbol may mean, as kind/name: "pound" is mass/pound or money/pound."""


def _tables() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    symbols: dict[str, set[str]] = defaultdict(set)
    words: dict[str, set[str]] = defaultdict(set)
    for symbol, (kind, named) in _METRIC.items():
        for short, long in _PREFIXES.items():
            unit = f"{kind}/{short.replace('u', 'μ')}{symbol}"
            symbols[short + symbol].add(unit)
            for word in named.split():
                words[long + word].add(unit)
    for short in _PREFIXES:
        symbols[f"{short}l"].add(f"volume/{short.replace('u', 'μ')}L")
    words["kilo"].add("mass/kg")
    for unit, (short_names, named) in _OTHER.items():
        for symbol in short_names.split():
            symbols[symbol].add(unit)
        for word in named.split():
            words[word].add(unit)
    return symbols, words


_SYMBOLS, _WORDS = _tables()
_ANY_CASE: dict[str, set[str]] = defaultdict(set)
for _symbol, _units in _SYMBOLS.items():
    _ANY_CASE[_symbol.lower()] |= _units


def singular(word: str) -> str:
    """A word in lower case without its plural ending."""
    word = word.lower()
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 2 else word


def word_units(word: str) -> Units:
    """The units that a word may mean; symbols are not words."""
    return frozenset(_WORDS.get(word.lower(), ()) or _WORDS.get(singular(word), ()))


def units_at(tokens: Sequence[Token], place: int) -> tuple[Units, int]:
    """The units that the tokens from ``place`` on may mean, and the place after them; no units if they are none.

    Case distinguishes symbols (mW, MW); a symbol in the wrong case (KG) may mean any of them.
    """
    units, place = _with_power(tokens, place)
    if units and place + 1 < len(tokens) and tokens[place].lower in ("/", "per"):
        per, after = _with_power(tokens, place + 1)
        if per:
            return frozenset(f"{unit} per {one}" for unit in units for one in per), after
    return units, place


def _with_power(tokens: Sequence[Token], place: int) -> tuple[Units, int]:
    power = _POWERS.get(tokens[place].lower, "") if place + 1 < len(tokens) else ""
    units, place = _one_unit(tokens, place + bool(power))
    if not units:
        return units, place
    if place < len(tokens) and tokens[place].lower in ("squared", "cubed"):
        power, place = _POWERS[tokens[place].lower], place + 1
    elif [token.text for token in tokens[place : place + 2]] in (["^", "2"], ["^", "3"]):
        power, place = tokens[place + 1].text, place + 2
    return frozenset(unit + power for unit in units), place


def _one_unit(tokens: Sequence[Token], place: int) -> tuple[Units, int]:
    token = tokens[place]
    if token.kind == "label" and token.text[-1] in "23" and token.text[:-1].isalpha():
        bare = _named(token.text[:-1])
        return frozenset(unit + token.text[-1] for unit in bare), place + 1
    if token.kind not in ("word", "sign"):
        return frozenset(), place
    units = _named(token.text)
    after = tokens[place + 1] if place + 1 < len(tokens) else None
    if after is not None and "angle/degree" in units:
        scale = frozenset(unit for unit in _named(after.text) if unit.startswith("temperature/"))
        if scale:
            return scale, place + 2
    if after is not None and token.lower == "per" and after.lower == "cent":
        return frozenset({"share/percent"}), place + 2
    return units, place + 1


def _named(text: str) -> Units:
    if text == "US":
        return frozenset()
    exact = _SYMBOLS.get(text)
    if exact or len(text) == 1:
        return frozenset(exact or ())
    return word_units(text) or frozenset(_ANY_CASE.get(text.lower(), ()))
