"""`oof_predictions.csv`: survival of every fold on the same days, empty where a fold's curve does not reach."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dmml.experiment.crossval.out_of_fold import out_of_fold
from dmml.experiment.crossval.plan import FoldRun


def fitted_fold(fold, days, horizons=(365.0,)):
    """A fold whose model halves survival from one of its own days to the next."""
    curve = {f"survival_{day:g}": [0.5 ** (i + 1)] * 2 for i, day in enumerate(days)}
    predictions = pd.DataFrame({"patient_id": [f"{fold}a", f"{fold}b"], "time": 5.0, "event": 1.0, "risk": 0.1} | curve)
    return fold_result(fold, predictions.assign(has_expression=1), {"horizons": list(horizons)})


def fold_result(fold, predictions, context):
    evaluation = SimpleNamespace(predictions=predictions, context=context)
    return SimpleNamespace(run=FoldRun(0, fold, 0), evaluation=evaluation)


def test_survival_is_given_on_days_that_all_folds_share():
    folds = [fitted_fold(0, (200.0, 530.0, 1500.0)), fitted_fold(1, (365.0, 600.0, 1200.0, 2000.0))]
    table = out_of_fold({"teacher": folds})
    assert list(table) == [
        "model", "fold", "repeat", "seed", "patient_id", "time", "event", "risk",
        "survival_365", "survival_1095", "survival_1825", "has_expression",
    ]  # fmt: skip
    first, second = table.iloc[0], table.iloc[2]
    assert first["survival_365"] == pytest.approx(0.5 ** (1 + 165 / 330))
    assert first["survival_1095"] == pytest.approx(0.5 ** (2 + 565 / 970))
    assert np.isnan(first["survival_1825"])  # beyond the end of its fold
    assert second["survival_365"] == 0.5
    assert second["survival_1825"] == pytest.approx(0.5 ** (3 + 625 / 800))


def test_a_day_has_a_column_only_if_a_fold_reaches_it_or_is_evaluated_at_it():
    short = out_of_fold(
        {"teacher": [fitted_fold(0, (100.0, 400.0), horizons=(180.0,)), fitted_fold(1, (150.0, 380.0))]}
    )
    assert [name for name in short if name.startswith("survival_")] == ["survival_180", "survival_365"]


def test_classes_have_no_survival():
    table = pd.DataFrame({"patient_id": ["a"], "label": ["x"], "prob_x": [0.7], "prob_y": [0.3]})
    assert list(out_of_fold({"teacher": [fold_result(0, table, {})]}))[4:] == [
        "patient_id",
        "label",
        "prob_x",
        "prob_y",
    ]
