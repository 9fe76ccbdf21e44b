"""Worlds: each holds the signal that it is named for, where it is said to be, and nowhere else."""

import argparse
import hashlib

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict

from dmml.commands.simulate import add_arguments, run
from dmml.errors import InputError
from dmml.simulate.expression import draw_counts, tpm
from dmml.simulate.slides.tissue_types import LYMPHOID, STROMA, TUMOR
from dmml.simulate.tokens import draw_tokens, token_model
from dmml.simulate.truth import FACTOR_NAMES, SITES, draw_patients, log_hazard
from dmml.simulate.world_patients import UNEVEN_LAST_DAYS, draw_world, oracles
from dmml.simulate.world_tokens import h_directions, nuisance_directions
from dmml.simulate.worlds import WORLDS

DIM = 64


def simulate(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    run(parser.parse_args([str(argument) for argument in arguments]))


def tokens(patient, m, slide=0):
    return draw_tokens(patient, slide, DIM, 0.8)[0][m].features.astype(float)


def tissue_of(patient):
    """Tissue under each 20x token."""
    bags, labels = draw_tokens(patient, 0, DIM, 0.8)
    column, row = (bags[20].position / 112).astype(int).T
    return labels[row, column]


def with_shared(world, n, seed=0):
    """Pairs of the same patient in a world and in `shared`."""
    return zip(draw_world(world, "development", n, seed), draw_world("shared", "development", n, seed), strict=True)


def added_log_hazard(patient):
    """What the world adds to the log-hazard of the shared factors and of age."""
    plain = draw_patients(patient.cohort, patient.index + 1, patient.seed)[-1]
    return patient.risk - patient.world.shared_effect * plain.risk


def log_expression(patients):
    return np.log1p(np.stack([tpm(draw_counts(patient)) for patient in patients]))


def ridge_correlation(x, target):
    """Correlation of a target with its cross-validated predictions by ridge regression."""
    x = (x - x.mean(0)) / (x.std(0) + 1e-9)
    return np.corrcoef(cross_val_predict(RidgeCV(np.logspace(0, 6, 13)), x, target, cv=5), target)[0, 1]


# ---- the default simulation stays what it was ----------------------------------------------------------------------


def test_without_a_world_the_simulation_has_not_changed():
    """The digests were computed before the code had worlds."""
    patients = [*draw_patients("development", 5, 3), *draw_patients("held_out", 5, 3)]
    counts = np.stack([draw_counts(patient) for patient in patients])
    outcomes = [(p.patient_id, p.days, p.event, p.stage, p.site, p.has_expression, p.slides) for p in patients]
    features = np.concatenate([draw_tokens(p, 0, 32, 0.8)[0][m].features for p in patients for m in (10, 20)])
    digests = [
        hashlib.sha256(x).hexdigest()[:16] for x in (counts.tobytes(), repr(outcomes).encode(), features.tobytes())
    ]
    assert digests == GOLDEN


GOLDEN = ["ac7e8110b6c781e6", "25b90fa1147bd82c", "818f5d0618aa5d0f"]


# ---- where the signal is -------------------------------------------------------------------------------------------


def test_a_patient_has_the_same_factors_in_every_world():
    plain = draw_patients("development", 20, seed=4)
    for name in WORLDS:
        for patient, default in zip(draw_world(name, "development", 20, seed=4), plain, strict=True):
            np.testing.assert_array_equal(patient.factors, default.factors)
            assert (patient.patient_id, patient.site, patient.slides) == (
                default.patient_id,
                default.site,
                default.slides,
            )
            assert patient.has_expression


def test_the_added_factors_are_standard_normal_and_independent():
    patients = draw_world("interaction", "development", 3000, seed=0)
    values = np.column_stack(
        [np.stack([p.factors for p in patients]), [p.h for p in patients], [p.g for p in patients]]
    )
    assert np.abs(values.mean(0)).max() < 0.06
    correlation = np.corrcoef(values.T)
    assert np.abs(correlation[-2:, :-2]).max() < 0.06
    assert abs(correlation[-1, -2]) < 0.06
    np.testing.assert_allclose(values.std(0), 1, atol=0.05)


@pytest.mark.parametrize(
    "world", ["tissue_only", "rare_tissue", "composition", "one_magnification", "token_interaction"]
)
def test_no_gene_shows_a_factor_of_the_tissue(world):
    """The counts are those of the world without it, to the last one."""
    for patient, shared in with_shared(world, 5):
        np.testing.assert_array_equal(draw_counts(patient), draw_counts(shared))


@pytest.mark.slow
def test_no_gene_correlates_with_the_factor_of_the_tissue():
    patients = draw_world("tissue_only", "development", 300, seed=1)
    values, h = log_expression(patients), np.array([patient.h for patient in patients])
    values = values[:, values.std(0) > 0]
    correlation = (values - values.mean(0)).T @ (h - h.mean()) / (len(h) * values.std(0) * h.std())
    assert np.mean(np.abs(correlation) > 1.96 / np.sqrt(len(h))) < 0.10, "a twentieth by chance"
    assert ridge_correlation(values, h) < 0.2
    means = np.stack([np.concatenate([tokens(p, m).mean(0) for m in (10, 20)]) for p in patients])
    assert ridge_correlation(means, h) > 0.95


def test_every_token_shows_the_factor_of_the_tissue():
    for patient, shared in with_shared("tissue_only", 4):
        assert added_log_hazard(patient) == pytest.approx(1.3 * patient.h)
        for m in (10, 20):
            moved = tokens(patient, m) - tokens(shared, m)
            np.testing.assert_allclose(moved, np.tile(patient.h * h_directions(DIM, m)[0], (len(moved), 1)), atol=0.02)


def test_one_patch_of_a_twentieth_shows_the_rare_factor():
    shares = []
    for patient, shared in with_shared("rare_tissue", 30):
        moved = {m: tokens(patient, m) - tokens(shared, m) for m in (10, 20)}
        shows = {m: np.abs(moved[m]).max(1) > 0.02 for m in (10, 20)}
        for m in (10, 20):
            np.testing.assert_allclose(moved[m][shows[m]] @ h_directions(DIM, m)[0], 4 * patient.h, atol=0.05)
        bags = draw_tokens(patient, 0, DIM, 0.8)[0]
        np.testing.assert_array_equal(shows[20], shows[10][bags[20].parent])
        extent = np.ptp(bags[10].position[shows[10]], axis=0) / 224
        assert extent.max() <= 2, "neighbours"
        shares.append(shows[20].mean())
    assert 0.04 < np.mean(shares) < 0.06


def test_the_amount_of_a_new_tissue_follows_the_factor():
    h, share = [], []
    for patient, shared in with_shared("composition", 60):
        moved = np.abs(tokens(patient, 20) - tokens(shared, 20)).max(1) > 0.05
        h.append(patient.h)
        share.append(moved.mean())
        new = tokens(patient, 20)[moved].mean(0) - tokens(patient, 20).mean(0)
        if moved.sum() > 10:
            assert new @ h_directions(DIM, 20)[0] > 1.5
    expected = 1 / (1 + np.exp(2.5 - 0.9 * np.array(h)))
    np.testing.assert_allclose(share, expected, atol=0.02)


def test_one_magnification_shows_the_factor_and_the_other_does_not():
    for patient, shared in with_shared("one_magnification", 4):
        np.testing.assert_array_equal(tokens(patient, 10), tokens(shared, 10))
        moved = (tokens(patient, 20) - tokens(shared, 20)) @ h_directions(DIM, 20)[0]
        np.testing.assert_allclose(moved, patient.h, atol=0.02)


@pytest.mark.slow
def test_genes_alone_show_the_factor_of_the_rna():
    for patient, shared in with_shared("rna_only", 4):
        assert added_log_hazard(patient) == pytest.approx(1.3 * patient.g)
        np.testing.assert_array_equal(tokens(patient, 20), tokens(shared, 20))
    patients = draw_world("rna_only", "development", 200, seed=1)
    assert ridge_correlation(log_expression(patients), np.array([patient.g for patient in patients])) > 0.85


def test_an_interaction_has_no_effect_of_one_factor_alone():
    patients = draw_world("interaction", "development", 3000, seed=2)
    h, g = (np.array([getattr(patient, name) for patient in patients]) for name in ("h", "g"))
    table = pd.DataFrame([patient.factors for patient in patients], columns=list(FACTOR_NAMES))
    table["shared_product"] = table["proliferation"] * table["lymphocytes"]
    table["age"] = [(patient.age - 64) / 10.5 for patient in patients]
    table = table.assign(h=h, g=g, product=h * g, days=[p.days for p in patients], event=[p.event for p in patients])
    fitted = CoxPHFitter().fit(table, "days", "event").params_
    assert fitted["product"] == pytest.approx(1.3, abs=0.12)
    assert fitted[["h", "g"]].abs().max() < 0.12


def test_opposed_subspaces_have_opposite_effects_along_one_direction():
    patients = draw_world("opposed", "development", 2000, seed=0)
    tumor, microenvironment = np.array([patient.opposed for patient in patients]).T
    assert np.corrcoef(tumor, microenvironment)[0, 1] == pytest.approx(0.8, abs=0.03)
    table = pd.DataFrame({"tumor": tumor, "microenvironment": microenvironment})
    table = table.assign(days=[p.days for p in patients], event=[p.event for p in patients])
    fitted = CoxPHFitter().fit(table, "days", "event").params_
    assert fitted["tumor"] > 0.8
    assert fitted["microenvironment"] < -0.8
    for patient, shared in with_shared("opposed", 6):
        shows = (tokens(patient, 20) - tokens(shared, 20)) @ h_directions(DIM, 20)[0] / patient.world.length[20]
        tissue = tissue_of(patient)
        expected = np.select(
            [tissue == TUMOR, np.isin(tissue, (STROMA, LYMPHOID))], [patient.opposed[0], patient.opposed[1]], 0.0
        )
        np.testing.assert_allclose(shows, expected, atol=0.02)


def test_two_signs_of_every_token_agree_as_often_as_the_factor_determines():
    h, agreement, means = [], [], []
    for patient, shared in with_shared("token_interaction", 40):
        signs = (tokens(patient, 10) - tokens(shared, 10)) @ h_directions(DIM, 10).T / 2
        np.testing.assert_allclose(np.abs(signs), 1, atol=0.02)
        h.append(patient.h)
        agreement.append((signs.prod(1) > 0).mean())
        means.append(np.abs(signs.mean(0)).max())
    np.testing.assert_allclose(agreement, 1 / (1 + np.exp(-1.5 * np.array(h))), atol=0.03)
    assert max(means) < 0.1, "each sign alone is as often plus as minus"


def test_sites_shift_tokens_and_genes_and_are_followed_unevenly():
    patients = draw_world("site_shift", "development", 600, seed=0)
    for patient, shared in with_shared("site_shift", 6):
        moved = tokens(patient, 20) - tokens(shared, 20)
        expected = 3 * token_model(DIM).sites[patient.site]
        np.testing.assert_allclose(moved, np.tile(expected, (len(moved), 1)), atol=0.02)
        assert (draw_counts(patient) != draw_counts(shared)).any()
    for site in SITES["development"]:
        days = [patient.days for patient in patients if patient.site == site]
        assert UNEVEN_LAST_DAYS[site] * 0.6 < max(days) <= UNEVEN_LAST_DAYS[site]
    held_out = draw_world("site_shift", "held_out", 600, seed=0)
    assert {patient.site for patient in held_out} == set(SITES["held_out"])
    assert 1300 < max(patient.days for patient in held_out) <= 1500


def test_nothing_predicts_the_outcome_of_the_null_world():
    patients = draw_world("null", "development", 3000, seed=0)
    assert {patient.risk for patient in patients} == {0.0}
    days, event = [p.days for p in patients], [p.event for p in patients]
    for column in (*np.stack([p.factors for p in patients]).T, [p.h for p in patients], [p.g for p in patients],
                   [p.age for p in patients], [("I", "II", "III", "IV").index(p.stage) for p in patients],
                   log_hazard(np.stack([p.factors for p in patients]))):  # fmt: skip
        assert abs(concordance_index(days, column, event) - 0.5) < 0.025


# ---- what all worlds have ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", WORLDS)
def test_half_of_the_patients_have_the_event_and_the_oracles_are_ordered(world):
    patients = draw_world(world, "development", 1500, seed=7)
    days, event = (np.array([getattr(patient, name) for patient in patients]) for name in ("days", "event"))
    assert 0.44 < event.mean() < 0.57
    assert days.min() >= 1
    if world != "site_shift":
        assert 1300 < days.max() <= 1500
    if world == "null":
        return
    scores = pd.DataFrame([oracles(patient, 0.8) for patient in patients])
    scores["risk"] = [patient.risk for patient in patients]
    c = {name: concordance_index(days, -scores[name], event) for name in scores}
    assert 0.80 < c["risk"] < 0.90
    assert c["risk"] >= c["oracle_both"] - 0.005
    assert c["oracle_both"] >= max(c["oracle_rna"], c["oracle_slide"]) - 0.005
    assert min(c["oracle_rna"], c["oracle_slide"]) > 0.70


def test_times_without_censoring_follow_the_stated_weibull_law():
    """Nelson and Aalen's cumulative hazard of the null world against log 2 · (t / 700)^1.35."""
    patients = draw_world("null", "development", 4000, seed=1)
    days, event = (np.array([getattr(patient, name) for patient in patients]) for name in ("days", "event"))
    for day in (200, 500, 900, 1300):
        events = np.unique(days[(event == 1) & (days <= day)], return_counts=True)
        hazard = sum(count / (days >= when).sum() for when, count in zip(*events, strict=True))
        assert hazard == pytest.approx(np.log(2) * (day / 700) ** 1.35, rel=0.08)


def test_slides_differ_in_twenty_meaningless_directions():
    patients = [patient for patient in draw_world("shared", "development", 400, seed=0) if len(patient.slides) == 2]
    plain = {patient.patient_id: patient for patient in draw_patients("development", 400, seed=0)}
    for m in (10, 20):
        weights = []
        for patient in patients[:12]:
            for slide in range(2):
                shift = tokens(patient, m, slide) - tokens(plain[patient.patient_id], m, slide)
                assert np.abs(shift - shift.mean(0)).max() < 0.03, "the same for all tokens"
                coefficients, left, *_ = np.linalg.lstsq(nuisance_directions(DIM, m).T, shift.mean(0), rcond=None)
                assert float(left.sum()) < 1e-3
                weights.append(coefficients)
        weights = np.array(weights)
        assert weights.std() == pytest.approx(1, abs=0.12)
        assert abs(np.corrcoef(weights[::2].ravel(), weights[1::2].ravel())[0, 1]) < 0.2, "each slide has its own"


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("world", "added"), [("shared", []), ("tissue_only", ["h"]), ("rna_only", ["g"]), ("opposed", ["h", "g"])]
)
def test_truth_holds_factors_risk_and_oracles(tmp_path, world, added):
    simulate(tmp_path / "out", "--patients", 5, "--held-out", 2, "--dim", 16, "--features-only", "--world", world)
    truth = pd.read_csv(tmp_path / "out" / "development" / "truth.csv")
    columns = ["patient_id", *FACTOR_NAMES, "risk", *added, "oracle_rna", "oracle_slide", "oracle_both"]
    assert list(truth.columns) == columns
    patients = draw_world(world, "development", 5, 0)
    np.testing.assert_allclose(truth["risk"], [patient.risk for patient in patients], atol=1e-6)
    expected = pd.DataFrame([oracles(patient, 0.8) for patient in patients])
    np.testing.assert_allclose(truth[columns[-3:]], expected, atol=1e-6)
    assert len(pd.read_parquet(tmp_path / "out" / "development" / "expression.parquet")) == 5, "all have RNA"


def test_an_unknown_world_is_refused_with_the_names_of_those_that_exist(tmp_path):
    with pytest.raises(InputError, match=r"--world: there is no world 'tissue'; one of shared, tissue_only, .*, null$"):
        simulate(tmp_path / "out", "--features-only", "--world", "tissue")
    assert not (tmp_path / "out").exists()


def test_worlds_need_features_only(tmp_path):
    with pytest.raises(InputError, match=r"--world: .* add --features-only"):
        simulate(tmp_path / "out", "--world", "shared")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_world_is_not_overwritten(tmp_path):
    small = ("--patients", 2, "--held-out", 1, "--dim", 8, "--features-only")
    simulate(tmp_path / "out", *small, "--world", "null")
    with pytest.raises(InputError, match=r"world = null instead of shared"):
        simulate(tmp_path / "out", *small, "--world", "shared")
    with pytest.raises(InputError, match=r"world = null instead of None"):
        simulate(tmp_path / "out", *small)
