"""UCSC Xena's log2(x + 0.001): recognised by its smallest value and converted back to a linear scale."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dmml.cohort.scale import LOG_MAXIMUM, detect_scale, is_centred
from dmml.errors import InputError

_OFFSET = 0.001
_FLOOR = np.log2(_OFFSET)
"""−9.9658, where nothing was measured; no other scale has that smallest value"""


class WithoutOffset(NamedTuple):
    """A table on a linear scale."""

    values: np.ndarray
    """(samples, genes) x"""
    scale: str | None
    """`tpm`, `fpkm` or the stated scale; None where x may be either, as in a table of few genes"""
    notes: dict[str, int]


def without_small_offset(values: np.ndarray, stated: str | None, source: str, genes: list[str]) -> WithoutOffset | None:
    """Convert log2(x + 0.001) back to x; None for every other table.

    Args:
        values: (samples, genes).
        stated: The scale that the user states, or None.
        source: The table's name, for the message.
        genes: Names of the columns.

    Raises:
        InputError: The table is stated as log2, which means log2(x + 1) or a microarray's.
    """
    lowest, highest = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=-np.inf)
    at_floor = np.abs(values - _FLOOR) < 1e-3
    if abs(lowest - _FLOOR) > 1e-3 or highest > LOG_MAXIMUM or stated == "zscore":
        return None
    if at_floor.sum() < 2 and is_centred(values):
        return None
    if stated == "log2":
        raise InputError(
            f"{source}: stated as log2, but its smallest value {lowest:.4f} is log2(0.001), so it is UCSC Xena's "
            "log2(x + 0.001); leave --scale out, or state what x is: tpm or fpkm"
        )
    linear = np.where(at_floor, 0.0, np.maximum(np.exp2(values) - _OFFSET, 0.0))
    notes = {"values_taken_back_from_log2_of_x_plus_0.001": int(np.isfinite(values).sum())}
    return WithoutOffset(linear, stated or detect_scale(linear, genes), notes)
