"""Measures of the ablation, compared with cases by hand, closed forms, and dmml's paired bootstrap."""

import numpy as np
import pytest


@pytest.fixture
def factors():
    from dmml.simulate.truth import CORRELATION

    drawn = np.random.default_rng(0).standard_normal((400, 6)) @ np.linalg.cholesky(CORRELATION).T
    return {"tumor": drawn[:, :3], "tme": drawn[:, 3:]}


def test_an_embedding_of_its_own_factors_has_partial_r2_of_one_and_zero(factors):
    from ablation_measures import partial_r2

    mixed = {s: values @ np.random.default_rng(1).standard_normal((3, 40)) for s, values in factors.items()}
    for of in partial_r2(mixed, factors).values():
        assert of["own"] > 0.999
        assert abs(of["other"]) < 0.02
    swapped = partial_r2({"tumor": mixed["tme"], "tme": mixed["tumor"]}, factors)
    for of in swapped.values():
        assert abs(of["own"]) < 0.02
        assert of["other"] > 0.999


def test_partial_r2_is_that_of_the_closed_form_and_zero_for_noise(factors):
    from ablation_measures import explained

    from dmml.simulate.truth import CORRELATION

    rng = np.random.default_rng(2)
    noisy = factors["tumor"] + 0.8 * rng.standard_normal((400, 3))
    a, b, c = CORRELATION[:3, :3], CORRELATION[:3, 3:], CORRELATION[3:, 3:]
    left = a - b @ np.linalg.solve(c, b.T)  # covariance of the tumor factors given the others
    read = left @ np.linalg.solve(left + 0.64 * np.eye(3), left)
    expected = np.mean(np.diag(read) / np.diag(left))
    assert explained(noisy, factors["tumor"], factors["tme"]) == pytest.approx(expected, abs=0.06)
    wide = rng.standard_normal((60, 128))  # more columns than patients: the penalty must not overfit
    assert explained(wide, factors["tumor"][:60], factors["tme"][:60]) == pytest.approx(0, abs=0.08)


def test_differences_are_those_of_dmmls_paired_bootstrap():
    from ablation_measures import Resampled, difference

    from dmml.evaluation.bootstrap import paired_difference
    from dmml.evaluation.metrics import concordance_index

    time, event, a, b = _outcome(0)
    draws = Resampled({3: {"time": time, "event": event}}, 200)
    result = difference(draws.draws({3: a}), draws.draws({3: b}))
    expected = paired_difference(concordance_index, a, b, time, event, strata=event, n_resamples=200, seed=3)
    assert result.estimate == pytest.approx(expected.estimate, abs=1e-6)
    # Over seeds there is one patient-by-patient jackknife too few for corrected ends: plain percentiles, close to them.
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=0.03)


def test_seeds_have_equal_weight():
    from ablation_measures import Resampled

    from dmml.evaluation.metrics import concordance_index

    seeds = {seed: _outcome(seed) for seed in (4, 5)}
    draws = Resampled({s: {"time": x[0], "event": x[1]} for s, x in seeds.items()}, 50)
    result = draws.draws({s: x[2] for s, x in seeds.items()})
    assert result.by_seed == pytest.approx([concordance_index(*x[:3]) for x in seeds.values()])
    assert result.mean == pytest.approx(result.by_seed.mean())
    assert result.resampled.std() > 0


def _outcome(seed: int):
    rng = np.random.default_rng(seed)
    risk = rng.standard_normal(80)
    time, event = rng.exponential(np.exp(-risk)), (rng.random(80) < 0.7).astype(float)
    return time, event, risk + rng.standard_normal(80), rng.standard_normal(80)


def test_the_closed_share_of_the_gap_is_that_computed_by_hand():
    from ablation_measures import Draws, share_closed

    noise = np.linspace(-0.01, 0.01, 101)
    start, goal = Draws(np.array([0.6, 0.62]), 0.61 + noise), Draws(np.array([0.7, 0.72]), 0.71 + noise)
    reached = Draws(np.array([0.67, 0.69]), 0.68 + noise)
    assert share_closed(reached, start, goal) == pytest.approx((0.7, 0.7, 0.7))
    level = Draws(np.array([0.61, 0.615]), 0.6125 - 2 * noise)
    assert share_closed(reached, start, level) is None, "a gap that may be none has no share"


def test_the_summary_names_better_worse_and_failed_variants():
    from ablation_summary import figures, summarise
    from ablation_table import markdown

    truths, results = {}, {}
    allowed = {s: {"own": 0.5, "other": 0.0} for s in ("tumor", "tme")}
    ceilings = {reading: {"partial_r2": allowed, "partial_r2_shown": allowed} for reading in ("shown", "taught")}
    for seed in (0, 1):
        time, event, middling, useless = _outcome(seed)
        good = -np.argsort(np.argsort(time)).astype(float)
        truths[seed] = {"time": time, "event": event, "oracle": good, "slide_oracle": good, "ceilings": ceilings}
        risks_of = {
            "teacher": middling,
            "teacher-no-coordination": useless,
            "teacher-no-programs": good,
            "teacher-gated-pool": middling,
            "teacher-released-fusion": None,
            "student": middling,
            "student-undistilled": useless,
        }
        for name, risk in risks_of.items():
            results.setdefault(name, {})[seed] = _fit(risk)
    summary = summarise(results, truths)
    effects = {name: row["effect"] for name, row in summary["variants"].items()}
    assert effects["teacher-no-coordination"] == "contributes"
    assert effects["teacher-no-programs"] == "harms: better without"
    assert effects["teacher-gated-pool"] == "no difference shown"
    assert summary["variants"]["teacher-released-fusion"]["not_finite"] == [0, 1]
    reached = {row["asked"].split(",")[0]: row["reached"] for row in figures(summary)}
    assert reached["teacher: the default is best or within noise of the best"] is False
    assert reached["student: the default is best or within noise of the best"] is True
    assert reached["teacher"] is False, "own 0.8, other's 0.2"
    assert reached["student above the undistilled student"] is True
    oracle, low, default = (
        summary["references"]["slide-oracle"]["value"],
        *(summary["variants"][name]["c_index"]["value"] for name in ("student-undistilled", "student")),
    )
    assert summary["distillation"]["share_closed"]["value"] == pytest.approx((default - low) / (oracle - low))
    settings = {"train": 1, "val": 1, "test": 80, "visibility": 0.8, "width": 1, "epochs": 1, "batch_size": 1}
    settings |= {"nuisance": 1.0, "early_end": True}
    page = markdown({"command": "none", "settings": settings, **summary})
    assert "not finite (seed 0, 1)" in page
    assert "harms: better without" in page


def _fit(risk) -> dict:
    r2 = {s: {"own": 0.8, "other": 0.2} for s in ("tumor", "tme")}
    succeeded = risk is not None
    measured = {"risk": risk, "partial_r2": r2, "partial_r2_shown": r2} if succeeded else {}
    return {"finite": succeeded, "seconds": 1.0, "best_epoch": 3, "code": "x", **measured}


def test_the_expected_risk_is_the_mean_over_possible_factors():
    from known_factors import expected_log_hazard

    from dmml.simulate.truth import CORRELATION, log_hazard

    rng, visibility = np.random.default_rng(0), 0.5
    drawn = rng.standard_normal((400_000, 6)) @ np.linalg.cholesky(CORRELATION).T
    risk, visible = log_hazard(drawn), rng.standard_normal((4, 6))
    weight = np.exp(-((visible[:, None] - visibility * drawn) ** 2).sum(-1) / (2 * (1 - visibility**2)))
    expected = (weight * risk).sum(1) / weight.sum(1)
    expected_hazard = expected_log_hazard(visible, visibility)
    assert expected_hazard - expected_hazard[0] == pytest.approx(expected - expected[0], abs=0.05)
