"""A cross-validation whose folds overlap or whose seeds repeat a fit: no patient and no fit counts twice."""

import numpy as np
import pandas as pd
import pytest

from dmml.experiment.crossval.plan import FoldRun
from dmml.experiment.crossval.summary import FoldResult, _added, _entry

CONTEXT = {"cohort": "c", "task": "survival", "horizons": []}
COUNTS = {"train": 30, "val": 6, "test": 12}


def one_fold(unit, patients, shift=0.0):
    """Outcomes depend on the patient alone, risks also on the model and the fold."""
    numbers = np.array([int(patient[1:]) for patient in patients])
    time, event = 100.0 + 37 * (numbers * 7 % 23), (numbers % 3 > 0).astype(float)
    risk = -time / 400 + np.sin(numbers * (1 + unit.fold) + shift)
    table = pd.DataFrame({"patient_id": patients, "time": time, "event": event, "risk": risk})
    return FoldResult(unit, table, CONTEXT, COUNTS)


def test_a_patient_tested_twice_by_random_splits_counts_once_in_the_added_value():
    ids = [f"P{i}" for i in range(30)]
    parts = [ids[:12], ids[6:18], ids[10:30]]
    folds = {
        name: [one_fold(FoldRun(0, k, 0), part, shift) for k, part in enumerate(parts)]
        for name, shift in (("clinical", 0.0), ("teacher", 1.0))
    }
    apart = [ids[:12], ids[12:18], ids[18:30]]
    alone = {
        name: [one_fold(FoldRun(0, k, 0), part, shift) for k, part in enumerate(apart)]
        for name, shift in (("clinical", 0.0), ("teacher", 1.0))
    }
    added_value = _added(folds)["teacher"]
    assert added_value["n"] == 30
    assert added_value == pytest.approx(_added(alone)["teacher"])


def test_the_spread_over_folds_does_not_depend_on_the_number_of_seeds():
    ids = [f"P{i}" for i in range(36)]
    parts = [ids[:12], ids[12:24], ids[24:]]
    row_of = {patient: i for i, patient in enumerate(ids)}
    counts = np.ones((20, len(ids)), np.float32)

    def entry(units):
        folds = [one_fold(unit, parts[unit.fold]) for unit in units]
        return _entry("c_index", folds, [test.part(row_of) for test in folds], counts)

    once = entry([FoldRun(0, k, 0) for k in range(3)])
    copied = entry([FoldRun(0, k, seed) for k in range(3) for seed in range(4)])  # as a linear model's fits are
    assert len(copied["folds"]) == 12
    assert copied["sd"] == pytest.approx(once["sd"]) == pytest.approx(np.std(once["folds"], ddof=1))
    assert copied["mean"] == pytest.approx(once["mean"])
