"""Recomputes `crossval.json` from `oof_predictions.csv`, the curves of each fold and the clinical table, by plain code."""

import json
import math
from functools import cached_property

import numpy as np
import pandas as pd
import pytest
from recomputed import (
    bootstrap,
    class_metrics,
    cox,
    draws,
    hazard_ratio,
    holm,
    resampled_t,
    shared_logits,
    survival_metrics,
    survival_on,
)
from scipy.stats import chi2

NEAR = {"rel": 1e-4, "abs": 2e-4}
CLASSES = ["G2", "G3", "G4"]


class FoldOfModel:
    """One fold's model on its test patients: rows with known outcome, and what was fitted on its training patients."""

    def __init__(self, folder, model, unit, table, outcome, row_of):
        fold_folder = folder / f"repeat_{unit['repeat']}" if unit["repeat"] else folder
        fold_folder = fold_folder / f"fold_{unit['fold']}"
        seeded = fold_folder / f"seed_{unit['seed']}" / model
        fold_folder = seeded if unit["seed"] and seeded.is_dir() else fold_folder / model
        self.context = json.loads((fold_folder / "context.json").read_text())
        counts = json.loads((fold_folder / "done.json").read_text())["patients"]
        self.share = counts["test"] / (counts["train"] + counts["val"])
        self.fold, self.first = unit["fold"], unit["repeat"] == unit["seed"] == 0
        self.repeat = unit["repeat"]
        predictions = table[(table["model"] == model) & (table[list(unit)] == list(unit.values())).all(axis=1)]
        assert predictions["patient_id"].is_unique
        predictions = with_own_curves(predictions, fold_folder)
        joined = predictions.drop(columns=outcome.columns).join(outcome, on="patient_id").dropna(subset=outcome.columns)
        self.rows = joined.to_dict("records")
        self.index = np.array([row_of[row["patient_id"]] for row in self.rows])

    @cached_property
    def metrics(self):
        """{metric: function of the weights of these patients}."""
        if "label" in self.rows[0]:
            return class_metrics(*labelled(self.rows))
        return survival_metrics([self.rows], [self.context])

    @cached_property
    def values(self):
        """{metric: value}, None where undefined."""
        values = {name: metric(np.ones(len(self.rows))) for name, metric in self.metrics.items()}
        if "label" not in self.rows[0] and sum(row["event"] for row in self.rows) < 2:
            values = dict.fromkeys(values)
        return {name: None if value is None or math.isnan(value) else value for name, value in values.items()}


def with_own_curves(predictions, fold_folder):
    """The rows with the survival that the fold's own folder keeps, from which their common days must follow."""
    kept = pd.read_csv(fold_folder / "predictions.csv", dtype={"patient_id": str}).set_index("patient_id")
    kept = kept[[name for name in kept if name.startswith("survival_")]]
    common = [name for name in predictions if name.startswith("survival_")]
    assert set(common) <= {"survival_365", "survival_1095", "survival_1825"}
    for row in predictions.to_dict("records"):
        curve = kept.loc[row["patient_id"]].to_dict()
        for name in common:
            expected = survival_on(curve, float(name.split("_")[1]))  # NaN beyond the end
            assert row[name] == pytest.approx(expected, rel=1e-6, nan_ok=True)
    return predictions.drop(columns=common).join(kept, on="patient_id")


def labelled(rows):
    """Class indices and probabilities."""
    label = np.array([CLASSES.index(row["label"]) for row in rows])
    return label, np.array([[row[f"prob_{name}"] for name in CLASSES] for row in rows])


def check_every_number(folder, clinical):
    """Folds, mean, spread, pooled value and interval of every metric, every comparison, and every likelihood ratio."""
    content = json.loads((folder / "crossval.json").read_text())
    survival = content["task"] == "survival"
    columns = {"os_days": "time", "os_event": "event"} if survival else {"grade": "label"}
    outcome = pd.read_csv(clinical, dtype={"patient_id": str}).drop_duplicates("patient_id")
    outcome = outcome.set_index("patient_id")[list(columns)].rename(columns=columns)
    table = pd.read_csv(folder / "oof_predictions.csv", dtype={"patient_id": str})
    ids = sorted(set(table["patient_id"]) & set(outcome.dropna().index))
    assert content["patients"] == len(ids)
    row_of = {patient: i for i, patient in enumerate(ids)}
    units = {
        name: [FoldOfModel(folder, name, unit, table, outcome, row_of) for unit in content["units"]]
        for name in content["models"]
    }
    weights = draws(strata(next(iter(units.values())), outcome.loc[ids], survival))
    free = draws(strata(next(iter(units.values())), outcome.loc[ids].assign(event=0, label=0), survival))
    pooled = {name: pooled_metrics(folds) for name, folds in units.items()}
    values = {name: [unit.values for unit in folds] for name, folds in units.items()}
    for name, entries in content["models"].items():
        assert set(entries) == set().union(*values[name])
        for metric, entry in entries.items():
            folds = [row.get(metric) for row in values[name]]
            where, drawn = [(u.repeat, u.fold) for u in units[name]], free if metric == "ibs" else weights
            check_metric(entry, folds, where, pooled[name].get(metric), drawn)
    if survival:
        check_hazard_ratios(content["hazard_ratio"], units)
    main = content["primary_metric"]
    check_pairs(content["paired"], {n: p[main] for n, p in pooled.items()}, values, units, main, weights)
    if "clinical" in units:
        check_added(content["added_to_clinical"], units, survival)


def strata(units, outcome, survival):
    """Outcome and fold of each patient; the outcome alone where a patient is tested in several folds."""
    outcomes = outcome["event" if survival else "label"].tolist()
    once = len({unit.repeat for unit in units}) == 1
    fold = {i: unit.fold for unit in units for i in unit.index}
    keys = [(word, fold[i]) if once else (word,) for i, word in enumerate(outcomes)]
    code = {key: i for i, key in enumerate(sorted(set(keys)))}
    return [code[key] for key in keys]


def check_metric(entry, folds, where, metric, weights):
    """One metric of one model; mean and spread are those of the folds, after the seeds of each are averaged."""
    assert entry["folds"] == [None if value is None else pytest.approx(value, **NEAR) for value in folds]
    table = pd.DataFrame({"fold": where, "value": pd.Series(folds, dtype=float)}).dropna()
    defined = table.groupby("fold")["value"].mean().tolist()
    assert entry["mean"] == (pytest.approx(np.mean(defined), **NEAR) if defined else None)
    assert entry["sd"] == (pytest.approx(np.std(defined, ddof=1), **NEAR) if len(defined) > 1 else None)
    pooled = tuple(entry["pooled"][key] for key in ("value", "low", "high"))
    if pooled == (None, None, None):
        assert metric is None or math.isnan(metric(np.ones(weights.shape[1])))
    else:
        assert pooled == pytest.approx(bootstrap(metric, weights)[:3], **NEAR)


def check_hazard_ratios(entries, units):
    """Hazard ratio of every model on the first repeat and seed, each fold cut at its own training median."""
    assert set(entries) == set(units)
    for name, folds in units.items():
        seen, rows = set(), []
        for fold in (unit for unit in folds if unit.first):
            rows += [(fold, row) for row in fold.rows if row["patient_id"] not in seen]
            seen |= {row["patient_id"] for row in fold.rows}
        columns = [
            (row["time"], row["event"], row["risk"] > fold.context["median_risk"], fold.fold) for fold, row in rows
        ]
        entry = entries[name]
        assert (entry["n"], entry["events"]) == (len(rows), sum(row["event"] for _, row in rows))
        assert len(entry["folds"]) == len(folds)
        if entry["value"] is None:
            assert entry["reason"]
        else:
            expected = hazard_ratio(*zip(*columns, strict=True))
            assert [entry[key] for key in ("value", "low", "high", "p")] == pytest.approx(expected, rel=1e-4), name


def pooled_metrics(units):
    """{metric: function of the weights of all patients}: no pair crosses a fold, a repeat or a seed."""
    if "label" in units[0].rows[0]:
        index = np.concatenate([unit.index for unit in units])
        label, probability = (np.concatenate(part) for part in zip(*(labelled(u.rows) for u in units), strict=True))
        group = np.concatenate([np.full(len(unit.index), k) for k, unit in enumerate(units)])
        class_values = class_metrics(label, probability, group)
        return {name: (lambda weights, metric=metric: metric(weights[index])) for name, metric in class_values.items()}
    metrics = {}
    for metric in dict.fromkeys(name for unit in units for name in unit.values):
        defined = [u for u in units if metric == "c_index" or u.values.get(metric) is not None]
        if defined:
            metrics[metric] = _sum_over(defined, metric)
    return metrics


def _sum_over(units, metric):
    """Numerators and denominators add up over the folds."""
    parts = [(unit.index, unit.metrics[metric]) for unit in units]

    def value(weights):
        top, bottom = (sum(side) for side in zip(*(part.sums(weights[index]) for index, part in parts), strict=True))
        return top / bottom if bottom > 0 else math.nan

    return value


def check_pairs(rows, pooled, values, units, metric, weights):
    """Differences on the same draws, their p, Holm's and the corrected resampled test's."""
    ps, resampled = [], []
    for row in rows:
        a, b = row["a"], row["b"]
        interval = bootstrap(lambda w, a=a, b=b: pooled[a](w) - pooled[b](w), weights)
        assert (row["difference"], row["low"], row["high"]) == pytest.approx(interval[:3], **NEAR), (a, b)
        assert row["p"] == pytest.approx(interval[3], rel=0.02, abs=0.002), (a, b)
        by_fold = {}
        for unit, one, other in zip(units[a], values[a], values[b], strict=True):
            if None not in (one[metric], other[metric]):
                by_fold.setdefault((unit.repeat, unit.fold), []).append(one[metric] - other[metric])
        means = [np.mean(differences) for differences in by_fold.values()]
        if len(means) < 2 or np.ptp(means) == 0:
            assert row["p_resampled"] is None
        else:
            share = np.mean([unit.share for unit in units[a]])
            assert row["p_resampled"] == pytest.approx(resampled_t(means, share), rel=1e-3)
        if not row["primary"]:
            ps.append(row["p"])
            resampled.append(math.nan if row["p_resampled"] is None else row["p_resampled"])
    adjusted = [row["p_resampled_holm"] for row in rows if not row["primary"]]
    defined = [p for p in resampled if not math.isnan(p)]
    assert [p for p in adjusted if p is not None] == pytest.approx(holm(defined))
    assert [p is None for p in adjusted] == [math.isnan(p) for p in resampled]
    assert [row["p_holm"] for row in rows if not row["primary"]] == pytest.approx(holm(ps))


def check_added(added, units, survival):
    """Likelihood-ratio tests beside the clinical covariates, on the first repeat and seed."""
    for name, row in added.items():
        sides = [[unit for unit in units[one] if unit.first] for one in ("clinical", name)]
        ratio, coefficient = (_cox_gain if survival else _logit_gain)(*sides)
        assert row["chi2"] == pytest.approx(ratio, rel=5e-3, abs=5e-3), name
        assert row["coefficient"] == pytest.approx(coefficient, rel=2e-2, abs=5e-3), name
        assert row["p"] == pytest.approx(chi2.sf(row["chi2"], 1))
        assert row["n"] == sum(len(unit.rows) for unit in sides[0])
    assert [row["p_holm"] for row in added.values()] == pytest.approx(holm([f["p"] for f in added.values()]))


def _cox_gain(clinical, model):
    scores = []
    for side in (clinical, model):
        risks = [np.array([row["risk"] for row in unit.rows]) for unit in side]
        scores.append(np.concatenate([(risk - risk.mean()) / (risk.std() or 1.0) for risk in risks]))
    rows = [row for unit in clinical for row in unit.rows]
    fold = np.concatenate([np.full(len(unit.rows), unit.fold) for unit in clinical])
    time, event = (np.array([row[name] for row in rows]) for name in ("time", "event"))
    _, _, alone = cox(scores[0][:, None], time, event, fold)
    both, _, joined = cox(np.column_stack(scores), time, event, fold)
    return max(0.0, 2 * (joined - alone)), both[1]


def _logit_gain(clinical, model):
    logs = []
    for side in (clinical, model):
        label, probability = labelled([row for unit in side for row in unit.rows])
        log = np.log(probability.clip(1e-6))
        logs.append(log - log.mean(1, keepdims=True))
    alone, _ = shared_logits(logs[:1], label)
    both, weights = shared_logits(logs, label)
    return max(0.0, 2 * (both - alone)), weights[-1]
