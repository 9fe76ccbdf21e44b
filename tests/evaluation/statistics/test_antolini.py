"""Antolini's concordance against a loop over pairs, torchsurv, and Harrell's concordance where curves do not cross."""

import numpy as np
import pandas as pd
import pytest
import torch
from torchsurv.metrics.cindex import ConcordanceIndex

from dmml.evaluation import metrics
from dmml.evaluation.evaluate import survival_metrics
from dmml.evaluation.predictions import curve_at
from dmml.evaluation.statistics.antolini import antolini
from dmml.evaluation.statistics.weighted import estimate

DAYS = (200.0, 600.0, 1200.0, 2500.0)


def draw(n=70, seed=0, step=None, proportional=False):
    """Weibull curves of patients, which cross unless all have one shape; whole multiples of `step` days make ties."""
    generator = np.random.default_rng(seed)
    scale = 900 * np.exp(0.7 * generator.normal(size=n))
    shape = np.full(n, 1.3) if proportional else np.exp(0.5 * generator.normal(size=n))
    death = scale * generator.weibull(shape)
    censored = generator.uniform(100, 3000, n)
    time = np.minimum(death, censored)
    time = np.ceil(time / step) * step if step else time
    table = pd.DataFrame({"time": time, "event": (death <= censored).astype(int)})
    for day in DAYS:
        table[f"survival_{day:g}"] = np.exp(-((day / scale) ** shape)).round(2 if step else 12)
    return table


def slow(table, weights=None):
    """The definition, pair by pair."""
    time, event = table["time"].to_numpy(), table["event"].to_numpy()
    weights = np.ones(len(table)) if weights is None else weights
    top = bottom = 0.0
    for i in range(len(table)):
        if not event[i] or time[i] > DAYS[-1]:
            continue
        on_day = curve_at(table, [time[i]])[:, 0]
        for j in range(len(table)):
            if time[i] < time[j] or (time[i] == time[j] and not event[j]):
                bottom += weights[i] * weights[j]
                top += weights[i] * weights[j] * (1.0 if on_day[i] < on_day[j] else 0.5 * (on_day[i] == on_day[j]))
    return top / bottom


@pytest.mark.parametrize("step", [None, 150])
def test_it_is_the_share_of_pairs_in_the_order_of_survival_on_the_day_of_the_event(step):
    table = draw(step=step)
    weights = np.random.default_rng(1).integers(0, 3, len(table))
    assert estimate(antolini(table), len(table)) == pytest.approx(slow(table))
    assert antolini(table)(weights[None].astype(float))[0] == pytest.approx(slow(table, weights))


def test_it_is_torchsurvs_concordance_of_time_dependent_risks():
    table = draw()
    table = table[table["time"] <= DAYS[-1]].reset_index(drop=True)
    hazard = torch.tensor(-curve_at(table, table["time"]))
    event, time = torch.tensor(table["event"].to_numpy() > 0), torch.tensor(table["time"].to_numpy())
    reference = float(ConcordanceIndex()(hazard, event, time))
    assert estimate(antolini(table), len(table)) == pytest.approx(reference, abs=1e-6)


def test_it_agrees_with_harrells_concordance_only_where_curves_do_not_cross():
    parallel, crossing = draw(proportional=True), draw()
    for table, agree in ((parallel, True), (crossing, False)):
        seen = table[table["time"] <= DAYS[-1]].reset_index(drop=True)
        harrell = metrics.concordance_index(seen["time"], seen["event"], -seen["survival_600"])
        assert (estimate(antolini(seen), len(seen)) == pytest.approx(harrell)) is agree


def test_events_after_the_last_predicted_day_are_left_out_and_the_entry_states_the_day():
    table = draw().assign(patient_id=lambda t: t.index.astype(str), risk=0.0)
    short = table.drop(columns="survival_2500")
    assert ((table["time"] > 1200) & (table["event"] == 1)).any()
    assert survival_metrics(short, {})["c_index_antolini"]["tau"] == 1200
    cut = table.assign(event=table["event"] * (table["time"] <= 1200))
    assert estimate(antolini(short), len(short)) == pytest.approx(slow(cut))


def test_without_survival_curves_it_is_undefined_with_a_reason():
    table = draw()[["time", "event"]].assign(patient_id=lambda t: t.index.astype(str), risk=1.0)
    entry = survival_metrics(table, {})["c_index_antolini"]
    assert (entry["value"], entry["reason"]) == (None, "the model predicts no survival curve")
