"""What a model adds to clinical covariates, by a likelihood ratio."""

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from survival_rows import survival_rows

from dmml.evaluation.statistics.added_value import added_to_classes, added_to_hazard


def test_added_value_is_the_likelihood_ratio_of_lifelines():
    x, time, event = survival_rows(90, 2, strength=0.7)
    table = pd.DataFrame({"time": time, "event": event, "a": x[:, 0], "b": x[:, 1], "fold": np.arange(90) % 3})
    folds = [part for _, part in table.groupby("fold")]
    result = added_to_hazard(
        [part.rename(columns={"a": "risk"}) for part in folds],
        [part.rename(columns={"b": "risk"}) for part in folds],
    )
    for name in "ab":
        table[name] = table.groupby("fold")[name].transform(lambda v: (v - v.mean()) / v.std(ddof=0))
    fits = [
        CoxPHFitter().fit(table[[*names, "time", "event", "fold"]], "time", "event", strata="fold")
        for names in ("a", "ab")
    ]
    assert result["chi2"] == pytest.approx(2 * (fits[1].log_likelihood_ - fits[0].log_likelihood_), rel=1e-3)
    assert result["coefficient"] == pytest.approx(fits[1].params_["b"], rel=1e-3)
    assert result["p"] < 0.001


def test_added_value_is_defined_for_class_probabilities():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 100)
    truth, noise = (label + rng.normal(size=100) * 0.8), rng.normal(size=100)

    def tables(score):
        p = 1 / (1 + np.exp(-score))
        table = pd.DataFrame({"label": np.array(["a", "b"])[label], "prob_a": 1 - p, "prob_b": p})
        return [table[:50], table[50:]]

    assert added_to_classes(tables(noise), tables(truth), ["a", "b"])["p"] < 1e-4
    assert added_to_classes(tables(truth), tables(noise), ["a", "b"])["p"] > 0.05
