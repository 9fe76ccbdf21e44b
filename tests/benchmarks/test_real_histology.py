"""The benchmark on real histology: its paired intervals, its models by hand, its cohorts and its page."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from lifelines.utils import concordance_index
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score


def outcome_of(n, folds=2, seed=0):
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "fold": np.arange(n) % folds,
            "time": random.exponential(size=n).round(1),
            "event": random.integers(0, 2, n),
            "label": random.integers(0, 2, n) * 1.0,
            "measured": random.normal(size=n),
        },
        index=[f"P{i}" for i in range(n)],
    )


@pytest.mark.parametrize("folds", [1, 3])
def test_metrics_are_those_of_the_libraries_and_pairs_are_within_folds(folds):
    from paired_intervals import figures

    outcome = outcome_of(60, folds)
    prediction = pd.Series(np.random.default_rng(1).normal(size=60).round(1), outcome.index)

    def of(score):
        return figures({"m": prediction}, outcome, score, [])["models"]["m"]["value"]

    assert of("spearman") == pytest.approx(spearmanr(prediction, outcome["measured"])[0])
    assert of("accuracy") == pytest.approx(((prediction > 0.5) == (outcome["label"] > 0.5)).mean())
    parts = [rows for _, rows in outcome.groupby("fold")]
    pairs = [rows["label"].sum() * (1 - rows["label"]).sum() for rows in parts]
    aucs = [roc_auc_score(rows["label"], prediction[rows.index]) for rows in parts]
    assert of("auc") == pytest.approx(np.average(aucs, weights=pairs))
    if folds == 1:
        wanted = concordance_index(outcome["time"], -prediction, outcome["event"])
        assert of("concordance") == pytest.approx(wanted, abs=0.01)  # they differ in the treatment of ties of time


def test_a_paired_difference_is_narrower_than_its_parts_and_uses_common_patients():
    from paired_intervals import figures

    outcome = outcome_of(200)
    one = pd.Series(outcome["measured"] + np.random.default_rng(2).normal(size=200), outcome.index)
    other = one + 0.05 * np.random.default_rng(3).normal(size=200)
    result = figures({"a": one, "b": other.iloc[10:]}, outcome, "spearman", [("a", "b"), ("a", "nowhere")])
    assert result["patients"] == 190
    (pair,) = result["paired"]
    assert pair["low"] < pair["difference"] < pair["high"]
    assert pair["high"] - pair["low"] < 0.3 * (result["models"]["a"]["high"] - result["models"]["a"]["low"])
    assert result["models"]["a"]["low"] < result["models"]["a"]["value"] < result["models"]["a"]["high"]


def test_repeats_do_not_narrow_an_interval():
    """Rows of several repeats are the same patients, so three copies have the interval of one."""
    from paired_intervals import figures

    outcome = outcome_of(100, folds=1)
    prediction = pd.Series((outcome["label"] + np.random.default_rng(4).normal(0, 0.6, 100)), outcome.index)
    once = figures({"m": prediction}, outcome, "accuracy", [])["models"]["m"]
    copies = [outcome.assign(patient=outcome.index, fold=r).rename(lambda p, r=r: f"{r}|{p}") for r in range(3)]
    thrice = pd.concat([prediction.rename(lambda p, r=r: f"{r}|{p}") for r in range(3)])
    result = figures({"m": thrice}, pd.concat(copies), "accuracy", [])["models"]["m"]
    assert result["value"] == pytest.approx(once["value"])
    assert result["high"] - result["low"] == pytest.approx(once["high"] - once["low"], abs=0.02)


@pytest.mark.slow
def test_ridge_models_find_a_signal_and_none_in_noise():
    import real_histology_by_hand as by_hand
    from paired_intervals import figures

    random = np.random.default_rng(0)
    x = pd.DataFrame(random.normal(size=(240, 60)), index=[f"P{i}" for i in range(240)])
    x.iloc[::7, 3] = np.nan
    truth = x.fillna(0)[[0, 1, 2]].sum(axis=1)
    folds = [([p for i, p in enumerate(x.index) if i % 4 != k], [p for i, p in enumerate(x.index) if i % 4 == k]) for k in range(4)]  # fmt: skip
    fold = pd.Series(np.arange(240) % 4, x.index)
    shuffled = pd.Series(random.permutation(truth), x.index)
    for target, low, high in ((truth, 0.8, 1.0), (shuffled, -0.2, 0.2)):
        outcome = pd.DataFrame({"measured": target, "fold": fold})
        outcome["label"] = (target > 0) * 1.0
        result = figures({"r": by_hand.ridge(x, target, folds)}, outcome, "spearman", [])["models"]["r"]["value"]
        assert low <= result <= high
        label = outcome["label"].map({0.0: "a", 1.0: "b"})
        result = figures({"r": by_hand.ridge_logistic(x, label, folds)}, outcome, "auc", [])["models"]["r"]["value"]
        assert 0.5 + 0.4 * low - 0.05 <= result <= 0.5 + 0.5 * high + 0.05
    survival = pd.DataFrame({"time": random.exponential(np.exp(-truth)), "event": 1, "fold": fold})
    x[[0, 1, 2]] *= 2  # components must find them
    risk = by_hand.ridge_cox(x, survival[["time", "event"]], folds[:1])
    assert figures({"r": risk}, survival, "concordance", [])["models"]["r"]["value"] > 0.65


@pytest.mark.slow
def test_musk1_runs_through_the_commands_onto_the_page(shared_data, tmp_path, monkeypatch):
    import json

    import real_histology

    once = real_histology.COHORTS["musk1"]
    monkeypatch.setitem(real_histology.COHORTS, "musk1", lambda work, data: replace(once(work, data), repeats=1))
    words = ["--data", str(shared_data), "--part", "musk1", "--work", str(tmp_path / "work"), "--out", str(tmp_path)]
    real_histology.main([*words, "--ridge-only"])
    text = (tmp_path / "real_histology.md").read_text()
    assert "Networks: 0 of 10 folds" in text
    assert "gated attention | 0.900" in text
    result = json.loads((tmp_path / "real_histology.json").read_text())["musk1"]["classes"]
    assert result["accuracy"]["patients"] == 92
    assert 0.75 < result["accuracy"]["models"]["ridge"]["value"] < 0.95


@pytest.mark.slow
def test_ridge_predicts_programs_from_the_histology_of_luad(shared_data, tmp_path):
    """Simple models reach 0.56 (immune) on these tables, and less if the rows are permuted."""
    import real_histology_by_hand as by_hand
    import real_rna_by_hand as rna_by_hand
    from paired_intervals import figures
    from real_histology import fold_of
    from real_histology_cohorts import MCAT, luad

    from dmml.cohort.gene_sets.gene_sets import read_gene_sets

    cohort = luad(tmp_path, shared_data)
    cohort.write()
    means, folds = by_hand.one_per_patient(cohort.vectors()), cohort.folds()[0]
    assert means.shape == (444, 607)
    genes = rna_by_hand.expression(shared_data / MCAT)
    immune = [f"{gene}_rnaseq" for gene in read_gene_sets(None)["tme"]["ESTIMATE_IMMUNE"]]
    measured = genes[[gene for gene in immune if gene in genes]].mean(axis=1)
    outcome = pd.DataFrame({"measured": measured, "fold": fold_of(folds)}).dropna()
    shuffled = pd.DataFrame(np.random.default_rng(0).permutation(means), means.index)
    for table, low, high in ((means, 0.5, 0.62), (shuffled, -0.2, 0.2)):
        result = figures({"ridge": by_hand.ridge(table, measured, folds)}, outcome, "spearman", [])
        assert low < result["models"]["ridge"]["value"] < high
