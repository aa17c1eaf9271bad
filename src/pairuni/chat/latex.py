"""LaTeX commands that JSON would read as escapes: \\theta, \\frac, \\nabla, \\beta, \\rho."""

from __future__ import annotations

import re

_COMMANDS = frozenset(
    re.findall(
        r"\w+",
        """nabla natural ncong ne nearrow neg neq newline newcommand nexists ngeq ngeqslant ngtr ni nleftarrow nleq
        nleqslant nless nmid nobreak nocite noindent nolimits nonumber norm normalsize not notag notin nparallel
        nprec nrightarrow nsim nsubseteq nsucc nsupseteq ntriangleleft ntriangleright nu num nwarrow
        raggedleft raggedright raise raisebox rangle rbrace rbrack rceil real ref renewcommand restriction rfloor
        rgroup rhd rho right rightarrow rightarrowtail rightharpoondown rightharpoonup rightleftarrows
        rightleftharpoons rightrightarrows rightsquigarrow rightthreetimes risingdotseq rm rmfamily rmoustache
        rtimes rule rvert rVert
        tabular tag tan tanh tau tbinom tcfrac text textasciitilde textbackslash textbf textcolor textdegree
        textit textmd textnormal textquotedbl textrm textsc textsf textsl textstyle textsubscript textsuperscript
        texttt textup textwidth tfrac therefore theta thetasym thickapprox thicksim thinspace tilde times tiny to
        top triangle triangledown triangleleft trianglelefteq triangleq triangleright trianglerighteq tt ttfamily
        twoheadleftarrow twoheadrightarrow""",
    )
)

_WORDS_AFTER_BREAK = frozenset({"ne", "ni", "num", "tan", "to", "top"})
"""Commands whose rest may begin a line of prose (e, an, o, op), so that the context decides."""

_LETTERS = re.compile(r"[A-Za-z]+")
_MATHS_BEFORE = re.compile(r"[$({\[^_=+*/<>|,&\\ \-\d]$")
_MATHS_AFTER = re.compile(r"\s*[\\_^{}$)=+*/<>|&\d-]")


def is_latex(body: str, place: int) -> bool:
    """Whether the backslash at ``place`` of a JSON string's body begins a command rather than an escape.

    \\b and \\f in front of a letter always do, since nobody means a backspace or a form feed. \\n, \\r and \\t do in
    front of a known command: "\\nabla" is one and "\\nnext" is a line end. Where the rest may be a word, as in
    "\\ne", the context decides.
    """
    letters = _LETTERS.match(body, place + 1)
    if letters is None or len(letters[0]) == 1:
        return False
    if letters[0][0] in "bf":
        return True
    command = letters[0]
    if command not in _COMMANDS:
        return False
    if command not in _WORDS_AFTER_BREAK:
        return True
    before, after = body[max(0, place - 1) : place], body[letters.end() : letters.end() + 8]
    inside = body.count("$", 0, place) % 2 == 1
    return inside or not before or bool(_MATHS_BEFORE.match(before) or _MATHS_AFTER.match(after))
