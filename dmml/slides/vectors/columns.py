"""Chooses the columns of a table that are features, by name or all, without stray ids, outcomes and clinical values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from dmml.errors import InputError
from dmml.slides.vectors.file_vectors import listed

_ENDPOINT = r"(os|dss|dfi|pfi|pfs|dfs|rfs|efs|ttp|lfs)"
_OUTCOME = re.compile(
    rf"{_ENDPOINT}([_ .-]*(time|event|status|state|days?|months?|years?|cr|censor\w*|\d+))*"
    r"|(t|time|event|status|label|target|class|outcome|response|y|fold|split)"
    r"|.*(surviv|censor|vital|death|deceas|died|recurren|relapse|progress|last[_ .-]?contact|follow[_ .-]?up).*"
    r"|.*(days?[_ .-]to|[_ .-]days[_ .-]to|to[_ .-](event|last)).*"
    r"|(tumou?r|new[_ .-]tumou?r)[_ .-](status|event).*|.*[_ .-](event|status)",
    re.IGNORECASE,
)
_CLINICAL = re.compile(
    r"(age|sex|gender|race|ethnicity|stage|grade|site|batch|centre|center)|age[_ .-](at|in|of|years?).*"
    r"|.*[_ .-](stage|grade|gender|race)|(p|c)?[tnm][_ .-]?stage|.*(num|number|count)[_ .-](of[_ .-])?mutations?"
    r"|.*(diagnosis|dx)[_ .-]year|year[_ .-]of.*|residual[_ .-]tumou?r|is[_ .-]female|.*birth.*",
    re.IGNORECASE,
)
_ID = re.compile(
    r"(id|index|row|unnamed: ?\d+|)|.*(patient|case|slide|sample|subject|participant|specimen|wsi|image|file|barcode)s?"
    r"([_ .-]?(id|no|nr|number|name|map|barcode|index))?|.*[_ .-]id",
    re.IGNORECASE,
)
_MIN_SHARE = 0.8
"""Share of the columns that must share an ending or a beginning before those without it are mentioned"""


def choose_columns(
    path: Path, columns: Sequence[str], wanted: Sequence[str] = (), dropped: Sequence[str] = ()
) -> list[str]:
    """Return the names of the columns that hold features.

    Args:
        path: The table, for messages.
        columns: All columns but that of the ids.
        wanted: Globs of `--columns`; if empty, all columns that are not dropped.
        dropped: Globs of `--drop`.

    Raises:
        InputError: A glob matches no column, nothing is left, a name occurs twice, or, if `wanted` is empty, a column
            looks like an outcome, a clinical value or an id.
    """
    for option, globs in (("--columns", wanted), ("--drop", dropped)):
        for glob in globs:
            if not any(_matches(name, [glob]) for name in columns):
                raise InputError(f"{path}: {option} {glob!r} matches none; its columns are {listed(columns)}")
    selected = [name for name in columns if (not wanted or _matches(name, wanted)) and not _matches(name, dropped)]
    if not selected:
        raise InputError(f"{path}: no column is left; give other --columns or --drop")
    if repeated := [name for name, count in Counter(selected).items() if count > 1]:
        raise InputError(f"{path}: several columns are called {listed(repeated)}; rename them, or --drop them")
    if not wanted:
        _check_for_other_values(path, selected)
    return selected


def _matches(name: str, globs: Sequence[str]) -> bool:
    """Whether a name equals one of the globs or matches it as a pattern: names may contain brackets."""
    return any(name == glob or fnmatchcase(name, glob.replace("[", "[[]")) for glob in globs)


def _check_for_other_values(path: Path, selected: Sequence[str]) -> None:
    """Refuse columns that look like outcomes, clinical values or ids, since the user did not name them."""
    kinds = {"outcomes": _OUTCOME, "clinical values": _CLINICAL, "ids": _ID}
    suspects = {kind: [name for name in selected if pattern.fullmatch(name.strip())] for kind, pattern in kinds.items()}
    if not any(suspects.values()):
        return
    listing = "; ".join(f"{kind}: {listed(names)}" for kind, names in suspects.items() if names)
    every = list(dict.fromkeys(name for names in suspects.values() for name in names))
    raise InputError(
        f"{path}: some columns do not look like features of tissue ({listing}); {way_out(selected, every)}, or name all "
        "columns of features with --columns"
    )


def way_out(selected: Sequence[str], unwanted: Sequence[str]) -> str:
    """Advise the options that leave columns out: a glob that all others share, if there is one, else the names."""
    others = [name for name in selected if name not in set(unwanted)]
    glob = common_glob(others)
    if glob and not any(_matches(name, [glob]) for name in unwanted):
        return f"take the others with --columns '{glob}'"
    named = " ".join(f"'{name}'" for name in unwanted[:6])
    return f"leave them out with --drop {named}{' …' if len(unwanted) > 6 else ''}"


def common_glob(names: Sequence[str]) -> str:
    """Return a glob of the ending (`_HE`) or the beginning (`feat_`) that most names share; empty if there is none."""
    if len(names) < 3:
        return ""
    endings = Counter(match[0] for name in names if (match := re.search(r"[_.\]][^_.\]]*$", name)))
    starts = Counter(match[0] for name in names if (match := re.match(r"[^\W\d]+[_.-]?(?=\d)|[^_.\[]+[_.\[]", name)))
    for counts, form in ((endings, "*{}"), (starts, "{}*")):
        if counts and counts.most_common(1)[0][1] >= _MIN_SHARE * len(names):
            return form.format(counts.most_common(1)[0][0])
    return ""


def unlike_the_others(names: Sequence[str]) -> list[str]:
    """Return the columns without the ending or beginning that most have: they may not be features."""
    glob = common_glob(names)
    return [name for name in names if not _matches(name, [glob])] if glob else []
