"""Interprets words in values and column names: whether they mean that an event happened or that it did not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

CODED = re.compile(r"([01])\s*:\s*(.*)")
"""A code followed by its meaning, such as `1:DECEASED` from cBioPortal."""

_HAPPENED = r"events?|deaths?|dead|died|deceased|relaps[a-z]*|recur[a-z]*|progress[a-z]*|metastas[ei]s|failed|failures?"
# `cens` alone must end the word, so that `census` does not match; `licensor` must not match either.
_CENSORED = r"(?<!li)cens(?:or[a-z]*|ur[a-z]*|d?(?![a-z]))"
_ALIVE = r"(?<![a-z])(?:alive|living|surviv(?:ed|ors?))(?![a-z])"
_LOST = r"lost[\W_]*to[\W_]*f(?:ollow|u)[a-z]*(?:[\W_]*up)?"
_WORD = re.compile(rf"(?P<happened>{_HAPPENED}|vital|disease(?=[\W_]*free))|{_CENSORED}|{_ALIVE}|{_LOST}")
_FREE = re.compile(r"[\W_]*(?:free|less)(?![a-z])")
_NEGATION = re.compile(
    r"(?:un|non|not|(?:(?<![a-z])(?:un|no|non|not|never|without)(?:[\W_]+(?:yet|been|a|an|any))?[\W_]+))$"
)
_ENDPOINT = re.compile(
    r"os|pfs|dss|pfi|dfs|rfs|dfi|efs|(?:overall[\W_]*)?(?:os|survival)[\W_]*(?:status|code|indicator)"
)
_CODE_IN_NAME = re.compile(r"(?<![\w.])([01])\s*(?:=|:)\s*([a-z][a-z ]*)|(?<![a-z\d.])([01])([a-z]{3,})")
_CODE_BEHIND = re.compile(r"([a-z][a-z ]*?)\s*(?:=|:)\s*([01])(?![\d\s]*[=:.])")
_WHOLE = re.compile(
    rf"(?:(?:un|no|non|not)[\W_]*)?(?:{_HAPPENED}|censored|alive|living|{_LOST})|(?:disease|event|progression|relapse|recurrence)[\W_]*free"
)


def meaning_of_text(text: str) -> bool | None:
    """Whether a text says that the event happened; None if it says neither or both, as `ALIVE OR DEAD TUMOR FREE` does.

    A negation reverses the meaning of a word: `uncensored`, `not dead`, `progression free`.
    """
    return _only_one(_meanings(text, read_free=True))


def meaning_of_word(text: str) -> bool | None:
    """The same as `meaning_of_text`, but None unless the text is only such a word, so that it can stand for 1 or 0."""
    return meaning_of_text(text) if _WHOLE.fullmatch(_lower(text.strip())) else None


def is_about_censoring(text: str) -> bool:
    """Whether a text contains a word such as `censored` or `uncensored`."""
    return re.search(_CENSORED, _lower(text)) is not None


def is_about_life(text: str) -> bool:
    """Whether a text contains a word such as `alive`."""
    return re.search(_ALIVE, _lower(text)) is not None


def meaning_of_name(name: str) -> bool | None:
    """Meaning of 1 in a column of this name: True = the event happened, False = censored or alive, None = unclear.

    Codes that the name spells out count first (`status (0=dead, 1=alive)`). A name with words for both, such as
    `death_censored`, is unclear, and so is a name such as `progression_free_status`, which is used with both meanings.
    """
    text = _lower(name)
    codes = [(match[1] or match[3], match[2] or match[4]) for match in _CODE_IN_NAME.finditer(text)]
    codes += [(match[2], match[1]) for match in _CODE_BEHIND.finditer(text)]
    of_1 = _only_one((code == "1") == meaning for code, word in codes if (meaning := meaning_of_text(word)) is not None)
    if of_1 is not None:
        return of_1
    if _ENDPOINT.fullmatch(text.strip()):
        return True
    return _only_one(_meanings(name, read_free=False))


def _only_one(meanings: Iterable[bool]) -> bool | None:
    """The meaning on which all agree; None if there is none or they differ."""
    unique = set(meanings)
    return unique.pop() if len(unique) == 1 else None


def _meanings(text: str, read_free: bool) -> Iterator[bool]:
    """Meaning of each relevant word of a text, after negations: True = the event happened, False = it did not.

    Args:
        text: The text.
        read_free: Whether `free` reverses a word (`progression free`) even if more text follows.
    """
    text = _lower(text)
    for match in _WORD.finditer(text):
        happened = match["happened"] is not None
        before = text[: match.start()]
        while negation := _NEGATION.search(before):
            happened, before = not happened, before[: negation.start()]
        if _FREE.match(text, match.end()):
            if not read_free and _FREE.sub("", text[match.end() :], count=1).strip():
                continue
            happened = not happened
        elif match[0].startswith("disease"):
            continue
        yield happened


def _lower(text: str) -> str:
    """Convert to lower case and split camel case: `notCensored` becomes `not censored`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()
