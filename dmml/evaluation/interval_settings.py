"""The level of every interval and the number of bootstrap resamples: the one place to change either of them.

Metrics, comparisons, bands of curves, and all sentences and tables about them read these values when they run, so they
are accessed as attributes of this module and not imported by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

LEVEL = 0.95
"""Share of samples whose interval is meant to contain the true value."""
RESAMPLES = 2000
"""Number of bootstrap resamples of an interval or a p value."""


@contextmanager
def settings_of(level: float, n_resamples: int) -> Iterator[None]:
    """Use the level and the number of resamples of a stored result, so that a page about it has one level throughout."""
    global LEVEL, RESAMPLES
    current = LEVEL, RESAMPLES
    LEVEL, RESAMPLES = level, n_resamples
    try:
        yield
    finally:
        LEVEL, RESAMPLES = current


def level_text() -> str:
    """The level as texts give it, e.g. "95 %"."""
    return f"{100 * LEVEL:g} %"


def alpha() -> float:
    """1 − `LEVEL`, as lifelines expects it, without the rounding error of the subtraction."""
    return round(1 - LEVEL, 12)


def normal_quantile() -> float:
    """Half width of an interval in standard errors, if the estimate is normally distributed: 1.96 at 95 %."""
    from scipy.special import ndtri

    return float(ndtri((1 + LEVEL) / 2))
