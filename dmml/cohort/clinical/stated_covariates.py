"""Parses the `covariates` option of a config: the names of clinical covariates and the order of their levels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dmml.errors import InputError

_FORM = "give a column's name, {name: stage, levels: [I, II, III]}, or {name: code, ordered: false}"


def parse_covariates(given: Sequence[str | Mapping[str, Any]] | None) -> dict[str, tuple[str, ...] | None]:
    """Parse the covariates of a config.

    Args:
        given: Names, or `{name: stage, levels: [I, II, III, IV]}` from the lowest to the highest level, or
            `{name: code, ordered: false}` for levels without order that are numbers or spelled like a scale.

    Returns:
        {name: levels in order; () for levels without order; None where the config states no levels}.

    Raises:
        InputError: An entry has another form, a name or a level occurs twice, or there are fewer than two levels.
    """
    stated: dict[str, tuple[str, ...] | None] = {}
    for entry in given or []:
        name, levels = (entry, None) if isinstance(entry, str) else _parse_entry(entry)
        if name in stated:
            raise InputError(f"covariates: {name!r} is named twice; name it once")
        stated[name] = levels
    return stated


def without_decimals(word: str) -> str:
    """Remove the decimals of a whole number, since tables may write the code 2 as `2.0`; other words are unchanged."""
    return word.partition(".")[0] if re.fullmatch(r"[+-]?\d+\.0+", word) else word


def _parse_entry(entry: Any) -> tuple[str, tuple[str, ...] | None]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise InputError(f"covariates: {entry!r} names no column; {_FORM}")
    name, levels, ordered = entry["name"], entry.get("levels"), entry.get("ordered", True)
    if unknown := sorted(str(key) for key in set(entry) - {"name", "levels", "ordered"}):
        raise InputError(f"covariates: {name}: unknown key {unknown[0]!r}; {_FORM}")
    if not isinstance(ordered, bool) or (levels is not None and not ordered):
        raise InputError(f"covariates: {name}: ordered is true or false, and false only without levels; {_FORM}")
    if levels is None:
        return name, None if ordered else ()
    return name, _parse_levels(name, levels)


def _parse_levels(name: str, levels: Any) -> tuple[str, ...]:
    if not isinstance(levels, Sequence) or isinstance(levels, str):
        raise InputError(f"covariates: {name}: levels {levels!r} is no list; {_FORM}")
    if any(isinstance(level, bool) or level is None for level in levels):
        raise InputError(
            f"covariates: {name}: YAML reads a level as true, false or null; put words such as 'yes', 'no' and 'null' in quotes"
        )
    words = tuple(without_decimals(str(level)) for level in levels)
    if len(words) < 2 or len({word.lower() for word in words}) < len(words):
        raise InputError(f"covariates: {name}: levels {list(words)} must be two or more, each named once")
    return words
