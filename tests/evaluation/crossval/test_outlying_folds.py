"""Folds in which a model does far worse, or better, than in its others."""

import pytest

from dmml.evaluation.crossval.outlying_folds import outlying_folds


def units(*folds, seeds=1, repeats=1):
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


def test_a_fold_that_failed_is_named_with_what_the_others_reach():
    [found] = outlying_folds(units(0, 1, 2, 3, 4), entries(0.70, 0.66, 0.431, 0.72, 0.75))
    assert found["fold"] == 2
    assert found["value"] == 0.431
    assert found["median"] == pytest.approx(0.71)
    assert (found["lowest"], found["highest"]) == (0.66, 0.75)


@pytest.mark.parametrize(
    ("values", "width"),
    [
        ((0.70, 0.66, 0.58, 0.72, 0.75), 0.1),  # a little lower is no failure
        ((0.70, 0.66, 0.45, 0.72, 0.75), 0.5),  # so few patients that chance does as much
        ((0.7, 0.4), 0.1),  # of two folds nobody can say which one lies apart
        ((0.7, 0.7, None), 0.1),
        ((0.55, 0.5, 0.45, 0.6, 0.52), 0.2),  # the whole model failed, no fold of it
    ],
)
def test_folds_that_differ_as_folds_do_are_not_named(values, width):
    assert outlying_folds(units(*range(len(values))), entries(*values, width=width)) == []


def test_folds_are_compared_within_their_repeat_and_seeds_count_as_one():
    told = entries(0.7, 0.7, 0.72, 0.71, 0.3, 0.74, *[0.45] * 6)
    [found] = outlying_folds(units(0, 1, 2, seeds=2, repeats=2), told)
    assert (found["repeat"], found["fold"], found["seed"]) == (0, 2, 0)
    assert found["median"] == pytest.approx((0.7 + 0.715) / 2)


def test_the_farthest_comes_first():
    found = outlying_folds(units(0, 1, 2, 3, 4), entries(0.9, 0.7, 0.7, 0.7, 0.4, width=0.1))
    assert [one["fold"] for one in found] == [4, 0]
