"""Correlations of many genes against plain loops and scipy; false discoveries against their definition."""

import math

import numpy as np
import pytest
from scipy import stats

from dmml.evaluation import interval_settings
from dmml.evaluation.statistics.correlation import MIN_PATIENTS, benjamini_hochberg, correlations, permuted_ranks


def draw(n=40, genes=12, missing=0.2, seed=0):
    generator = np.random.default_rng(seed)
    score = generator.normal(size=n)
    columns = generator.normal(size=(n, genes)) + score[:, None] * generator.normal(size=genes)
    columns[generator.random((n, genes)) < missing] = np.nan
    score[3] = np.nan
    return columns, score


def one_by_one(column, score):
    """n, r, low, high and p of one gene: sums over patients, Fisher's transformation, and the t distribution."""
    pairs = [(x, y) for x, y in zip(column.tolist(), score.tolist(), strict=True) if x == x and y == y]
    n = len(pairs)
    mean_x, mean_y = (sum(pair[k] for pair in pairs) / n for k in (0, 1))
    xy = sum((x - mean_x) * (y - mean_y) for x, y in pairs)
    xx, yy = (sum((pair[k] - mean) ** 2 for pair in pairs) for k, mean in ((0, mean_x), (1, mean_y)))
    r = xy / math.sqrt(xx * yy)
    z = 0.5 * math.log((1 + r) / (1 - r))
    half = stats.norm.ppf(0.975) / math.sqrt(n - 3)
    low, high = ((math.exp(2 * end) - 1) / (math.exp(2 * end) + 1) for end in (z - half, z + half))
    return n, r, low, high, 2 * stats.t.sf(abs(r) * math.sqrt((n - 2) / (1 - r * r)), n - 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_every_number_is_that_of_a_loop_over_patients_and_of_scipy(missing, seed):
    columns, score = draw(missing=missing, seed=seed)
    result = correlations(1e5 + 1e-3 * columns, 1e8 * score - 7)  # neither scale nor origin matters
    assert (result.n >= 20).all()
    for g in range(columns.shape[1]):
        row = [values[g] for values in result]
        assert row == pytest.approx(one_by_one(columns[:, g], score), rel=1e-5)
        both = np.isfinite(columns[:, g]) & np.isfinite(score)
        of_scipy = stats.pearsonr(columns[both, g], score[both])
        assert [row[1], row[4]] == pytest.approx([of_scipy.statistic, of_scipy.pvalue], rel=1e-5)
        assert row[2:4] == pytest.approx(tuple(of_scipy.confidence_interval(0.95)), rel=1e-5)


def test_undefined_correlations_are_nan_and_perfect_ones_are_not():
    score = np.arange(20.0)
    columns = np.stack([np.full(20, 0.1), 2 * score, -score, np.where(score < MIN_PATIENTS - 1, score, np.nan)], axis=1)
    columns = np.column_stack([columns, np.full(20, np.nan)])
    result = correlations(columns, score)
    assert result.n.tolist() == [20, 20, 20, MIN_PATIENTS - 1, 0]
    assert result.r == pytest.approx([np.nan, 1, -1, np.nan, np.nan], nan_ok=True)
    assert result.low == pytest.approx([np.nan, 1, -1, np.nan, np.nan], nan_ok=True)
    assert result.p == pytest.approx([np.nan, 0, 0, np.nan, np.nan], nan_ok=True, abs=1e-12)
    assert np.isnan(correlations(columns, np.full(20, 0.3)).r).all()
    assert correlations(np.zeros((0, 2)), np.zeros(0)).n.tolist() == [0, 0]


def test_the_interval_follows_the_level_and_covers_the_true_correlation(monkeypatch):
    generator = np.random.default_rng(3)
    score = generator.normal(size=30)
    columns = 0.6 * score[:, None] + 0.8 * generator.normal(size=(30, 4000))
    # The score is the same for all genes: its own sum of squares is what r varies around.
    wide = correlations(columns, score)
    monkeypatch.setattr(interval_settings, "LEVEL", 0.5)
    narrow = correlations(columns, score)
    assert (narrow.low > wide.low).all()
    assert (narrow.high < wide.high).all()
    slope = 0.6 * score.std() / np.hypot(0.6 * score.std(), 0.8)
    assert np.mean((wide.low <= slope) & (slope <= wide.high)) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_false_discovery_rates_are_those_of_the_definition(seed):
    generator = np.random.default_rng(seed)
    p = np.round(generator.beta(0.4, 1, 25), 2)  # with ties
    q = benjamini_hochberg(p)
    assert q == pytest.approx(stats.false_discovery_control(p))
    ranked = sorted(p.tolist())
    for value, adjusted in zip(p, q, strict=True):
        later = [len(p) * other / (rank + 1) for rank, other in enumerate(ranked) if other >= value]
        assert adjusted == pytest.approx(min(1.0, min(later)))
    with_nan = np.concatenate([[np.nan], p, [np.nan]])
    assert benjamini_hochberg(with_nan) == pytest.approx([np.nan, *q, np.nan], nan_ok=True)
    assert benjamini_hochberg([]).tolist() == []


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_ranks_without_an_association_are_those_of_one_permutation_after_the_other(missing):
    columns, score = draw(missing=missing)
    low, high = permuted_ranks(5 + 1e3 * columns, score, permutations=25, seed=4)
    kept = np.flatnonzero(np.isfinite(score))
    generator = np.random.default_rng(4)
    ranked = []
    for _ in range(25):
        order = generator.permutation(len(kept))
        values = []
        for g in range(columns.shape[1]):
            pairs = [(columns[i, g], score[kept[k]]) for i, k in zip(kept, order, strict=True)]
            values.append(stats.pearsonr(*zip(*[pair for pair in pairs if pair[0] == pair[0]], strict=True)).statistic)
        ranked.append(sorted(values, reverse=True))
    assert low == pytest.approx(np.quantile(ranked, 0.025, axis=0))
    assert high == pytest.approx(np.quantile(ranked, 0.975, axis=0))


def test_ranks_of_genes_that_vary_together_cover_what_chance_gives():
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(60):
        together = generator.normal(size=(30, 1)) + 0.5 * generator.normal(size=(30, 40))
        score = generator.normal(size=30)
        low, high = permuted_ranks(together, score, permutations=100)
        middle = np.sort(correlations(together, score).r)[::-1][20]
        inside.append(low[20] <= middle <= high[20])
        apart = permuted_ranks(generator.normal(size=(30, 40)), score, permutations=100)
        assert high[20] - low[20] > 2 * (apart[1][20] - apart[0][20])
    assert np.mean(inside) > 0.85
    assert (np.diff(low) <= 0).all()
