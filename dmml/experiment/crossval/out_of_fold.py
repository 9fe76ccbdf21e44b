"""Makes `oof_predictions.csv`: all models' predictions of patients that they never saw, with the same columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from dmml.cohort.clinical.follow_up import HORIZONS
from dmml.evaluation.predictions import curve_at, survival_days

if TYPE_CHECKING:
    from dmml.experiment.crossval.summary import FoldResult


def out_of_fold(results: Mapping[str, Sequence[FoldResult]]) -> pd.DataFrame:
    """Make one row per model, fold, repeat, seed and patient.

    Each fold's model has its own edges and end, so its `predictions.csv` gives survival on its own days. Here survival
    is given on days that all folds share: 1, 3 and 5 years, and any other day at which a fold is evaluated, as far as
    at least one fold's curve reaches. Beyond the end of its fold's training follow-up, a patient's survival is
    undefined and the field is empty.

    Args:
        results: {model: its folds}.
    """
    days = _common_days(results)
    tables = []
    for name, folds in results.items():
        for result in folds:
            run = result.run
            keys = {"model": name, "fold": run.fold, "repeat": run.repeat, "seed": run.seed}
            table = _on_days(result.evaluation.predictions, days)
            tables.append(table.assign(**keys)[[*keys, *table]])
    table = pd.concat(tables, ignore_index=True)
    never_reached = [name for name in table if name.startswith("survival_") and table[name].isna().all()]
    return table.drop(columns=never_reached)


def _common_days(results: Mapping[str, Sequence[FoldResult]]) -> list[float]:
    evaluated = {
        day for folds in results.values() for result in folds for day in result.evaluation.context.get("horizons") or ()
    }
    return sorted({*HORIZONS, *map(float, evaluated)})


def _on_days(predictions: pd.DataFrame, days: Sequence[float]) -> pd.DataFrame:
    """Replace the survival columns by survival on these days; log-linear interpolation (see `curve_at`)."""
    columns = [name for name in predictions if name.startswith("survival_")]
    if not survival_days(predictions):
        return predictions.drop(columns=columns)
    curve = pd.DataFrame(
        curve_at(predictions, days), columns=[f"survival_{day:g}" for day in days], index=predictions.index
    )
    position = list(predictions.columns).index(columns[0])
    rest = predictions.drop(columns=columns)
    return pd.concat([rest.iloc[:, :position], curve, rest.iloc[:, position:]], axis=1)
