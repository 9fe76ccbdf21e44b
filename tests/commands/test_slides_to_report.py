"""The whole way once, small: rendered slides and RNA files → features → a classification fit → a report."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import yaml

from dmml.__main__ import main
from dmml.store import FeatureStore

pytestmark = pytest.mark.slow


def test_a_classification_runs_from_slides_to_the_report(tmp_path, repository):
    assert main(["simulate", "demo", "--patients", "12", "--held-out", "4"]) == 0
    for cohort in ("development", "held_out"):
        folder = f"demo/{cohort}"
        assert main(["extract", f"{folder}/slides", "--out", f"{folder}/features.zarr"]) == 0
        assert main(["cohort", "expression", f"{folder}/rna", "--out", f"{folder}/expression.parquet"]) == 0
    store = FeatureStore("demo/held_out/features.zarr")
    assert store.n_features == 1280
    assert all(0 < store.n_tokens(slide, 10) + store.n_tokens(slide, 20) <= 35 for slide in store.slides())

    # The shipped config, made short; twelve patients need not have every grade in every part.
    config = yaml.safe_load((repository / "configs" / "demo_grade.yaml").read_text())
    config["trainer"] |= {"max_epochs": 1, "enable_progress_bar": False}
    config["model"]["init_args"] |= {"width": 16}
    config["model"]["init_args"]["task"]["init_args"].pop("class_weights")
    (tmp_path / "grade.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", "grade.yaml"]) == 0
    best = "runs/demo_grade/checkpoints/best.ckpt"
    held_out = str(repository / "configs" / "demo_grade_held_out.yaml")
    assert main(["test", "--ckpt_path", best, "--config", held_out]) == 0
    out = tmp_path / "runs" / "demo_grade" / "test" / "held_out"
    table = pd.read_csv(out / "predictions.csv").set_index("patient_id")
    grades = pd.read_csv("demo/held_out/clinical.csv").drop_duplicates("patient_id").set_index("patient_id")["grade"]
    assert table["label"].to_dict() == grades.to_dict()
    assert "accuracy" in json.loads((out / "metrics.json").read_text())
    assert main(["report", "runs/demo_grade", "--out", "report.html"]) == 0
    assert "held_out" in (tmp_path / "report.html").read_text()
