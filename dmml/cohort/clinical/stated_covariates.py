"""Parses the `covariates` option of a config: the names of clinical covariates and the order of their levels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dmml.errors import InputError

_FORM = "give a column's name, {name: stage, levels: [I, II, III]}, or {name: code, ordered: false}"


def parse_covariates(entries: Sequence[str | Mapping[str, object]] | None) -> dict[str, tuple[str, ...] | None]:
    """Parse the covariates of a config.

    Args:
        entries: Names, or `{name: stage, levels: [I, II, III, IV]}` from the lowest to the highest level, or
            `{name: code, ordered: false}` for levels without order that are numbers, or spelled like an ordered one.

    Returns:
        {name: levels in order; () for levels without order; None where the config states no levels}.

    Raises:
        InputError: An entry has another form, a name or a level occurs twice, or there are fewer than two levels.
    """
    stated: dict[str, tuple[str, ...] | None] = {}
    for entry in entries or []:
        name, levels = (entry, None) if isinstance(entry, str) else _parse_entry(entry)
        if name in stated:
            raise InputError(f"covariates: {name!r} is named twice; remove one of the entries")
        stated[name] = levels
    return stated


def without_decimals(word: str) -> str:
    """Remove the decimals of a whole number, since tables may write the code 2 as `2.0`; other words are unchanged."""
    return word.partition(".")[0] if re.fullmatch(r"[+-]?\d+\.0+", word) else word


def _parse_entry(entry: object) -> tuple[str, tuple[str, ...] | None]:
    name = entry.get("name") if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(name, str):
        raise InputError(f"covariates: {entry!r} names no column; {_FORM}")
    levels, ordered = entry.get("levels"), entry.get("ordered", True)
    if unknown := sorted(str(key) for key in set(entry) - {"name", "levels", "ordered"}):
        raise InputError(f"covariates: {name}: unknown key {unknown[0]!r}; {_FORM}")
    if not isinstance(ordered, bool) or (levels is not None and not ordered):
        raise InputError(
            f"covariates: {name}: ordered must be true or false, and can only be false without levels; {_FORM}"
        )
    if levels is None:
        return name, None if ordered else ()
    return name, _parse_levels(name, levels)


def _parse_levels(name: str, levels: object) -> tuple[str, ...]:
    if not isinstance(levels, Sequence) or isinstance(levels, str):
        raise InputError(f"covariates: {name}: levels {levels!r} is not a list; {_FORM}")
    if any(isinstance(level, bool) or level is None for level in levels):
        raise InputError(
            f"covariates: {name}: YAML reads a level as true, false or null; put quotes around words such as 'yes', 'no' and "
            "'null'"
        )
    words = tuple(without_decimals(str(level)) for level in levels)
    if len(words) < 2 or len({word.lower() for word in words}) < len(words):
        raise InputError(f"covariates: {name}: levels {list(words)} must be two or more, and all different")
    return words
