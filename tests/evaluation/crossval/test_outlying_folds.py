"""Folds in which a model does far worse, or better, than in its others."""

import pytest

from dmml.evaluation.crossval.outlying_folds import outlying_folds


def fits(*folds, seeds=1, repeats=1):
    return [
        {"repeat": repeat, "fold": fold, "seed": seed}
        for repeat in range(repeats)
        for fold in folds
        for seed in range(seeds)
    ]


def entries(*values, width=0.2):
    return [
        {"value": value, "low": None if value is None else value - width / 2, "high": None if value is None else value + width / 2}
        for value in values
    ]  # fmt: skip


def test_an_outlying_fold_is_returned_with_the_values_of_the_others():
    [outlier] = outlying_folds(fits(0, 1, 2, 3, 4), entries(0.70, 0.66, 0.431, 0.72, 0.75))
    assert outlier["fold"] == 2
    assert outlier["value"] == 0.431
    assert outlier["median"] == pytest.approx(0.71)
    assert (outlier["lowest"], outlier["highest"]) == (0.66, 0.75)


@pytest.mark.parametrize(
    ("values", "width"),
    [
        ((0.70, 0.66, 0.58, 0.72, 0.75), 0.1),  # only a little lower
        ((0.70, 0.66, 0.45, 0.72, 0.75), 0.5),  # so few patients that chance explains it
        ((0.7, 0.4), 0.1),  # two folds: neither can be called the outlier
        ((0.7, 0.7, None), 0.1),
        ((0.55, 0.5, 0.45, 0.6, 0.52), 0.2),  # the model fails in all folds
    ],
)
def test_ordinary_differences_between_folds_are_not_outliers(values, width):
    assert outlying_folds(fits(*range(len(values))), entries(*values, width=width)) == []


def test_folds_are_compared_within_their_repeat_and_seeds_count_as_one():
    values = entries(0.7, 0.7, 0.72, 0.71, 0.3, 0.74, *[0.45] * 6)
    [outlier] = outlying_folds(fits(0, 1, 2, seeds=2, repeats=2), values)
    assert (outlier["repeat"], outlier["fold"], outlier["seed"]) == (0, 2, 0)
    assert outlier["median"] == pytest.approx((0.7 + 0.715) / 2)


def test_the_most_extreme_fold_comes_first():
    outliers = outlying_folds(fits(0, 1, 2, 3, 4), entries(0.9, 0.7, 0.7, 0.7, 0.4, width=0.1))
    assert [one["fold"] for one in outliers] == [4, 0]
