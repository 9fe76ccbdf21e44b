"""Makes `oof_predictions.csv`: all models' predictions of patients that they never saw, with the same columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from dmml.cohort.clinical.follow_up import HORIZONS
from dmml.evaluation.predictions import curve_at, survival_days

if TYPE_CHECKING:
    from dmml.experiment.crossval.summary import Tested


def out_of_fold(tested: Mapping[str, Sequence[Tested]]) -> pd.DataFrame:
    """Make one row per model, fold, repeat, seed and patient.

    Each fold's model has its own edges and end, so its `predictions.csv` gives survival on its own days. Here survival
    is given on days that all folds share: 1, 3 and 5 years, and any other day at which a fold is evaluated, as far as
    at least one fold's curve reaches. Beyond the end of its fold's training follow-up, a patient's survival is
    undefined and the field is empty.

    Args:
        tested: {model: its folds}.
    """
    days = _common_days(tested)
    tables = []
    for name, folds in tested.items():
        for test in folds:
            where = {"model": name, "fold": test.unit.fold, "repeat": test.unit.repeat, "seed": test.unit.seed}
            table = _on_days(test.predictions, days)
            tables.append(table.assign(**where)[[*where, *table]])
    table = pd.concat(tables, ignore_index=True)
    never = [name for name in table if name.startswith("survival_") and table[name].isna().all()]
    return table.drop(columns=never)


def _common_days(tested: Mapping[str, Sequence[Tested]]) -> list[float]:
    judged = {day for folds in tested.values() for test in folds for day in test.context.get("horizons") or ()}
    return sorted({*HORIZONS, *map(float, judged)})


def _on_days(predictions: pd.DataFrame, days: Sequence[float]) -> pd.DataFrame:
    """Replace the survival columns by survival on these days; log-linear interpolation (see `curve_at`)."""
    own = [name for name in predictions if name.startswith("survival_")]
    if not survival_days(predictions):
        return predictions.drop(columns=own)
    curve = pd.DataFrame(
        curve_at(predictions, days), columns=[f"survival_{day:g}" for day in days], index=predictions.index
    )
    place = predictions.columns.get_loc(own[0])
    rest = predictions.drop(columns=own)
    return pd.concat([rest.iloc[:, :place], curve, rest.iloc[:, place:]], axis=1)
