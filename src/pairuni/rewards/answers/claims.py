"""What a reply claims: the answer that it states, and what remains without its denials."""

from __future__ import annotations

import re

_DENIALS = (
    r"not|never|neither|nor|without|except|cannot|unlike|hardly|unlikely|impossible|doubt|"
    r"\w+n't|(?:is|are|was|were|do|does|did|has|have|can|could|would|should|wo)nt|"
    r"(?:anything|everything|nothing|all) but|none of|no longer|(?:other|rather) than|instead of|as opposed to|"
    r"rul(?:e|es|ed|ing) out|exclud\w+|eliminat\w+|reject\w*|discard\w*|den(?:y|ies|ied)"
)
_FALSE = (
    r"wrong|incorrect|false|untrue|impossible|unlikely|ruled out|excluded|eliminated|rejected|"
    r"too (?:many|few|much|little|high|low|large|small|big|long|short)|(?:a |the )?(?:common )?distractors?"
)
DENIAL = re.compile(rf"\b(?:{_DENIALS})\b|不是|并非|不可能|不应|不选|排除", re.I)
DENIAL_OR_FALSE = re.compile(rf"\b(?:{_DENIALS}|{_FALSE})\b", re.I)
"""A denial, or a word that calls something false."""
QUALIFIER = re.compile(
    r"\b(?:or|either|if|unless|nothing|none|nobody|no|wrong|incorrect|false|opposite|everything|"
    r"maybe|perhaps|possibly)\b"
)
"""A word that keeps an introduction, such as "nothing is", from introducing an answer."""

_CALLED_FALSE = re.compile(
    rf"(?:\b(?:is|are|was|were|be|been|seems?|looks?)|'s)\s+(?:\w+\s+)?(?:{_FALSE})\b"  # B is wrong, B's clearly false
    r"|\b(?:wrong|incorrect|false|worst)\s+(?:answer|option|choice|one)\b",  # B, the wrong answer
    re.I,
)
_LETTER_OR_NUMBER_SUBJECT = re.compile(
    r"\W*(?:(?:the|option|answer|choice|letter|number)\s+)*"  # the answer ...
    r"(?:\(?[A-Z]\)?|-?\d[\d.]*)"  # ... A, (A) or 3
    r"(?:\W+(?:(?:and|or|nor)\W+)?(?:[A-Z]|\d+)\b)*"  # ... and B
    r"\s+(?:(?:is|are|was|does|do|did|can|could|has|have|would|will)\s+)?\Z"  # ... is [denied]
)
"""The beginning of a clause that is about a letter or a number: "A is", "The answer B does"."""
_FALSE_HEAD = re.compile(r"\b(?:wrong|incorrect|false|worst|least|rejected|excluded)\b", re.I)
_NO_DENIAL = re.compile(
    r"\b(?:(?:there is )?(?:no|without(?: a| any)?|beyond(?: a| any)?) doubt\b(?: that)?"  # no doubt that
    r"|not only|none other than"
    r"|nothing (?:but|other than))\b",
    re.I,
)
"""Idioms with a word of denial that deny nothing."""
_QUESTION_AND_NO = re.compile(r"[^.!?;\n]{1,200}\?\s{0,5}(?:no|nope|nah|wrong|not really)\b", re.I)
_CLAUSE_END = re.compile(
    r"[,;\n。；，]"
    r"|[.!?](?=\s|$)"
    r"|(?<!\ball )(?<!\wthing )\bbut\b",  # but not "all but", "anything but"
    re.I,
)

_COPULA = (
    r"\b(?:is|are|was)\b"
    r"|\b(?:would|could|can|might|may|must|should|has to|have to|seems to|appears to)\s+be\b"
)
_STATEMENT = re.compile(
    r"\b(?:answers?|(?<!each )(?<!every )(?:option|choice))\b"  # answer, option, choice
    r"(?!\s+(?:\(?[a-z]\)?(?![a-z])|choices|options))"  # but not "option A", "answer choices"
    r"(?:\s+\w+){0,3}?"  # to the question
    rf"\s*+(?:(?:{_COPULA})\s*+:?|[:=])"  # is, must be, ":", "="
    r"\s*+(?=\S)",
    re.I,
)
_NAMED_CORRECT = re.compile(
    r"\s(?:is|must be|would be|should be)\s+"
    r"(?:(?:the|clearly|indeed|most likely)\s+){0,2}"
    r"(?:(?:(?:correct|right|best)\s+)?(?:answer|option|choice|letter)\b"  # the (correct) answer
    r"|(?:correct|right|best)(?:\s+one)?(?=\s*(?:[.,;!]|$)))",  # correct. / the best one.
    re.I,
)
_SUPPOSED = re.compile(r"\A\W*(?:or|and)\b|\b(?:if|whether|why|unless|suppose|assuming)\b", re.I)
_CONTINUES = re.compile(r"\W*(?:or|and|but|maybe|perhaps|also|as well|wait|no|actually|possibly)\b", re.I)
_CONCLUSION = re.compile(
    r"(?:\A|(?<=[.;,!?\n])\s{1,3}|(?<=\n))(?:and\s+)?"  # at the start of a clause
    r"(?:so(?!\s+(?:many|much|far|that|on|long))|therefore|thus|hence|in conclusion|in total|altogether)\b[\s,:]*"
    r"|(?:所以|因此)[，,]?",
    re.I,
)
_SENTENCE_END = re.compile(r"(?<!\b[ap]\.m)[.!?](?=[\s*]|$)", re.I)  # but not "5 a.m."
RETRACTING = (
    "or|no|wait|actually|sorry|hmm|alternatively|maybe|perhaps|possibly|on (?:second thoughts?|reflection)|hold on|"
    "correction|scratch that|oops|my mistake|i meant?|let me correct"
)
"""First words of a sentence that takes an answer back, as alternatives of a regular expression."""
_RETRACTION = re.compile(
    rf"[.!?]\W*(?:(?:{RETRACTING}|but|and)"  # . Wait, ...
    r"|[A-Z]\b[^\n.!?]*\b(?:also|equally|as well|too|possible))\b"  # . B is also possible
    r"[^\n]*",
    re.I,
)
_EXPLANATION = re.compile(
    r"\W*(?:explanation|reason|reasoning|rationale|because|note|justification|analysis|here|this|the|since|as)\b",
    re.I,
)
_ENDS_WITH_OR = re.compile(r"\bor\s*\Z", re.I)
_MAX_CLAUSE = 200
_MAX_STATEMENT = 1000


def undenied(text: str) -> str:
    """A text without its denials, each to the end of its clause: "It is not A, but B" -> "It is , but B".

    A clause about a letter or a number that denies it is removed entirely: "A is incorrect, B is right" ->
    ", B is right".
    """
    text = _QUESTION_AND_NO.sub(" ", _NO_DENIAL.sub(" ", text.replace("’", "'")))
    kept = []
    place = 0
    for end in [*_CLAUSE_END.finditer(text), None]:
        clause = text[place : end.start() if end else len(text)]
        if _CALLED_FALSE.search(clause):
            clause = " "
        elif denial := DENIAL.search(clause):
            claim = clause[: denial.start()]
            removed = len(claim) < _MAX_CLAUSE and (
                _LETTER_OR_NUMBER_SUBJECT.match(claim) or _ENDS_WITH_OR.search(claim)
            )
            clause = " " if removed else claim + " "
        kept.append(clause + (end[0] if end else ""))
        place = end.end() if end else place
    return "".join(kept)


def statements(text: str) -> list[str]:
    """What follows each "the answer is ...", to the end of its sentence, unless the clause itself denies it.

    A next sentence that takes it back ("Or B.", "Wait, ...") belongs to the statement.
    """
    found = []
    place = 0
    for match in _STATEMENT.finditer(text):
        if match.start() < place:
            continue
        before = text[max(0, match.start() - _MAX_CLAUSE) : match.start()]
        head = _CLAUSE_END.split(before)[-1] + match[0]
        if DENIAL.search(head) or _FALSE_HEAD.search(head):
            continue
        statement = text[match.end() : match.end() + _MAX_STATEMENT].partition("\n")[0]
        if end := _SENTENCE_END.search(statement):
            retraction = _RETRACTION.match(statement, end.start())
            statement = statement[: end.start()] + (retraction[0] if retraction else "")
        place = match.end() + len(statement)
        if statement.strip():
            found.append(statement)
    return found


def named_correct(text: str) -> list[str]:
    """The clause before each "... is the correct answer", unless it is denied or supposed."""
    found = []
    for match in _NAMED_CORRECT.finditer(text):
        clause = _CLAUSE_END.split(text[max(0, match.start() - _MAX_CLAUSE) : match.start()])[-1]
        rest = text[match.end() : match.end() + _MAX_CLAUSE].partition("\n")[0]
        if not DENIAL_OR_FALSE.search(clause) and not _SUPPOSED.search(clause):
            found.append(clause + (undenied(rest) if _CONTINUES.match(rest) else ""))
    return found


def stated(text: str) -> str:
    """The statements of a text, or the text itself if it has none."""
    return "\n".join(statements(text)) or text


def concluded(text: str) -> str | None:
    """All that follows the first "so", "therefore" or "in total", further conclusions included.

    None if the text has no conclusion, or a statement, which takes precedence.
    """
    found = _CONCLUSION.search(text)
    return text[found.end() :].strip() if found and not statements(text) else None


def first_line(text: str) -> str | None:
    """The first line of an answer that an explanation follows; None if later lines may answer as well."""
    first, _, rest = text.strip().partition("\n")
    if not rest.strip() or statements(rest):
        return None
    is_apart = rest.startswith(("\n", " \n", "\r\n")) and len(rest.split(maxsplit=4)) > 4
    explains = is_apart or _EXPLANATION.match(rest)
    return first.strip() if explains and not _RETRACTION.match("." + rest) else None
