"""The latent model: distributions, outcome, and independence of the order and number of draws."""

import numpy as np
import pytest
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index

from dmml.simulate.truth import (
    AGE_EFFECT,
    CORRELATION,
    FACTOR_NAMES,
    HAZARD,
    INTERACTION,
    SITES,
    draw_patients,
    log_hazard,
    visible_factors,
)


@pytest.fixture(scope="module")
def patients():
    return draw_patients("held_out", 3000, seed=3)


def test_factors_have_the_stated_correlation(patients):
    factors = np.stack([patient.factors for patient in patients])
    assert np.abs(factors.mean(axis=0)).max() < 0.06
    assert np.abs(np.cov(factors.T) - CORRELATION).max() < 0.08


def test_oracle_concordance_and_censoring_are_in_range(patients):
    days = np.array([patient.days for patient in patients])
    event = np.array([patient.event for patient in patients])
    risk = np.array([patient.risk for patient in patients])
    assert 0.80 <= concordance_index(days, -risk, event) <= 0.85
    assert 0.22 <= 1 - event.mean() <= 0.32
    assert days.min() >= 30
    assert days.max() <= 4000


def test_cox_regression_recovers_the_hazard(patients):
    import pandas as pd

    table = pd.DataFrame([patient.factors for patient in patients], columns=list(FACTOR_NAMES))
    table["interaction"] = table["proliferation"] * table["lymphocytes"]
    table["age"] = [(patient.age - 64) / 10.5 for patient in patients]
    table["days"], table["event"] = [p.days for p in patients], [p.event for p in patients]
    fitted = CoxPHFitter().fit(table, "days", "event").params_
    truth = [*HAZARD, INTERACTION, AGE_EFFECT]
    assert fitted[[*FACTOR_NAMES, "interaction", "age"]].to_numpy() == pytest.approx(truth, abs=0.10)


def test_both_groups_of_factors_are_needed(patients):
    days, event = [p.days for p in patients], [p.event for p in patients]
    factors = np.stack([patient.factors for patient in patients])
    whole = concordance_index(days, -log_hazard(factors), event)
    tumor = concordance_index(days, -(factors[:, :3] @ HAZARD[:3]), event)
    tme = concordance_index(days, -(factors[:, 3:] @ HAZARD[3:]), event)
    assert max(tumor, tme) < whole - 0.05
    assert min(tumor, tme) > 0.65


def test_log_hazard_equals_the_sum_by_hand():
    assert log_hazard(np.array([1.0, 0, 0, 2.0, 0, 0])) == pytest.approx(0.75 - 2 * 0.80 - 0.50 * 2.0)


def test_a_patient_does_not_depend_on_the_number_of_others():
    few, many = draw_patients("development", 3, seed=1), draw_patients("development", 9, seed=1)
    for one, other in zip(few, many, strict=False):
        np.testing.assert_array_equal(one.factors, other.factors)
        assert (one.days, one.event, one.grade, one.slides) == (other.days, other.event, other.grade, other.slides)


def test_cohorts_and_seeds_share_no_patient_and_no_site():
    groups = [draw_patients(cohort, 200, seed) for cohort in SITES for seed in (0, 1)]
    ids = [patient.patient_id for group in groups for patient in group]
    assert len(set(ids)) == len(ids)
    factors = np.stack([patient.factors for group in groups for patient in group])
    assert len(np.unique(factors.round(9), axis=0)) == len(ids)
    assert not {p.site for p in groups[0]} & {p.site for p in groups[2]}


def test_grades_and_missing_parts_have_the_stated_shares():
    patients = draw_patients("development", 2000, seed=0)
    shares = {grade: np.mean([p.grade == grade for p in patients]) for grade in ("G2", "G3", "G4")}
    assert min(shares.values()) > 0.22
    assert sum(shares.values()) == pytest.approx(1)
    assert 0.08 < np.mean([not p.has_expression for p in patients]) < 0.12
    assert 0.08 < np.mean([len(p.slides) == 2 for p in patients]) < 0.12
    assert all(p.has_expression for p in draw_patients("held_out", 200, seed=0))


@pytest.mark.parametrize("visibility", [0.5, 0.9])
def test_what_a_slide_shows_correlates_with_the_factors_as_specified(patients, visibility):
    visible = np.stack([visible_factors(patient, 0, visibility) for patient in patients])
    factors = np.stack([patient.factors for patient in patients])
    for k in range(len(FACTOR_NAMES)):
        assert np.corrcoef(visible[:, k], factors[:, k])[0, 1] == pytest.approx(visibility, abs=0.04)
    second = np.stack([visible_factors(patient, 1, visibility) for patient in patients])
    assert np.corrcoef(visible[:, 0], second[:, 0])[0, 1] == pytest.approx(visibility**2, abs=0.05)
