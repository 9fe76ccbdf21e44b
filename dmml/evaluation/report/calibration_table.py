"""Table of the calibration at the horizons for a report page, with a formal test."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dmml.evaluation import interval_settings
from dmml.evaluation.report.formatting import horizon_name, p_text
from dmml.evaluation.report.tables import Cell, Table, defined, interval, value_cell
from dmml.evaluation.statistics.calibration import Calibration

HOW_TO_READ = (
    "Slope: 1 is right; below 1, predictions are too extreme. Log ratio: log of observed over expected events; 0 is right; "
    "above 0, there are more events than predicted. p: Greenwood–Nam–D'Agostino test over risk groups; a small p means "
    "that predictions are off."
)


def calibration_table(calibrations: Sequence[Calibration], suffix: str = "") -> Table | None:
    """Build a table with one row per horizon: observed and predicted survival, slope, log ratio of events, and test.

    None if there is no calibration.

    Args:
        calibrations: Calibrations in the order of the rows.
        suffix: Text inserted after the first words of the caption, for pages with several such tables.
    """
    rows = []
    for calibration in calibrations:
        slope_limits = {"low": defined(calibration.slope_low), "high": calibration.slope_high}
        ratio_limits = {"low": defined(calibration.intercept_low), "high": calibration.intercept_high}
        test = "" if math.isnan(calibration.chi2) else f"χ² {calibration.chi2:.1f}, {calibration.df} df"
        rows.append(
            [
                Cell(horizon_name(calibration.day), calibration.reason, calibration.day),
                value_cell(defined(calibration.observed), 2, strong=True),
                value_cell(defined(calibration.predicted), 2),
                value_cell(defined(calibration.slope), 2, interval(slope_limits, 2)),
                value_cell(defined(calibration.intercept), 2, interval(ratio_limits, 2)),
                Cell(p_text(calibration.p).removeprefix("= "), test, defined(calibration.p)),
            ]
        )
    if not rows:
        return None
    columns = ["horizon", "observed event-free", "predicted", "slope", "log ratio", "p"]
    caption = f"Calibration at the horizons{suffix}, with {interval_settings.level_text()} intervals"
    return Table(caption, columns, rows, frozenset(range(1, 6)))
