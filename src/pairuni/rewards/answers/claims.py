"""What an answer claims: its statement, its first line, and what is left when its denials are taken away."""

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
DENYING = re.compile(rf"\b(?:{_DENIALS}|{_FALSE})\b", re.I)
"""What denies something, or calls it false."""
_CALLED_FALSE = re.compile(
    rf"(?:\b(?:is|are|was|were|be|been|seems?|looks?)|'s)\s+(?:\w+\s+)?(?:{_FALSE})\b|"
    r"\b(?:wrong|incorrect|false|worst)\s+(?:answer|option|choice|one)\b",
    re.I,
)
_SUBJECT = re.compile(
    r"\W*(?:(?:the|option|answer|choice|letter|number)\s+)*(?:\(?[A-Z]\)?|-?\d[\d.]*)(?:\W+(?:(?:and|or|nor)\W+)?(?:[A-Z]|\d+)\b)*"
    r"\s+(?:(?:is|are|was|does|do|did|can|could|has|have|would|will)\s+)?\Z"
)
_FALSE_HEAD = re.compile(r"\b(?:wrong|incorrect|false|worst|least|rejected|excluded)\b", re.I)
_IDIOM = re.compile(
    r"\b(?:(?:there is )?(?:no|without(?: a| any)?|beyond(?: a| any)?) doubt\b(?: that)?|not only|none other than|"
    r"nothing (?:but|other than))\b",
    re.I,
)
_ASKED_AND_DENIED = re.compile(r"[^.!?;\n]{1,200}\?\s{0,5}(?:no|nope|nah|wrong|not really)\b", re.I)
_CLAUSE_END = re.compile(r"[,;\n。；，]|[.!?](?=\s|$)|(?<!\ball )(?<!\wthing )\bbut\b", re.I)

_COPULA = r"\b(?:is|are|was)\b|\b(?:would|could|can|might|may|must|should|has to|have to|seems to|appears to)\s+be\b"
_STATEMENT = re.compile(
    r"\b(?:answers?|(?<!each )(?<!every )(?:option|choice))\b(?!\s+(?:\(?[a-z]\)?(?![a-z])|choices|options))"
    rf"(?:\s+\w+){{0,3}}?\s*+(?:(?:{_COPULA})\s*+:?|[:=])\s*+(?=\S)",
    re.I,
)
_NAMED_CORRECT = re.compile(
    r"\s(?:is|must be|would be|should be)\s+(?:(?:the|clearly|indeed|most likely)\s+){0,2}"
    r"(?:(?:(?:correct|right|best)\s+)?(?:answer|option|choice|letter)\b|(?:correct|right|best)(?:\s+one)?(?=\s*(?:[.,;!]|$)))",
    re.I,
)
_SUPPOSED = re.compile(r"\A\W*(?:or|and)\b|\b(?:if|whether|why|unless|suppose|assuming)\b", re.I)
_GOES_ON = re.compile(r"\W*(?:or|and|but|maybe|perhaps|also|as well|wait|no|actually|possibly)\b", re.I)
_CONCLUSION = re.compile(
    r"(?:\A|(?<=[.;,!?\n])\s{1,3}|(?<=\n))(?:and\s+)?"
    r"(?:so(?!\s+(?:many|much|far|that|on|long))|therefore|thus|hence|in conclusion|in total|altogether)\b[\s,:]*"
    r"|(?:所以|因此)[，,]?",
    re.I,
)
_SENTENCE_END = re.compile(r"(?<!\b[ap]\.m)[.!?](?=[\s*]|$)", re.I)
TURNING = (
    "or|no|wait|actually|sorry|hmm|alternatively|maybe|perhaps|possibly|on (?:second thoughts?|reflection)|hold on|"
    "correction|scratch that|oops|my mistake|i meant?|let me correct"
)
"""What a sentence that takes an answer back begins with, as alternatives of a regular expression."""
_TURN = re.compile(
    rf"[.!?]\W*(?:(?:{TURNING}|but|and)|"
    r"[A-Z]\b[^\n.!?]*\b(?:also|equally|as well|too|possible))\b[^\n]*",
    re.I,
)
_EXPLAINS = re.compile(
    r"\W*(?:explanation|reason|reasoning|rationale|because|note|justification|analysis|here|this|the|since|as)\b",
    re.I,
)
_OR = re.compile(r"\bor\s*\Z", re.I)
_LONGEST_CLAUSE = 200
_LONGEST_STATEMENT = 1000


def undenied(text: str) -> str:
    """A text without what it denies, each to the end of its clause: "It is not A, but B" -> "It is , but B"; a clause
    that is about a letter or a number and denies it goes as a whole: "A is incorrect, B is right" -> ", B is right"."""
    text = _ASKED_AND_DENIED.sub(" ", _IDIOM.sub(" ", text.replace("’", "'")))
    kept = []
    place = 0
    for end in [*_CLAUSE_END.finditer(text), None]:
        clause = text[place : end.start() if end else len(text)]
        if _CALLED_FALSE.search(clause):
            clause = " "
        elif denial := DENIAL.search(clause):
            claim = clause[: denial.start()]
            undone = len(claim) < _LONGEST_CLAUSE and (_SUBJECT.match(claim) or _OR.search(claim))
            clause = " " if undone else claim + " "
        kept.append(clause + (end[0] if end else ""))
        place = end.end() if end else place
    return "".join(kept)


def statements(text: str) -> list[str]:
    """What follows each "the answer is ...", to the end of its sentence; none that the clause itself denies.

    A sentence behind it that takes it back ("Or B.", "Wait, ...") belongs to it.
    """
    found = []
    place = 0
    for match in _STATEMENT.finditer(text):
        if match.start() < place:
            continue
        before = text[max(0, match.start() - _LONGEST_CLAUSE) : match.start()]
        head = _CLAUSE_END.split(before)[-1] + match[0]
        if DENIAL.search(head) or _FALSE_HEAD.search(head):
            continue
        said = text[match.end() : match.end() + _LONGEST_STATEMENT].partition("\n")[0]
        if end := _SENTENCE_END.search(said):
            turn = _TURN.match(said, end.start())
            said = said[: end.start()] + (turn[0] if turn else "")
        place = match.end() + len(said)
        if said.strip():
            found.append(said)
    return found


def named_correct(text: str) -> list[str]:
    """What each "... is the correct answer" names, without those that are denied or supposed."""
    found = []
    for match in _NAMED_CORRECT.finditer(text):
        clause = _CLAUSE_END.split(text[max(0, match.start() - _LONGEST_CLAUSE) : match.start()])[-1]
        behind = text[match.end() : match.end() + _LONGEST_CLAUSE].partition("\n")[0]
        if not DENYING.search(clause) and not _SUPPOSED.search(clause):
            found.append(clause + (undenied(behind) if _GOES_ON.match(behind) else ""))
    return found


def concluded(text: str) -> str | None:
    """All that follows the first "so", "therefore" or "in total"; None where the text has none, or a statement, which
    outranks it. Of two conclusions, both are claimed."""
    found = _CONCLUSION.search(text)
    return text[found.end() :].strip() if found and not statements(text) else None


def stated(text: str) -> str:
    """What a text states as the answer, or the text itself when it states nothing."""
    return "\n".join(statements(text)) or text


def first_line(text: str) -> str | None:
    """The first line of an answer that is followed by an explanation; None when other lines may answer as well."""
    first, _, rest = text.strip().partition("\n")
    if not rest.strip() or statements(rest):
        return None
    apart = rest.startswith(("\n", " \n", "\r\n")) and len(rest.split(maxsplit=4)) > 4
    explains = apart or _EXPLAINS.match(rest)
    return first.strip() if explains and not _TURN.match("." + rest) else None
