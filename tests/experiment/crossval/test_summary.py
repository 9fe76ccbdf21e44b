"""A cross-validation whose folds overlap or whose seeds repeat a fit: no patient and no fit counts twice."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from recomputed import hazard_ratio

from dmml.evaluation.evaluation_result import Evaluation
from dmml.experiment.crossval.plan import FoldRun
from dmml.experiment.crossval.summary import FoldResult, _added, _entry, _stratified

CONTEXT = {"cohort": "c", "task": "survival", "horizons": []}
COUNTS = {"train": 30, "val": 6, "test": 12}


def one_fold(unit, patients, shift=0.0, **context):
    """Outcomes depend on the patient alone, risks also on the model and the fold."""
    numbers = np.array([int(patient[1:]) for patient in patients])
    time, event = 100.0 + 37 * (numbers * 7 % 23), (numbers % 3 > 0).astype(float)
    risk = -time / 400 + np.sin(numbers * (1 + unit.fold) + shift)
    table = pd.DataFrame({"patient_id": patients, "time": time, "event": event, "risk": risk})
    return FoldResult(unit, Evaluation(Path("fold"), Path("fold"), table, CONTEXT | context), COUNTS)


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


def test_the_hazard_ratio_has_a_stratum_per_fold_and_the_cut_of_each_folds_training_patients():
    ids = [f"P{i}" for i in range(60)]
    cuts = [-0.6, -0.2, -1.0]
    parts = [ids[:25], ids[20:40], ids[40:]]  # P20 to P24 are tested twice
    folds = [
        one_fold(FoldRun(0, k, 0), part, median_risk=cut) for k, (part, cut) in enumerate(zip(parts, cuts, strict=True))
    ]
    again = one_fold(FoldRun(1, 0, 0), ids, median_risk=0.0)  # a second repeat, which tests each patient again
    entry = _stratified("hazard_ratio", [*folds, again])
    rows = [
        (row.time, row.event, row.risk > cut, k)
        for k, (fold, cut, first) in enumerate(zip(folds, cuts, (0, 25, 40), strict=True))
        for row in fold.evaluation.predictions.itertuples()
        if int(row.patient_id[1:]) >= first
    ]
    expected = hazard_ratio(*zip(*rows, strict=True))
    assert [entry[name] for name in ("value", "low", "high", "p")] == pytest.approx(expected, rel=1e-4)
    assert (entry["n"], entry["events"]) == (60, sum(event > 0 for _, event, _, _ in rows))
    assert entry["folds"] == [fold.value("hazard_ratio") for fold in [*folds, again]]
    assert entry["folds"][0] == pytest.approx(hazard_ratio(*zip(*[r[:3] for r in rows[:25]], strict=True))[0], rel=1e-4)
    without = _stratified("hazard_ratio", [*folds[:2], one_fold(FoldRun(0, 2, 0), parts[2])])
    assert without["value"] is None
    assert "no median risk" in without["reason"]
