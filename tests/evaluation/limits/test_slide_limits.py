"""A slide is compared with training slides that were left out of the fit, and 5 % of unseen ones exceed the threshold."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dmml.evaluation.limits.slide_distance import features_distance, fit_features, fit_stain, stain_distance
from dmml.evaluation.limits.slide_limits import fit_slide_limits, judge_slide
from dmml.evaluation.limits.slide_summary import SlideSummary, summarise_slide
from dmml.networks.packing import pack, unpack
from dmml.store import SlideFeatures

DIM = 24
MIXING = np.random.default_rng(7).normal(size=(4, DIM))


def slide(generator: np.random.Generator, shift: float = 0.0, dim: int = DIM) -> SlideSummary:
    """A slide of a population with four factors."""
    mixing = MIXING if dim == DIM else np.resize(MIXING, (4, dim))
    mean = {m: generator.normal(size=4) @ mixing + 0.4 * generator.normal(size=dim) + shift for m in (10, 20)}
    variance = {m: np.exp(0.2 * generator.normal()) * (1 + 0.1 * generator.random(dim)) for m in (10, 20)}
    tiles = int(generator.integers(30, 300))
    return SlideSummary(
        mean, variance, {10: tiles, 20: 4 * tiles}, generator.normal(size=6) * [1, 2, 0.1, 1, 1, 3], 0.5
    )


def population(n: int, seed: int = 0, **changes) -> tuple[list[str], list[SlideSummary]]:
    generator = np.random.default_rng(seed)
    return [f"P{i}" for i in range(n)], [slide(generator, **changes) for _ in range(n)]


@pytest.fixture(scope="module")
def limits():
    return fit_slide_limits(*population(80))


def parts_of_a_distance(part: dict, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """(coordinates on the axes, [log of the rest, log of the variance]), by least squares."""
    scale = np.array(part["scale"])
    z = np.clip((mean - part["centre"]) / scale, -10, 10)
    axes = np.array(part["axes"]).reshape(len(part["axis_std"]), -1)
    coordinates, *_ = np.linalg.lstsq(axes.T, z, rcond=None)
    rest = z - axes.T @ coordinates
    return coordinates / part["axis_std"], [np.log(np.mean(rest**2)), np.log(np.mean(variance / scale**2))]


def test_distances_of_training_slides_come_from_fits_without_their_fold():
    _, slides = population(30)
    fold = np.arange(30) % 5
    mean, variance = (np.stack([getattr(each, name)[10] for each in slides]) for name in ("mean", "variance"))
    rows = np.stack([each.stain for each in slides])
    _, distances = fit_features(mean, variance, fold)
    _, of_stain = fit_stain(rows, fold)
    parts = {k: fit_features(mean[fold != k], variance[fold != k], fold[fold != k])[0] for k in range(5)}
    separate = [parts_of_a_distance(parts[fold[i]], mean[i], variance[i]) for i in range(30)]
    for i, (coordinates, logs) in enumerate(separate):
        others = np.array([separate[j][1] for j in range(30) if fold[j] != fold[i]])
        typical = (np.array(logs) - others.mean(0)) / others.std(0, ddof=1)
        expected = np.sqrt(np.mean([*coordinates**2, *typical**2]))
        assert distances[i] == pytest.approx(expected, rel=1e-3)
        part, _ = fit_stain(rows[fold != fold[i]], fold[fold != fold[i]])
        assert of_stain[i] == pytest.approx(stain_distance(part, rows[i]))


def test_a_distance_counts_standard_deviations_along_axes_and_off_them():
    _, slides = population(200)
    mean, variance = (np.stack([getattr(each, name)[20] for each in slides]) for name in ("mean", "variance"))
    part, distances = fit_features(mean, variance, np.arange(200) % 10)
    assert np.sqrt(np.mean(distances**2)) == pytest.approx(1, abs=0.1)
    axes = np.array(part["axes"]).reshape(len(part["axis_std"]), DIM)
    coordinates, _ = parts_of_a_distance(part, mean[0], variance[0])
    for axis in (0, 3):
        along = mean[0] + 2 * part["axis_std"][axis] * axes[axis] * np.array(part["scale"])
        squares = [features_distance(part, each, variance[0]) ** 2 for each in (mean[0], along)]
        expected = ((coordinates[axis] + 2) ** 2 - coordinates[axis] ** 2) / (len(axes) + 2)
        assert squares[1] - squares[0] == pytest.approx(expected, abs=1e-3)


def test_on_average_5_percent_of_unseen_slides_exceed_the_threshold():
    unlike, warned = [], []
    for seed in range(40):
        fitted = fit_slide_limits(*population(60, seed))
        judged = [judge_slide(fitted, each) for each in population(50, 1000 + seed)[1]]
        unlike.append(np.mean([each.is_unlike for each in judged]))
        warned.append(np.mean([bool(each.warnings) for each in judged]))
    # The standard deviation between cohorts is about 3 points, so that of the mean is 0.5.
    assert np.mean(unlike) == pytest.approx(0.05, abs=0.017)
    assert np.mean(warned) <= 0.085


def test_a_slide_of_another_population_is_unlike_and_its_part_is_named(limits):
    usual = population(1, 5)[1][0]
    assert judge_slide(limits, usual).warnings == ()
    moved = replace(usual, mean=usual.mean | {20: usual.mean[20] + 4 * np.sign(MIXING[0] - MIXING[1])})
    judged = judge_slide(limits, moved)
    assert judged.is_unlike
    assert judged.largest_part == "the tile features at 20×"
    assert "unlike the training slides" in judged.warnings[0]
    assert "95 % of unseen training slides" in judged.warnings[0]
    stained = judge_slide(limits, replace(usual, stain=usual.stain + 30))
    assert stained.largest_part == "the stain"
    blank = replace(usual, variance={m: values * 1e-4 for m, values in usual.variance.items()})
    assert judge_slide(limits, blank).is_unlike


def test_parts_that_a_slide_lacks_are_left_out(limits):
    usual = population(1, 5)[1][0]
    judged = judge_slide(
        limits, replace(usual, stain=None, mean={10: usual.mean[10]}, variance={10: usual.variance[10]})
    )
    assert set(judged.parts) == {"10x"}


def test_little_tissue_and_another_scale_are_warned_of(limits):
    usual = population(1, 5)[1][0]
    fewest = min(each.tiles[10] for each in population(80)[1])
    assert limits["tiles"]["10"]["low"] == fewest
    assert judge_slide(limits, replace(usual, tiles={10: fewest, 20: 4})).warnings == ()
    [warning] = judge_slide(limits, replace(usual, tiles={10: fewest - 1, 20: 4})).warnings
    assert warning.startswith(f"The slide has little tissue: {fewest - 1} tiles at 10×")
    for mpp, n in ((0.5, 0), (0.45, 0), (0.59, 0), (0.25, 1), (1.0, 1)):
        warnings = judge_slide(limits, replace(usual, mpp=mpp)).warnings
        assert [text.split(":")[0] for text in warnings] == ["The slide was scanned at another scale"] * n
    [warning] = judge_slide(limits, replace(usual, mpp_is_stated=False)).warnings
    assert "does not state its scale" in warning


def test_too_few_patients_give_no_threshold_but_other_warnings():
    patients, slides = population(18)
    fitted = fit_slide_limits(patients, slides)
    assert fitted["threshold"] is None
    assert fitted["reason"] == "18 training patients with slides are too few for a threshold, 19 are needed"
    judged = judge_slide(fitted, replace(population(1, 5, shift=50)[1][0], tiles={10: 1, 20: 4}))
    assert judged.distance is None
    assert len(judged.warnings) == 1
    assert fit_slide_limits(*population(19))["threshold"] is not None
    # Two slides of a patient are no two patients.
    assert fit_slide_limits([*patients, *patients], [*slides, *slides])["threshold"] is None


def test_limits_survive_a_checkpoint_and_are_small():
    fitted = fit_slide_limits(*population(40, dim=2048))
    text = json.dumps(pack(fitted), allow_nan=False)
    assert len(text) < 1_000_000
    restored = unpack(json.loads(text))
    usual = population(1, 5, dim=2048)[1][0]
    assert judge_slide(restored, usual) == judge_slide(fitted, usual)


def test_a_summary_counts_all_tiles_and_reads_evenly_spaced_ones():
    features = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float16)
    bag = SlideFeatures(features, np.zeros((5000, 2), np.float32))
    summary = summarise_slide({10: bag, 20: None}, None, {"mpp": 0.25, "mpp_source": "--mpp"}, by_hand=("--mpp",))
    assert summary.tiles == {10: 5000, 20: 0}
    assert set(summary.mean) == {10}
    assert summary.mean[10] == pytest.approx(features.astype(float).mean(0), abs=0.05)
    assert summary.variance[10] == pytest.approx(features.astype(float).var(0), abs=0.1)
    assert (summary.mpp, summary.mpp_is_stated, summary.stain) == (0.25, False, None)
