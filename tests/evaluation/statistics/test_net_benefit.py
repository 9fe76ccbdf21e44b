"""Net benefit against dcurves and a slow independent form, and its bootstrap weights against repeated patients."""

from pathlib import Path

import dcurves
import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter

from dmml.evaluation.statistics.curves.net_benefit import (
    THRESHOLDS,
    class_net_benefit,
    survival_net_benefit,
)

TREAT_ALL = np.zeros(len(THRESHOLDS))
ONES = np.ones((1, 200))


def patients(n=200, seed=0, step=None):
    generator = np.random.default_rng(seed)
    risk = generator.beta(2, 3, n)
    death = generator.exponential(900 * (1.2 - risk))
    censored = generator.uniform(300, 2500, n)
    time = np.minimum(death, censored)
    time = np.ceil(time / step) * step if step else time
    return pd.DataFrame({"time": time, "event": (death <= censored).astype(int), "risk": risk.round(3)})


def of_dcurves(table, **options):
    """{model: net benefit at `THRESHOLDS`} of the column risk, of treating all, and of treating nobody."""
    result = dcurves.dca(data=table, outcome="event", modelnames=["risk"], thresholds=THRESHOLDS, **options)
    return {name: rows["net_benefit"].to_numpy(float) for name, rows in result.groupby("model", sort=False)}


def test_the_curve_of_a_class_is_that_of_dcurves():
    table = patients()
    reference = of_dcurves(table[["event", "risk"]])
    model = class_net_benefit(table["event"], table["risk"], THRESHOLDS, THRESHOLDS)(ONES)[0]
    everybody = class_net_benefit(table["event"], table["risk"], TREAT_ALL, THRESHOLDS)(ONES)[0]
    np.testing.assert_allclose(model, reference["risk"], atol=1e-12)
    np.testing.assert_allclose(everybody, reference["all"], atol=1e-12)


@pytest.mark.parametrize("step", [None, 100])
@pytest.mark.parametrize("day", [365.0, 1000.0])
def test_the_curve_at_a_horizon_is_that_of_dcurves(day, step):
    table = patients(step=step)
    reference = of_dcurves(table, time=day, time_to_outcome_col="time")
    outcome = table["time"], table["event"], table["risk"], day
    model = survival_net_benefit(*outcome, THRESHOLDS, THRESHOLDS)(ONES)[0]
    everybody = survival_net_benefit(*outcome, TREAT_ALL, THRESHOLDS)(ONES)[0]
    np.testing.assert_allclose(everybody, reference["all"], atol=1e-10)
    compared = np.isfinite(reference["risk"])
    assert compared.sum() > 30
    np.testing.assert_allclose(model[compared], reference["risk"][compared], atol=1e-10)
    # dcurves leaves out thresholds whose patients were all followed less long, even if all of them had died.
    for threshold, value in zip(THRESHOLDS[~compared], model[~compared], strict=True):
        treated = table[table["risk"] >= threshold]
        fitted = KaplanMeierFitter().fit(treated["time"], treated["event"])
        all_died = fitted.survival_function_.iloc[-1, 0] == 0
        assert np.isnan(value) != all_died
        if all_died:
            assert value == pytest.approx(len(treated) / len(table))


def test_the_curves_of_the_published_example_are_those_of_dcurves():
    """The 750 patients that come with dcurves, of whom the risk of cancer within 1.5 years is predicted."""
    table = pd.read_csv(Path(dcurves.__file__).parent / "data" / "df_surv.csv")
    options = {"data": table, "outcome": "cancer", "modelnames": ["cancerpredmarker"], "thresholds": THRESHOLDS}
    reference = dcurves.dca(**options, time=1.5, time_to_outcome_col="ttcancer")
    reference = reference.loc[reference["model"] == "cancerpredmarker", "net_benefit"].to_numpy(float)
    outcome = table["ttcancer"], table["cancer"], table["cancerpredmarker"]
    ours = survival_net_benefit(*outcome, 1.5, THRESHOLDS, THRESHOLDS)(np.ones((1, len(table))))[0]
    compared = np.isfinite(reference)
    assert compared.sum() > 20
    np.testing.assert_allclose(ours[compared], reference[compared], atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_a_weight_counts_a_patient_that_often(seed):
    table = patients(n=80, seed=seed, step=50)
    weights = np.random.default_rng(seed).integers(0, 4, len(table))
    drawn = table.loc[np.repeat(table.index, weights)]
    ones = np.ones((1, len(drawn)))
    for make in (
        lambda t: class_net_benefit(t["event"], t["risk"], THRESHOLDS, THRESHOLDS),
        lambda t: survival_net_benefit(t["time"], t["event"], t["risk"], 700.0, THRESHOLDS, THRESHOLDS),
    ):
        np.testing.assert_allclose(make(table)(weights[None].astype(float))[0], make(drawn)(ones)[0], atol=1e-10)


def test_nobody_treated_has_no_benefit_and_a_short_follow_up_is_undefined():
    table = patients()
    outcome = table["time"], table["event"], table["risk"] * 0.5
    assert survival_net_benefit(*outcome, 365.0, THRESHOLDS, THRESHOLDS)(ONES)[0, -1] == 0
    after = table["time"].max() + 1
    alive = table["event"] * (table["time"] < 1000)
    assert np.isnan(survival_net_benefit(table["time"], alive, table["risk"], after, TREAT_ALL, THRESHOLDS)(ONES)).all()
