"""The doctor refuses the same data as a fit, with the same message; all data that it passes can be fitted."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from dmml.__main__ import main
from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
from dmml.store import FeatureStore, SlideFeatures

IDS = [f"p{i:02d}" for i in range(40)]
GENES = genes_of(read_gene_sets()["tumor"])[:40] + genes_of(read_gene_sets()["tme"])[:40]
SURVIVAL = {"class_path": "Survival", "init_args": {"n_intervals": 4}}
DAYS = {"time": "days", "event": "died"}


@pytest.fixture
def cohort():
    """A clinical table of forty patients, of whom every second died, and their RNA."""
    rng = np.random.default_rng(0)
    numbers = np.arange(40)
    table = pd.DataFrame({"patient_id": IDS, "days": rng.integers(30, 2000, 40), "died": numbers % 2})
    table["grade"] = [f"G{2 + i % 3}" for i in range(40)]
    table.to_csv("c.csv", index=False)
    values = rng.gamma(0.5, size=(40, len(GENES)))
    rna = pd.DataFrame(1e6 * values / values.sum(1, keepdims=True), index=IDS, columns=GENES)
    rna.to_csv("rna.csv", index_label="patient_id")
    return table


def config(task=SURVIVAL, name: str = "c.yaml", model=None, **data) -> str:
    section = {"clinical": "c.csv", "outcome": DAYS, "expression": "rna.csv", "name": "x"} | data
    content = {
        "model": {"class_path": "SubspaceTeacher", "init_args": {"width": 8, "task": task} | (model or {})},
        "data": {"class_path": "MultimodalDataModule", "init_args": section},
        "trainer": {"max_epochs": 1, "default_root_dir": "runs/x", "accelerator": "cpu", "enable_progress_bar": False},
    }
    Path(name).write_text(yaml.safe_dump(content))
    return name


def split(**parts) -> str:
    frame = {part: pd.Series(ids, dtype=object) for part, ids in parts.items()}
    pd.DataFrame(frame).to_csv("splits_0.csv", index=False)
    return "splits_0.csv"


def few_events(table):
    return {"task": {"class_path": "Survival", "init_args": {"n_intervals": 30}}, "split": {"folds": 4}}


def no_event(table):
    table.assign(died=(table.index >= 30).astype(int)).to_csv("c.csv", index=False)
    return {"split": split(train=IDS[:20], val=IDS[20:30], test=IDS[30:])}


def nobody_in_val(table):
    return {"split": split(train=IDS[:20], val=["z1", "z2"], test=IDS[20:])}


def no_outcome_in_val(table):
    table.assign(days=table["days"].where((table.index < 20) | (table.index >= 30))).to_csv("c.csv", index=False)
    return {"split": split(train=IDS[:20], val=IDS[20:30], test=IDS[30:])}


def no_rna_in_val(table):
    pd.read_csv("rna.csv", index_col=0).drop(index=IDS[20:30]).to_csv("rna.csv")
    return {"split": split(train=IDS[:20], val=IDS[20:30], test=IDS[30:])}


def too_few_to_carve(table):
    return {"split": split(train=IDS[:3], val=IDS[3:])}


def more_folds_than_patients(table):
    return {"split": {"folds": 50}}


def a_class_of_validation_alone(table):
    table.assign(grade=["G3" if 20 <= i < 30 else "G2" if i % 2 else "G4" for i in range(40)]).to_csv(
        "c.csv", index=False
    )
    return {
        "task": {"class_path": "Classification"},
        "outcome": {"label": "grade"},
        "split": split(train=IDS[:20], val=IDS[20:30], test=IDS[30:]),
    }


def a_label_that_is_no_class(table):
    task = {"class_path": "Classification", "init_args": {"classes": ["G2", "G3"]}}
    return {"task": task, "outcome": {"label": "grade"}}


def balance_without_a_class(table):
    task = {
        "class_path": "Classification",
        "init_args": {"classes": ["G2", "G3", "G4", "G5"], "class_weights": "balanced"},
    }
    return {"task": task, "outcome": {"label": "grade"}}


def one_class(table):
    table.assign(grade="G2").to_csv("c.csv", index=False)
    return {"task": {"class_path": "Classification"}, "outcome": {"label": "grade"}}


def cox_of_small_batches(table):
    task = {"class_path": "Survival", "init_args": {"likelihood": "cox"}}
    return {"task": task, "batch_size": 2}


def labels_for_survival(table):
    return {"outcome": {"label": "grade"}}


def times_for_classes(table):
    return {"task": {"class_path": "Classification"}}


def no_event_at_all(table):
    table.assign(died=0).to_csv("c.csv", index=False)
    return {}


def no_outcome_named(table):
    return {"outcome": None}


def another_width(table):
    encoder = {"name": "none", "weights": "0", "dim": 4, "preprocessing": {}}
    FeatureStore.create("f.zarr", encoder, {10: 1.0, 20: 0.5})
    return {"model": {"n_features": 99}, "features": "f.zarr"}


def slides_of_strangers(table):
    encoder = {"name": "none", "weights": "0", "dim": 4, "preprocessing": {}}
    store = FeatureStore.create("f.zarr", encoder, {20: 0.5})
    store.write("x1", {20: SlideFeatures(np.ones((1, 4), np.float16), np.zeros((1, 2), np.float32))}, {"mpp": 0.5})
    return {"features": "f.zarr", "magnifications": [20]}


REFUSED = {
    few_events: r"the event happened to \d+ of \d+ training patients, fewer than the 30 intervals",
    no_event: "none of 20 training patients with a known outcome has the event",
    nobody_in_val: r"fold 0 has no validation patient of c\.csv, but ids such as 'z1'; use ids such as 'p00'",
    no_outcome_in_val: r"no patient for val: none of 10 has a known outcome \(p20, …\)",
    no_rna_in_val: r"no patient for val: none of 10 has slides in the store or RNA \(p20, …\)",
    too_few_to_carve: "3 training patients are too few to carve a validation set from",
    more_folds_than_patients: "40 patients cannot fill 50 folds",
    a_class_of_validation_alone: "label G3: not among the model's classes",
    a_label_that_is_no_class: r"label G4: not among the model's classes \(G2, G3\)",
    balance_without_a_class: "no training patient has the label G5",
    one_class: "the training patients have 1 class",
    cox_of_small_batches: "likelihood: cox needs 4 events a batch",
    labels_for_survival: r"c\.csv: data\.outcome gives label, and the task Survival needs time and event",
    times_for_classes: r"c\.csv: data\.outcome gives time and event, and the task Classification needs label",
    no_event_at_all: "none of 32 training patients with a known outcome has the event",
    no_outcome_named: "data.outcome names no column to learn",
    another_width: "the model reads 99 features per tile, and f.zarr contains 4",
    slides_of_strangers: r"f.zarr: none of its 1 slides belongs to a patient of c\.csv \('x1' in the store, 'p00' in the",
}


@pytest.mark.slow
@pytest.mark.parametrize("spoil", REFUSED, ids=lambda spoil: spoil.__name__)
def test_the_doctor_refuses_every_cohort_that_a_fit_refuses(spoil, cohort, capsys):
    changes = spoil(cohort)
    path = config(**changes)
    assert main(["fit", "--config", path]) == 2
    refused_by_fit = capsys.readouterr().err
    assert re.search(REFUSED[spoil], refused_by_fit), refused_by_fit
    assert not Path("runs/x/checkpoints").exists()
    assert main(["doctor", "-c", path]) == 2
    refused_by_doctor = capsys.readouterr().err
    assert re.search(REFUSED[spoil], refused_by_doctor), refused_by_doctor


def test_every_cohort_that_the_doctor_passes_can_be_fitted(cohort, capsys):
    task = {"class_path": "Classification", "init_args": {"classes": [2, 3, 4]}}
    cohort.assign(grade=[f"{2 + i % 3}.0" for i in range(40)]).to_csv("c.csv", index=False)
    path = config(task, outcome={"label": "grade"}, split={"folds": 3})
    assert main(["doctor", "-c", path]) == 0
    assert "nothing blocks a run" in capsys.readouterr().out
    assert main(["fit", "--config", path]) == 0


def rare_grade(table, **task):
    """Fold 0 alone tests the one patient of a grade."""
    table.assign(grade=["G9", *(f"G{2 + i % 2}" for i in range(39))]).to_csv("c.csv", index=False)
    pd.DataFrame({"patient_id": IDS, "fold": np.arange(40) % 4}).to_csv("folds.csv", index=False)
    return config({"class_path": "Classification", "init_args": task}, outcome={"label": "grade"}, split="folds.csv")


@pytest.mark.slow
def test_a_class_that_no_training_patient_of_a_fold_has_blocks_only_where_its_test_would_be_refused(cohort, capsys):
    assert main(["doctor", "-c", rare_grade(cohort)]) == 2
    assert "fit, fold 0: label G9: not among the model's classes (G2, G3)" in capsys.readouterr().err
    path = rare_grade(cohort, classes=["G2", "G3", "G9"])
    assert main(["doctor", "-c", path]) == 0
    assert "fold 0, train: no patient of class G9" in capsys.readouterr().out
    assert main(["fit", "--config", path]) == 0
    assert main(["test", "--config", path, "--ckpt_path", "runs/x/checkpoints/best.ckpt"]) == 0


def test_every_fold_is_examined_unless_the_model_starts_from_a_checkpoint(cohort, capsys):
    """Fold 2 alone has too few events to train on, which a fit of fold 0 does not notice and a cross-validation would."""
    folds = np.arange(40) % 4
    cohort.assign(died=(folds == 2).astype(int)).to_csv("c.csv", index=False)
    pd.DataFrame({"patient_id": IDS, "fold": folds}).to_csv("folds.csv", index=False)
    task = {"class_path": "Survival", "init_args": {"n_intervals": 2, "edges": None}}
    assert main(["doctor", "-c", config(task, split="folds.csv")]) == 2
    captured = capsys.readouterr()
    assert "fold 2, train: no event" in captured.out
    assert "fold 1, train" not in re.sub(r"check .*", "", captured.out)


def test_published_folds_whose_validation_has_points_are_fitted(shared_faults, capsys, monkeypatch):
    monkeypatch.chdir(shared_faults / "float_ids_in_splits")
    assert main(["doctor", "-c", "pf2.yaml"]) == 0
    assert re.search(r"\n0 +26 +13 +8 +1 +26 +8\n", capsys.readouterr().out)


def test_as_many_intervals_as_the_message_counts_events_are_accepted(cohort, capsys):
    few = few_events(cohort)
    assert main(["doctor", "-c", config(**few)]) == 2
    counts = re.findall(r"happened to (\d+) of \d+ training patients, fewer", capsys.readouterr().out)
    assert len(counts) == 4
    few["task"]["init_args"]["n_intervals"] = min(map(int, counts))
    assert main(["doctor", "-c", config(**few)]) == 0
