"""A continuous value as the outcome: reading, folds, and doubts about it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.clinical.outcome import parse_outcome
from dmml.cohort.clinical.plausibility import outcome_doubts
from dmml.cohort.clinical.table import Clinical, read_clinical
from dmml.cohort.splits.make_folds import make_folds, strata_of
from dmml.errors import InputError


def write(folder: Path, values: list) -> Path:
    path = folder / "clinical.csv"
    pd.DataFrame({"patient_id": [f"P{i}" for i in range(len(values))], "purity": values}).to_csv(path, index=False)
    return path


def read(folder: Path, values: list) -> Clinical:
    return read_clinical(write(folder, values), outcome={"value": "purity"})


def test_values_are_numbers_and_an_empty_one_is_unknown(tmp_path):
    clinical = read(tmp_path, [0.5, None, "1e-3"])
    assert clinical.kind == "regression"
    assert clinical.observed.tolist() == [True, False, True]
    assert clinical.patients["value"].dropna().tolist() == [0.5, 0.001]
    assert clinical.classes == []


@pytest.mark.parametrize("wrong", ["high", "0,5", "inf"])
def test_a_value_that_is_no_number_is_refused_with_its_line(tmp_path, wrong):
    with pytest.raises(InputError, match=rf"line 3: '{wrong}' in 'purity'"):
        read(tmp_path, [0.5, wrong])


def test_two_values_of_a_patient_are_refused(tmp_path):
    path = tmp_path / "clinical.csv"
    pd.DataFrame({"patient_id": ["A", "A"], "purity": [1.0, 2.0]}).to_csv(path, index=False)
    with pytest.raises(InputError, match="patient A has both 1 and 2 in 'purity'"):
        read_clinical(path, outcome={"value": "purity"})


def test_a_value_stands_alone():
    assert parse_outcome({"value": "purity"}).columns == ["purity"]
    with pytest.raises(InputError, match="has both value and time"):
        parse_outcome({"value": "purity", "time": "days"})
    with pytest.raises(InputError, match="has both label and value"):
        parse_outcome({"label": "grade", "value": "purity"})


def test_folds_have_the_same_share_of_each_quartile(tmp_path):
    generator = np.random.default_rng(0)
    clinical = read(tmp_path, [*generator.normal(size=80).tolist(), None])
    strata = strata_of(clinical, list(clinical.patients.index))
    assert np.bincount(strata + 1).tolist() == [1, 20, 20, 20, 20]
    folds = make_folds(clinical, 4)
    counts = pd.crosstab(strata[:80], folds.to_numpy()[:80])
    assert (counts == 5).all(axis=None)


def test_constant_values_and_codes_raise_doubts():
    def doubts(values: list[float]) -> list[str]:
        return outcome_doubts(pd.DataFrame({"value": values}))

    assert doubts([1.0, 1.0, np.nan]) == ["all 2 patients have the value 1, so nothing can be learned"]
    assert "codes of classes" in doubts([1.0, 2.0, 3.0] * 5)[0]
    assert doubts([float(i) for i in range(20)]) == []
    assert doubts([np.nan]) == ["no patient has a known outcome"]
