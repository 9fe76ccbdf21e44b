"""Recognises ordered levels by their spelling: stage, TNM, grade, performance status and the like.

Each ordering maps a word to its rank. A column is ordered if one ordering contains all of its words, so a single unknown
spelling leaves the column without order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

NOT_ASSESSED = float("nan")
"""Rank of a word that means that the patient was not assessed: `TX`, `Stage X`, `GX`, `not reported`."""
_UNKNOWN = re.compile(
    r"unknown|missing|not (known|reported|recorded|specified|assessed|assessable|available|evaluated|done)"
    r"|unspecified|undetermined|cannot be assessed|indeterminate|n/?a|\?"
)
_ROMAN = {"0": 0, "i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5}
_ROMAN_NUMBER = r"(?:iv|v|i{1,3})"
_NUMBER = rf"(?P<number>{_ROMAN_NUMBER}|[0-5])"
_SUBSTAGE = {None: 0.3, "mi": 0.05, "a": 0.2, "b": 0.4, "c": 0.6, "d": 0.8}
"""Added to the rank of a stage. No letter ranks between A and B: `Stage I` is either IA or IB."""
_DIFFERENTIATION = {"well": 1, "moderate": 2, "moderately": 2, "poor": 3, "poorly": 3}
_DEGREES = {"low": 1, "intermediate": 2, "medium": 2, "moderate": 2, "high": 3, "very low": 0, "very high": 4}
_SEVERITY = {"none": 0, "absent": 0, "minimal": 1, "mild": 2, "moderate": 3, "severe": 4}

_NOMINAL_NAME = re.compile(r"type|cluster|batch|site|arm\b|cent(?:er|re)|hospital|cohort|mutation|variant")
"""Names of columns whose numbers are only labels: `subtype` I and II, `cluster` G1 and G2."""

_STAGE = re.compile(
    # Arabic numbers are stages only after the word "stage": `C1` is an immune subtype, `1b` a genotype.
    r"(?:(?:ajcc|figo|uicc|tnm|pathologic(?:al)?|clinical|tumou?r)[ _-]*)*"
    rf"(?:(?:yp|p|c)?[ _-]?(?P<word>stage|st\.?)[ _:-]*|(?:yp|p|c)?(?={_ROMAN_NUMBER}|0$|is$|tis$|x$))"
    r"(?:(?P<between>i{1,3}|[1-3]) ?(?:/|-|or) ?(?:iv|i{2,3}|[2-4])(?: nos)?|(?P<situ>is|tis)"
    rf"|{_NUMBER}(?: ?-?(?P<letter>[abcd])(?P<digit>[1-3])?)?|(?P<x>x))"
)
_TNM = re.compile(
    r"(?:y?r?[pca]|[yrmu])* ?(?P<what>[tnm]) ?(?:(?P<situ>is)|(?P<x>x)|(?P<a>a)|(?P<number>[0-4]))"
    r"(?:(?P<letter>mi|[abcd])(?P<digit>[1-3])?)? ?(?:\((?P<note>[^)]*)\))?"
)
_HIGHEST = {"t": 4, "n": 3, "m": 1}
_GRADE = re.compile(
    r"(?:who|isup|fnclcc|nottingham|fuhrman|histologic(?:al)?|nuclear|tumou?r|grade|group|gg|g)"
    r"(?:[ _]?(?:isup|grade|group))*"
    rf"[ _:-]*(?:{_NUMBER}|(?P<x>x))(?:[ :,(–-]+(?:well|moderate|poor|undifferentiated|low|intermediate|high).*)?"
)
_GLEASON = re.compile(
    r"(?:gleason(?: score| sum| grade)?)?[ :]*(?:(?P<first>[1-5]) ?\+ ?(?P<second>[1-5])(?: ?= ?\d+)?|(?P<sum>\d+))"
)
_NUMBERED = re.compile(r"(?P<number>[0-5])(?:(?P<letter>mi|[abcd])(?P<digit>[1-3])?)?|(?P<situ>is)|(?P<x>x)")
_NUMBERED_NAME = re.compile(r"stage|stadium|figo|ajcc|uicc|grade|(?:^|[_ .-])(?:yp|p|c)?[tnm](?:$|[_ .-])")
"""Names of columns whose plain numbers are ordered levels: `stage` 1, 2a and 3, `pT` 1a and 2."""
_PERFORMANCE = re.compile(r"(?:ecog|who|zubrod)?[ _-]*(?:ps|performance status)?[ _:=-]*(?P<number>[0-5])")
_STAINING = re.compile(r"(?P<number>[0-4])\+?")
_RANGE = re.compile(
    r"(?P<below><=?|≤|up to|under|below) ?(?P<top>\d+(?:\.\d+)?)|(?P<low>\d+(?:\.\d+)?) ?(?:-|–|to) ?(?P<high>\d+(?:\.\d+)?)"
    r"|(?:(?P<above>>=?|≥|over|above) ?(?P<bottom>\d+(?:\.\d+)?))|(?P<plus>\d+(?:\.\d+)?) ?\+"
)


def find_ordering(words: Iterable[str], column: str = "") -> str | None:
    """Find the ordering that contains all words and gives them at least two different ranks.

    Args:
        words: The levels of a column.
        column: Name of the column. A name such as `subtype` or `site` means that the levels have no order, a name such
            as `stage` or `pT` that plain numbers such as `2a` are ordered levels.

    Returns:
        A key of `ORDERINGS`, or None.
    """
    if _NOMINAL_NAME.search(column.lower()):
        return None
    words = set(words)
    numbered = bool(_NUMBERED_NAME.search(column.lower()))
    for name in ORDERINGS:
        if name == "numbered" and not numbered:
            continue
        ranks = {rank_of(name, word) for word in words}
        if None not in ranks and len({rank for rank in ranks if rank == rank}) > 1:
            return name
    return None


def levels_in_order(words: Iterable[str], column: str = "", stated: Sequence[str] | None = None) -> list[str]:
    """Levels from lowest to highest, without those that mean `not assessed`; empty if they have no order.

    Args:
        words: The levels of a column.
        column: Name of the column.
        stated: Order given by the config, or None; an empty sequence means that the levels have no order.
    """
    words = set(words)
    if stated is not None:
        return [level for level in stated if level in words]
    ordering = find_ordering(words, column)
    if ordering is None:
        return []
    # The ordering contains all words, and the rank of a word that means "not assessed" is NaN, which is not equal to itself.
    ranks = {word: rank for word in sorted(words) if (rank := rank_of(ordering, word)) is not None and rank == rank}
    return sorted(ranks, key=ranks.__getitem__)


def rank_of(ordering: str, word: str) -> float | None:
    """Rank of a word in an ordering; NaN if it means that the patient was not assessed, None if the ordering lacks it.

    Args:
        ordering: A key of `ORDERINGS`.
        word: The word, in upper or lower case.
    """
    word = re.sub(r"\s+", " ", word.strip().lower()).strip("[]. ")
    return NOT_ASSESSED if _UNKNOWN.fullmatch(word) else ORDERINGS[ordering](word)


def is_not_assessed(word: str) -> bool:
    """Whether a word means in any ordering that the patient was not assessed: `Unknown`, `Stage X`, `TX`."""
    ranks = (rank_of(ordering, word) for ordering in ORDERINGS)
    return any(rank is not None and rank != rank for rank in ranks)


def _stage(word: str) -> float | None:
    """Rank a stage: `I`, `Stage IIIA`, `IA2`, `pathologic stage 2b`, `Stage 0`, `Stage X`, `I/II NOS`."""
    match = _STAGE.fullmatch(word)
    if match is None:
        return _stage_range(word)
    if match["x"]:
        return NOT_ASSESSED
    if match["between"]:
        return _number(match["between"]) + 0.95
    number = 0.5 if match["situ"] else _number(match["number"])
    return number + _substage(match) if number >= 1 else number


def _stage_range(word: str) -> float | None:
    """Rank a range of stages by its midpoint: `IA-IIIA`, `Stage IIB or IIIA`."""
    ends = re.split(r" ?(?:/|-|–| or | to ) ?", word)
    if len(ends) != 2:
        return None
    first, last = map(_stage, ends)
    return None if first is None or last is None else (first + last) / 2


def _tnm(what: str) -> Callable[[str], float | None]:
    """Make the ranking of T, N or M categories: `pT2a`, `T1mi`, `Tis`, `N0 (i-)`, `N1mi`, `cM0 (i+)`, `MX`."""

    def rank(word: str) -> float | None:
        match = _TNM.fullmatch(word)
        if match is None or match["what"] != what:
            return None
        if match["x"]:
            return NOT_ASSESSED
        if match["situ"] or match["a"]:  # carcinoma in situ; non-invasive papillary carcinoma of the bladder
            return (0.5 if match["situ"] else 0.4) if what == "t" else None
        number = int(match["number"])
        if number > _HIGHEST[what]:
            return None
        # Isolated tumor cells in a node or in the marrow rank between no metastasis and a metastasis.
        isolated = 0.1 if number == 0 and "+" in (match["note"] or "") else 0.0
        return number + isolated + (_substage(match) if number else 0.0)

    return rank


def _numbered(word: str) -> float | None:
    """Rank plain numbers (`1`, `2a`, `is`, `x`) of a column such as `stage` or `pT`, mixed with `Stage III` or `T3`."""
    match = _NUMBERED.fullmatch(word)
    if match is None:
        ranks = (_stage(word), *(rank(word) for rank in map(_tnm, "tnm")), _grade(word))
        return next((rank for rank in ranks if rank is not None), None)
    if match["x"]:
        return NOT_ASSESSED
    return 0.5 if match["situ"] else _number(match["number"]) + _substage(match)


def _grade(word: str) -> float | None:
    """Rank a grade: `G2`, `Grade III`, `ISUP 4`, `G3: poorly differentiated`, `GX`, `GB` (borderline ovarian tumor)."""
    if word == "gb":
        return 0.5
    match = _GRADE.fullmatch(word)
    if match is None:
        return None
    return NOT_ASSESSED if match["x"] else _number(match["number"])


def _differentiation(word: str) -> float | None:
    """Rank a differentiation: `well`, `Moderately differentiated`, `moderate to poor`, `undifferentiated`."""
    word = word.removesuffix("differentiated").rstrip(" -")
    if word in ("un", "undifferentiated", "anaplastic", "undifferentiated/anaplastic", "undifferentiated; anaplastic"):
        return 4.0
    degrees = re.split(r" ?(?:-|/| to | and ) ?", word)
    ranks = [_DIFFERENTIATION[degree] for degree in degrees if degree in _DIFFERENTIATION]
    return sum(ranks) / len(ranks) if len(ranks) == len(degrees) else None


def _degree(names: Mapping[str, int]) -> Callable[[str], float | None]:
    """Make the ranking of a list of degrees: `Low`, `high grade`, `Intermediate risk`, or `mild`, `severe`."""

    def rank(word: str) -> float | None:
        return names.get(re.sub(r"[ _-]*(grade|risk|level|degree)$", "", word).replace("_", " "))

    return rank


def _gleason(word: str) -> float | None:
    """Rank a Gleason score by its sum, 4+3 above 3+4: `3+4`, `Gleason 4+3=7`, `Gleason score 8`."""
    match = _GLEASON.fullmatch(word)
    if match is None:
        return None
    if match["sum"]:
        total = int(match["sum"])
        return (7.25 if total == 7 else float(total)) if 2 <= total <= 10 else None
    total = int(match["first"]) + int(match["second"])
    return 7.5 if total == 7 and match["first"] == "4" else float(total)


def _plain_number(pattern: re.Pattern[str]) -> Callable[[str], float | None]:
    """Make the ranking of words that differ in one number only."""

    def rank(word: str) -> float | None:
        match = pattern.fullmatch(word)
        return None if match is None else float(match["number"])

    return rank


def _range(word: str) -> float | None:
    """Rank a range of numbers by its lower bound: `<50`, `50-59`, `≥ 70`, `70+`."""
    match = _RANGE.fullmatch(word)
    if match is None:
        return None
    if match["below"]:
        return float(match["top"]) - 0.5  # ranks before the range that starts at this bound
    if match["low"] and float(match["low"]) >= float(match["high"]):
        return None
    return float(match["low"] or match["bottom"] or match["plus"])


def _number(text: str) -> float:
    return float(_ROMAN[text] if text in _ROMAN else text)


def _substage(match: re.Match[str]) -> float:
    return _SUBSTAGE[match["letter"]] + 0.05 * int(match["digit"] or 0)


ORDERINGS: dict[str, Callable[[str], float | None]] = {
    "stage": _stage,
    "T": _tnm("t"),
    "N": _tnm("n"),
    "M": _tnm("m"),
    "grade": _grade,
    "differentiation": _differentiation,
    "degree": _degree(_DEGREES),
    "severity": _degree(_SEVERITY),
    "Gleason": _gleason,
    "performance status": _plain_number(_PERFORMANCE),
    "staining": _plain_number(_STAINING),
    "range": _range,
    "numbered": _numbered,
}
"""{name: function from a word in lower case to its rank, or None if the ordering has no such level}."""
