"""Factors in embeddings and paired resamples, compared with cases by hand, closed forms, and dmml's paired bootstrap."""

import numpy as np
import pytest


@pytest.fixture
def factors():
    from dmml.simulate.truth import CORRELATION

    drawn = np.random.default_rng(0).standard_normal((400, 6)) @ np.linalg.cholesky(CORRELATION).T
    return {"tumor": drawn[:, :3], "tme": drawn[:, 3:]}


def test_an_embedding_of_its_own_factors_has_partial_r2_of_one_and_zero(factors):
    from worlds_factors import partial_r2

    mixed = {s: values @ np.random.default_rng(1).standard_normal((3, 40)) for s, values in factors.items()}
    for of in partial_r2(mixed, factors).values():
        assert of["own"] > 0.999
        assert abs(of["other"]) < 0.02
    swapped = partial_r2({"tumor": mixed["tme"], "tme": mixed["tumor"]}, factors)
    for of in swapped.values():
        assert abs(of["own"]) < 0.02
        assert of["other"] > 0.999


def test_partial_r2_is_that_of_the_closed_form_and_zero_for_noise(factors):
    from worlds_factors import explained

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


@pytest.mark.slow
def test_the_factors_of_a_world_are_those_of_its_patients_and_of_their_slides(tmp_path):
    from worlds_data import Setup, read_world
    from worlds_factors import ceilings

    from dmml.simulate.truth import visible_factors

    world = read_world("shared", 40, 1, Setup(60, 16, 1), tmp_path)
    for i, patient in enumerate(world.test):
        simulated = world.simulated[patient]
        assert world.factors()["tme"][i] == pytest.approx(simulated.factors[3:], abs=1e-5)
        visible = np.mean([visible_factors(simulated, k, 0.8) for k in range(len(simulated.slides))], axis=0)
        assert world.visible_factors()["tumor"][i] == pytest.approx(visible[:3])
    limits = ceilings(world)
    for s in ("tumor", "tme"):
        assert limits["shown"]["shown"][s]["own"] > 0.99, "what a slide shows tells itself"
        assert limits["shown"]["true"][s]["own"] < 0.9, "a correlation of 0.8 does not tell the factor"
        assert limits["taught"]["true"][s]["own"] < limits["shown"]["true"][s]["own"]


def test_differences_are_those_of_dmmls_paired_bootstrap():
    from paired_resamples import Resampled, difference

    from dmml.evaluation.bootstrap import paired_difference
    from dmml.evaluation.metrics import concordance_index

    time, event, a, b = _outcome(0)
    draws = Resampled({3: {"time": time, "event": event}}, 200)
    result = difference(draws.draws({3: a}), draws.draws({3: b}))
    expected = paired_difference(concordance_index, a, b, time, event, strata=event, n_resamples=200, seed=3)
    assert result.estimate == pytest.approx(expected.estimate, abs=1e-6)
    # Over seeds there is one patient-by-patient jackknife too few for corrected ends: plain percentiles, close to them.
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=0.03)


def test_seeds_have_equal_weight_and_may_be_a_part_of_those_that_are_resampled():
    from paired_resamples import Resampled

    from dmml.evaluation.metrics import concordance_index

    seeds = {seed: _outcome(seed) for seed in (4, 5)}
    draws = Resampled({s: {"time": x[0], "event": x[1]} for s, x in seeds.items()}, 50)
    result = draws.draws({s: x[2] for s, x in seeds.items()})
    assert result.by_seed == pytest.approx([concordance_index(*x[:3]) for x in seeds.values()])
    assert result.mean == pytest.approx(result.by_seed.mean())
    assert result.resampled.std() > 0
    one = draws.draws({5: seeds[5][2]})
    assert one.mean == pytest.approx(concordance_index(*seeds[5][:3]))


def _outcome(seed: int):
    rng = np.random.default_rng(seed)
    risk = rng.standard_normal(80)
    time, event = rng.exponential(np.exp(-risk)), (rng.random(80) < 0.7).astype(float)
    return time, event, risk + rng.standard_normal(80), rng.standard_normal(80)


def test_the_expected_risk_is_the_mean_over_possible_factors():
    from dmml.simulate.truth import CORRELATION, log_hazard
    from dmml.simulate.world_patients import expected_log_hazard

    rng, visibility = np.random.default_rng(0), 0.5
    drawn = rng.standard_normal((400_000, 6)) @ np.linalg.cholesky(CORRELATION).T
    risk, visible = log_hazard(drawn), rng.standard_normal((4, 6))
    weight = np.exp(-((visible[:, None] - visibility * drawn) ** 2).sum(-1) / (2 * (1 - visibility**2)))
    expected = (weight * risk).sum(1) / weight.sum(1)
    expected_hazard = expected_log_hazard(visible, visibility)
    assert expected_hazard - expected_hazard[0] == pytest.approx(expected - expected[0], abs=0.05)
