"""Test folders as `dmml test` writes them, from simulated patients with known truth."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.clinical.follow_up import censoring_curve

EDGES = [300.0, 700.0, 1400.0]
END = 3000.0


@dataclass
class Cohort:
    """Patients with exponential survival exp(−rate · t): the true risk is log(rate)."""

    patient_id: list
    time: np.ndarray
    event: np.ndarray
    log_rate: np.ndarray


def draw_cohort(n=60, seed=0, spread=1.0):
    generator = np.random.default_rng(seed)
    log_rate = np.log(1 / 1000) + spread * generator.normal(size=n)
    death = generator.exponential(np.exp(-log_rate))
    censored = generator.uniform(300, 4000, n)
    time = np.minimum(np.minimum(death, censored), 2990).round(1) + 1
    event = (death <= np.minimum(censored, 2989)).astype(int)
    return Cohort([f"P{index:03d}" for index in range(n)], time, event, log_rate)


def predicted(log_rate):
    """Survival columns of an exponential curve at edges, end and horizons, and the discrete risk."""
    days = sorted([*EDGES, END, 365.0, 1095.0, 1825.0])
    columns = {f"survival_{day:g}": np.exp(-np.exp(log_rate) * day) for day in days}
    risk = -sum(np.exp(-np.exp(log_rate) * day) for day in [*EDGES, END])
    return {"risk": risk, **columns}


def write_survival_test(run, cohort, model="student", noise=0.5, seed=1, name="held_out", **context):
    """A test folder with predictions whose log rate is off by normal noise."""
    generator = np.random.default_rng(seed)
    folder = run / "test" / name
    folder.mkdir(parents=True)
    n = len(cohort.time)
    table = pd.DataFrame(
        {
            "patient_id": cohort.patient_id,
            "time": cohort.time,
            "event": cohort.event,
            **predicted(cohort.log_rate + noise * generator.normal(size=n)),
            "has_expression": (generator.random(n) < 0.9).astype(int),
            "n_tokens_10x": generator.integers(20, 40, n),
            "n_tokens_20x": generator.integers(80, 160, n),
        }
    )
    table.to_csv(folder / "predictions.csv", index=False)
    training = draw_cohort(100, seed=99)
    curve = censoring_curve(training.time, training.event)
    facts = {
        "run": run.name,
        "model": model,
        "cohort": name,
        "task": "survival",
        "edges": EDGES,
        "end": END,
        "horizons": [365, 1095],
        "censoring": {"time": curve.time.tolist(), "survival": curve.survival.tolist()},
        "median_risk": float(np.median(table["risk"])),
        "oracle_risk": dict(zip(cohort.patient_id, cohort.log_rate.tolist(), strict=True)),
        "counts": {"slides": 71, "patients without slides": 2, "patients without outcome": 1},
        "gene_coverage": {"tumor": "998 of 1000", "tme": "500 of 500"},
        "training_cohort": "development",
        "n_training": 100,
        "command": f"dmml test --config configs/held_out.yaml --ckpt_path {run}/checkpoints/best.ckpt",
        "versions": {"dmml": "0.1.0", "torch": "2.14.1"},
        "created": "2026-01-01T00:00:00",
    } | context
    (folder / "context.json").write_text(json.dumps({k: v for k, v in facts.items() if v is not None}))
    return folder


def write_class_test(
    run, n=90, classes=("G2", "G3", "G4"), strength=1.5, seed=3, model="student", name="held_out", **context
):
    generator = np.random.default_rng(seed)
    folder = run / "test" / name
    folder.mkdir(parents=True)
    label = np.random.default_rng(7).integers(0, len(classes), n)
    logits = generator.normal(size=(n, len(classes)))
    logits[np.arange(n), label] += strength
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    table = pd.DataFrame({"patient_id": [f"P{i:03d}" for i in range(n)], "label": [classes[c] for c in label]})
    for index, cls in enumerate(classes):
        table[f"prob_{cls}"] = probability[:, index]
    table["has_expression"], table["n_tokens_10x"], table["n_tokens_20x"] = 1, 30, 120
    table.to_csv(folder / "predictions.csv", index=False)
    facts = {"run": run.name, "model": model, "cohort": name, "task": "classification", "classes": list(classes)}
    (folder / "context.json").write_text(json.dumps(facts | context))
    return folder


def write_training_log(run, epochs=20, seed=0):
    """metrics.csv with the sparse rows of Lightning's CSVLogger."""
    generator = np.random.default_rng(seed)
    rows = []
    for epoch in range(epochs):
        for step in range(2):
            rows.append(
                {
                    "epoch": epoch,
                    "step": 2 * epoch + step,
                    "train/loss_step": 1.5 * np.exp(-epoch / 8) + 0.1 * generator.random(),
                    "coordination/conflict_rate_10": generator.random() * 0.5,
                    "coordination/cosine_10": generator.normal() * 0.3,
                    "coordination/confidence_tumor": 0.3 + 0.01 * epoch,
                    "coordination/confidence_tme": 0.35 + 0.008 * epoch,
                }
            )
        rows.append(
            {"epoch": epoch, "step": 2 * epoch + 1, "val/loss": 1 + 0.5 * np.exp(-epoch / 5), "val/c_index": 0.6}
        )
        rows.append({"epoch": epoch, "step": 2 * epoch + 1, "train/loss_epoch": 1.5 * np.exp(-epoch / 8)})
        rows.append(
            {"epoch": epoch, "step": 2 * epoch + 1, "train/consistency": np.exp(-epoch / 10), "train/task": 1.0}
        )
    run.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(run / "metrics.csv", index=False)
    (run / "config.yaml").write_text("seed_everything: 0\ntrainer:\n  max_epochs: 20\n")
    (run / "provenance.json").write_text(
        json.dumps({"seed": 0, "hashes": {"clinical": "ab" * 32, "features": "cd" * 32}})
    )


def write_attention(folder, slides=2, thumbnail=True, seed=0):
    """attention.npz on nested grids: four 20x tiles under each 10x tile, attention strongest in one corner."""
    generator = np.random.default_rng(seed)
    arrays, meta = {}, []
    for index in range(slides):
        rows, columns = np.nonzero(np.hypot(*(np.indices((6, 8)) - np.array([2.5, 3.5])[:, None, None])) < 3.6)
        coarse = np.column_stack([columns, rows]) * 224.0 + 112 + 224
        fine = (coarse[:, None] + np.array([[-56, -56], [56, -56], [-56, 56], [56, 56]])).reshape(-1, 2)
        for m, position in ((10, coarse), (20, fine)):
            arrays[f"position_{index}_{m}"] = position.astype(np.float32)
            for subspace, corner in (("tumor", (400, 400)), ("tme", (1600, 1000))):
                weight = np.exp(-np.linalg.norm(position - corner, axis=1) / 300) + 0.02 * generator.random(
                    len(position)
                )
                arrays[f"attention_{index}_{m}_{subspace}"] = (weight / weight.sum()).astype(np.float32)
        mpp = 8.0
        if thumbnail:
            picture = np.full((int(2000 / mpp), int(2300 / mpp), 3), 243, np.uint8)
            picture[28:200, 30:250] = (np.array([214, 150, 190]) + generator.integers(-25, 25, (172, 220, 1))).astype(
                np.uint8
            )
            arrays[f"thumbnail_{index}"] = picture
        meta.append(
            {"patient_id": f"P{index:03d}", "slide_id": f"S{index}", "thumbnail_mpp": mpp, "risk": -2.1 + index, "time": 812.0,
             "event": index, "tile_um": {"10": 224, "20": 112}}
        )  # fmt: skip
    np.savez(folder / "attention.npz", meta=json.dumps(meta), **arrays)


@pytest.fixture(scope="session")
def cohort():
    return draw_cohort()


@pytest.fixture(scope="session")
def survival_runs(tmp_path_factory, cohort):
    """Two finished runs, teacher and student, tested on the same cohort. Shared: tests may only add to them."""
    runs = []
    for name, model, noise in (("demo", "teacher", 0.3), ("demo_student", "student", 0.8)):
        run = tmp_path_factory.getbasetemp() / "runs" / name
        write_training_log(run)
        write_attention(write_survival_test(run, cohort, model, noise, seed=len(name)))
        runs.append(run)
    return runs


@pytest.fixture
def make():
    """The writers above, for tests that need other folders."""
    import types

    return types.SimpleNamespace(
        cohort=draw_cohort,
        predicted=predicted,
        survival=write_survival_test,
        classes=write_class_test,
        training=write_training_log,
        attention=write_attention,
        edges=EDGES,
        end=END,
    )
