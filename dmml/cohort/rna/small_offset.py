"""Recognises UCSC Xena's log2(x + 0.001) by its smallest value, and converts it back to a linear scale."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dmml.cohort.rna.scale import LOG_MAXIMUM, detect_scale, is_centred
from dmml.errors import InputError

_OFFSET = 0.001
_FLOOR = np.log2(_OFFSET)
"""−9.9658, the value for x = 0; no other scale has this minimum."""


class WithoutOffset(NamedTuple):
    """A table converted back to a linear scale."""

    values: np.ndarray
    """(samples, genes) values of x."""
    scale: str | None
    """The stated scale, or the detected one; None if it is ambiguous, as in a table of few genes."""
    notes: dict[str, int]


def without_small_offset(values: np.ndarray, stated: str | None, source: str, genes: list[str]) -> WithoutOffset | None:
    """Convert log2(x + 0.001) back to x; None if the table is on another scale.

    Args:
        values: (samples, genes).
        stated: Scale stated by the user, or None.
        source: Name of the table in messages.
        genes: Names of the columns.

    Raises:
        InputError: The table is stated as log2, which means log2(x + 1) or the log2 values of a microarray.
    """
    lowest, highest = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=-np.inf)
    at_floor = np.abs(values - _FLOOR) < 1e-3
    if abs(lowest - _FLOOR) > 1e-3 or highest > LOG_MAXIMUM or stated == "zscore":
        return None
    if at_floor.sum() < 2 and is_centred(values):
        return None
    if stated == "log2":
        raise InputError(
            f"{source}: the scale is stated as log2, but the smallest value {lowest:.4f} is log2(0.001), so these are UCSC "
            "Xena's log2(x + 0.001); leave --scale out, or state the scale of x: tpm or fpkm"
        )
    linear = np.where(at_floor, 0.0, np.maximum(np.exp2(values) - _OFFSET, 0.0))
    notes = {"values_taken_back_from_log2_of_x_plus_0.001": int(np.isfinite(values).sum())}
    return WithoutOffset(linear, stated or detect_scale(linear, genes), notes)
