"""Every number of a test is recomputed from `predictions.csv` and the clinical table by independent code."""

import contextlib
import io
import json
import math
import re
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
import torch
from html_page import Page
from recomputed import (
    Ratio,
    bootstrap,
    censoring_of,
    class_metrics,
    cox,
    draws,
    hazard_ratio,
    kaplan_meier_on,
    last_day,
    last_evaluated_day,
    log_rank,
    outlives,
    pairs,
    survival_metrics,
    survival_on,
)
from scipy.stats import false_discovery_control, pearsonr

from dmml.__main__ import main
from dmml.networks.packing import unpack
from dmml.training.checkpointing.seen_patients import patients_among

pytestmark = pytest.mark.slow

PRINTED = re.compile(r"^  (\w+) +(-?[\d.]+)(?:   95 % interval (-?[\d.]+) to (-?[\d.]+))?$", re.MULTILINE)
NEAR = {"rel": 1e-4, "abs": 2e-4}
NORMAL = NormalDist().inv_cdf(0.975)


@pytest.fixture(scope="module")
def sixty(tmp_path_factory):
    """A held-out cohort large enough for calibration in groups."""
    root = tmp_path_factory.mktemp("sixty")
    argv = ["simulate", str(root), "--features-only", "--patients", "1", "--held-out", "60", "--dim", "16"]
    assert main(argv) == 0
    return root / "held_out"


def results_of(journey, cohort, checkpoint, name, root, **data):
    """(folder, what was printed) of a test of a cohort."""
    files = {"clinical": "clinical.csv", "expression": "expression.parquet", "features": "features.zarr"}
    places = {key: str(cohort / file) for key, file in files.items()}
    config = journey.config(name, cohort="held_out", data=places | {"name": name} | data)
    argv = ["test", "--ckpt_path", str(checkpoint), "--config", str(config), "--trainer.default_root_dir", str(root)]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(argv) == 0
    return root / "test" / name, out.getvalue()


@pytest.fixture(scope="module")
def survival(journey, sixty, tmp_path_factory):
    """The teacher's test of that cohort: its folder, and what was printed."""
    return results_of(journey, sixty, journey.best("teacher"), "sixty", tmp_path_factory.mktemp("run"))


def joined(folder, cohort, columns):
    """Predictions joined with the outcomes of the clinical table, one row per patient."""
    predictions = pd.read_csv(folder / "predictions.csv", dtype={"patient_id": str})
    clinical = pd.read_csv(cohort / "clinical.csv", dtype={"patient_id": str}).drop_duplicates("patient_id")
    assert predictions["patient_id"].is_unique
    assert set(predictions["patient_id"]) == set(clinical["patient_id"])
    merged = predictions.drop(columns=list(columns.values())).merge(
        clinical[["patient_id", *columns]], on="patient_id", validate="one_to_one"
    )
    merged = merged.rename(columns=columns)
    for name in columns.values():
        pd.testing.assert_series_equal(merged[name], predictions[name], check_dtype=False)
    return merged.dropna(subset=list(columns.values())).reset_index(drop=True)


def check_metrics(folder, out, expected, n):
    """metrics.json, what was printed and the page's table, against {metric: (value, low, high, events)}."""
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics) == set(expected)
    printed = {name: numbers for name, *numbers in PRINTED.findall(out)}
    page = Page((folder / "report.html").read_text()).check()
    table = next(t["rows"] for t in page.tables if t["caption"] == "Metrics with 95 % intervals")
    for (name, (value, low, high, events)), row in zip(expected.items(), table[1:], strict=True):
        entry = metrics[name]
        assert (entry["value"], entry["low"], entry["high"]) == pytest.approx((value, low, high), **NEAR), name
        assert (entry["n"], entry["events"]) == (n, events)
        three = [f"{number:.3f}" for number in (entry["value"], entry["low"], entry["high"])]
        assert printed[name] == three
        signed = [text.replace("-", "−") for text in three]
        assert row[1] == signed[0]
        assert row[2] in (f"{signed[1]}–{signed[2]}", f"{signed[1]} to {signed[2]}")
    return metrics, page


def test_every_number_of_a_survival_test_is_recomputed(sixty, survival):
    folder, out = survival
    table = joined(folder, sixty, {"os_days": "time", "os_event": "event"})
    context = json.loads((folder / "context.json").read_text())
    rows = table.to_dict("records")
    time, event = table["time"].to_numpy(float), table["event"].to_numpy(int)
    weights, free, events = draws(event), draws([0] * len(event)), int(event.sum())
    expected = {}
    for name, metric in survival_metrics([rows], [context]).items():
        day = float(name.removeprefix("auc_")) if name.startswith("auc_") else math.inf
        drawn = free if name == "ibs" else weights
        expected[name] = (*bootstrap(metric, drawn)[:3], int(((event == 1) & (time <= day)).sum()))
    high = table["risk"].to_numpy() > context["median_risk"]
    *ratio, p = hazard_ratio(time, event, high)
    expected["hazard_ratio"] = (*ratio, events)
    truth = pd.read_csv(sixty / "truth.csv", dtype={"patient_id": str}).set_index("patient_id")["risk"]
    oracle = [row | {"risk": truth[row["patient_id"]]} for row in rows]
    of_oracle, of_model = (
        Ratio(*pairs(r, lambda row: 1.0, lambda i, j: i["event"] and outlives(i, j))) for r in (oracle, rows)
    )
    expected["c_index_oracle"] = (*bootstrap(of_oracle, weights)[:3], events)
    expected["share_of_oracle"] = (
        *bootstrap(lambda w: (of_model(w) - 0.5) / (of_oracle(w) - 0.5), weights)[:3],
        events,
    )
    metrics, page = check_metrics(folder, out, expected, len(rows))
    until = last_evaluated_day(rows, context)
    assert metrics["c_index_ipcw"]["tau"] == until
    assert metrics["hazard_ratio"]["p"] == pytest.approx(p, rel=1e-4)
    value, low, high_end = (f"{number:.2f}" if number < 10 else f"{number:.3g}" for number in ratio)
    assert f"hazard ratio {value} ({low} to {high_end})" in page.text  # in the plot of the risk groups
    assert (
        f"Hazard ratio of high against low risk by Cox regression: {value} (95 % interval {low} to {high_end}"
        in page.text
    )
    assert metrics["ibs"]["tau"] == min(until, last_day(rows))
    assert f"median follow-up or time to event {np.median(time):.0f} days" in page.text
    assert f"events among them {events} " in page.text


def test_the_censoring_distribution_and_the_cut_are_from_training_patients_only(journey, sixty, survival):
    folder, _ = survival
    context = json.loads((folder / "context.json").read_text())
    fitted = unpack(torch.load(journey.best("teacher"), weights_only=True)["hyper_parameters"]["fitted"])
    clinical = pd.read_csv(journey.root / "development" / "clinical.csv", dtype={"patient_id": str})
    clinical = clinical.drop_duplicates("patient_id").set_index("patient_id")
    trained = clinical.loc[sorted(patients_among(list(clinical.index), fitted["patients"]["train"]))]
    assert len(trained) == context["n_training"]
    days, left = censoring_of(trained["os_days"].tolist(), trained["os_event"].tolist())
    assert context["censoring"]["time"] == pytest.approx(days)
    assert context["censoring"]["survival"] == pytest.approx(left)
    table = joined(folder, sixty, {"os_days": "time", "os_event": "event"})
    log_rank_test = json.loads((folder / "calibration.json").read_text())["log_rank"]
    high = (table["risk"] > context["median_risk"]).to_numpy()
    time, event = table["time"].to_numpy(float), table["event"].to_numpy(int)
    assert log_rank_test["p"] == pytest.approx(log_rank(time, event, high), rel=1e-6)
    assert [(group["n"], group["events"]) for group in log_rank_test["groups"]] == [
        (int((high == side).sum()), int(event[high == side].sum())) for side in (False, True)
    ]


def check_gene_correlations(folder, journey, sixty, checkpoint):
    """`gene_correlations.csv` from the RNA table, the checkpoint's statistics of training patients, and the risk."""
    fitted = unpack(torch.load(journey.best(checkpoint), weights_only=True)["hyper_parameters"]["fitted"])
    raw = pd.read_parquet(sixty / "expression.parquet").set_index("patient_id")
    risk = pd.read_csv(folder / "predictions.csv", dtype={"patient_id": str}).set_index("patient_id")["risk"]
    with_rna = [patient for patient in risk.index if patient in raw.index]
    table = pd.read_csv(folder / "gene_correlations.csv")
    assert set(table["score"]) == {"risk"}
    for subspace in ("tumor", "tme"):
        kept = fitted["gene_statistics"][subspace]
        z = ((np.log2(raw.loc[with_rna, kept["genes"]] + 1) - kept["mean"]) / kept["std"]).clip(-3, 3)
        rows = table[table["subspace"] == subspace].set_index("gene")
        assert sorted(rows.index) == sorted(kept["genes"])
        for gene in kept["genes"][::9]:
            expected = pearsonr(z[gene], risk[with_rna])
            assert rows.loc[gene, "n"] == len(with_rna)
            assert rows.loc[gene, "r"] == pytest.approx(expected.statistic, abs=1e-4)
            limits = expected.confidence_interval(0.95)
            assert (rows.loc[gene, "low"], rows.loc[gene, "high"]) == pytest.approx(tuple(limits), abs=1e-4)
            assert rows.loc[gene, "p"] == pytest.approx(expected.pvalue, rel=0.01, abs=1e-6)
    once = table.drop_duplicates("gene")
    assert once["q"].tolist() == pytest.approx(false_discovery_control(once["p"]).tolist())
    assert table.groupby("gene")["q"].nunique().max() == 1
    text = Page((folder / "report.html").read_text()).check().text
    assert "Genes and the prediction" in text
    assert f"{len(with_rna)} " in text


def test_the_correlations_of_genes_with_the_risk_are_recomputed(journey, sixty, survival, tmp_path):
    check_gene_correlations(survival[0], journey, sixty, "teacher")
    # A student reads no RNA, but the genes of its cohort are correlated with its risk as well.
    student, _ = results_of(journey, sixty, journey.best("student"), "sixty", tmp_path)
    check_gene_correlations(student, journey, sixty, "student")
    without, _ = results_of(journey, sixty, journey.best("student"), "sixty", tmp_path, expression=None)
    assert without == student
    assert not (without / "gene_correlations.csv").exists()
    assert "Genes and the prediction" not in (without / "report.html").read_text()


def test_every_number_of_the_calibration_is_recomputed(sixty, survival):
    folder, _ = survival
    rows = joined(folder, sixty, {"os_days": "time", "os_event": "event"}).to_dict("records")
    horizons = json.loads((folder / "calibration.json").read_text())["horizons"]
    assert len(horizons) == 3
    for text, calibration in horizons.items():
        day = float(text)
        predicted = np.array([survival_on(row, day) for row in rows])
        assert calibration["predicted"] == pytest.approx(predicted.mean())
        assert calibration["observed"] == pytest.approx(kaplan_meier_on(rows, day))
        order = np.argsort(predicted, kind="stable")
        groups = [order[np.arange(60) * 5 // 60 == k] for k in range(5)]
        for group, row in zip(groups, calibration["groups"], strict=True):
            assert row["n"] == len(group)
            assert row["predicted"] == pytest.approx(predicted[group].mean())
            members = [rows[i] for i in group]
            if max(r["time"] for r in members) >= day:
                assert row["observed"] == pytest.approx(kaplan_meier_on(members, day))
        time = np.array([row["time"] for row in rows])
        by_day = np.array([bool(row["event"]) and row["time"] <= day for row in rows]).astype(int)
        [slope], [error], _ = cox(np.log(-np.log(predicted))[:, None], np.minimum(time, day), by_day)
        ends = slope - NORMAL * error, slope + NORMAL * error
        assert (calibration["slope"], calibration["slope_low"], calibration["slope_high"]) == pytest.approx(
            (slope, *ends), abs=2e-3 * error
        )
        hazard = sum(-math.log(survival_on(row, min(row["time"], day))) for row in rows)
        ratio_, spread = math.log(by_day.sum() / hazard), NORMAL / math.sqrt(by_day.sum())
        ends = ratio_ - spread, ratio_ + spread
        assert (calibration["intercept"], calibration["intercept_low"], calibration["intercept_high"]) == pytest.approx(
            (ratio_, *ends)
        )
        assert (calibration["p"] is None) == bool(calibration["reason"])


def test_every_number_of_a_classification_test_is_recomputed(journey, sixty, tmp_path):
    task = {"class_path": "Classification", "init_args": {"classes": ["G2", "G3", "G4"]}}
    outcome = {"label": "grade"}
    config = journey.config("grades", "SubspaceTeacher", outcome=outcome, model={"task": task})
    assert main(["fit", "--config", str(config)]) == 0
    folder, out = results_of(journey, sixty, journey.best("grades"), "graded", tmp_path / "run", outcome=outcome)
    table = joined(folder, sixty, {"grade": "label"})
    label = table["label"].map({"G2": 0, "G3": 1, "G4": 2}).to_numpy()
    probability = table[["prob_G2", "prob_G3", "prob_G4"]].to_numpy()
    weights = draws(label)
    expected = {
        name: (*bootstrap(metric, weights)[:3], None) for name, metric in class_metrics(label, probability).items()
    }
    _, page = check_metrics(folder, out, expected, len(table))
    rows = next(t["rows"] for t in page.tables if t["caption"] == "Metrics of each class")
    predicted = probability.argmax(1)
    for c, row in enumerate(rows[1:]):
        hits, n_predicted, n_true = ((predicted == c) & (label == c)).sum(), (predicted == c).sum(), (label == c).sum()
        cells = [f"G{c + 2}", str(n_true), str(n_predicted)]
        cells += [f"{hits / whole:.2f}" if whole else "—" for whole in (n_predicted, n_true)]
        assert row[:5] == cells
        assert row[5] == f"{((predicted != c) & (label != c)).sum() / (label != c).sum():.2f}"
        assert row[6] == f"{2 * hits / (n_predicted + n_true):.2f}"
