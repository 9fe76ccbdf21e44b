"""Table of the calibration at the horizons for a report page, with a formal test."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dmml.evaluation.report.formatting import horizon_name, p_text
from dmml.evaluation.report.tables import Cell, Table, interval, value_cell
from dmml.evaluation.statistics import intervals
from dmml.evaluation.statistics.calibration import Calibration

HOW_TO_READ = (
    "Slope: 1 is right, below 1 too extreme. Log ratio: log of observed over expected events, 0 is right, above 0 more "
    "events than predicted. p: Greenwood–Nam–D'Agostino test over risk groups; a small p says that predictions are off."
)


def calibration_table(calibrations: Sequence[Calibration], whose: str = "") -> Table | None:
    """Build a table with one row per horizon: observed and predicted survival, slope, log ratio of events, and test.

    None if there is no calibration.

    Args:
        calibrations: Calibrations in the order of the rows.
        whose: Text inserted after the first words of the caption, for pages with several such tables.
    """
    rows = []
    for told in calibrations:
        ends = {"low": _known(told.slope_low), "high": told.slope_high}
        between = {"low": _known(told.intercept_low), "high": told.intercept_high}
        formal = "" if math.isnan(told.chi2) else f"χ² {told.chi2:.1f}, {told.df} df"
        rows.append(
            [
                Cell(horizon_name(told.day), told.reason, told.day),
                value_cell(_known(told.observed), 2, strong=True),
                value_cell(_known(told.predicted), 2),
                value_cell(_known(told.slope), 2, interval(ends, 2)),
                value_cell(_known(told.intercept), 2, interval(between, 2)),
                Cell(p_text(told.p).removeprefix("= "), formal, _known(told.p)),
            ]
        )
    if not rows:
        return None
    columns = ["horizon", "observed event-free", "predicted", "slope", "log ratio", "p"]
    caption = f"Calibration at the horizons{whose}, with {intervals.level_text()} intervals"
    return Table(caption, columns, rows, frozenset(range(1, 6)))


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
