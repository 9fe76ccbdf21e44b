"""The recipe of docs/scaling.md for runs fold by fold is run as it is printed there, up to the report."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from doc_blocks import blocks_of
from html_page import Page

from dmml.__main__ import main

pytestmark = pytest.mark.slow

PATIENTS = 40


@pytest.fixture
def recipe(tmp_path) -> list[list[str]]:
    """The command lines of the page, as a shell expands its loop."""
    [block] = [block for block in blocks_of("docs/scaling.md", "bash") if block.text.startswith("for k in ")]
    return [words[1:] for words in block.commands(tmp_path)]


@pytest.fixture
def luad(repository, tmp_path) -> dict:
    """The shipped `configs/luad.yaml`, for a small simulated cohort and tiny networks."""
    argv = ["simulate", "data", "--features-only", "--patients", str(PATIENTS), "--held-out", "1", "--dim", "8"]
    assert main(argv) == 0
    Path("data/development").rename("data/luad")
    content = yaml.safe_load((repository / "configs" / "luad.yaml").read_text())
    content["model"]["init_args"] |= {"width": 8}
    del content["data"]["init_args"]["expression"]
    content["trainer"] |= {"max_epochs": 1, "precision": 32, "enable_progress_bar": False}
    Path("configs").mkdir()
    Path("configs/luad.yaml").write_text(yaml.safe_dump(content))
    return content["data"]["init_args"]


def test_the_documented_recipe_for_runs_fold_by_fold_ends_in_one_report(luad, recipe):
    assert [argv[0] for argv in recipe] == [*["fit", "test"] * luad["split"]["folds"], "report"]
    for argv in recipe:
        assert main(argv) == 0, argv
    tested = []
    for k in range(luad["split"]["folds"]):
        run = Path(f"runs/luad_{k}")
        assert [path.name for path in (run / "test").iterdir()] == [f"luad_fold{k}"]
        context = json.loads((run / "test" / f"luad_fold{k}" / "context.json").read_text())
        assert (context["run"], context["fold"]) == (f"luad_{k}", k)
        tested += list(pd.read_csv(run / "test" / f"luad_fold{k}" / "predictions.csv")["patient_id"])
    assert len(tested) == len(set(tested)), "a patient is tested once"
    assert not Path("runs/luad").exists()
    page = Page(Path("runs/luad_folds.html").read_text()).check()
    for k in range(luad["split"]["folds"]):
        assert f"luad_{k} on luad fold {k}" in page.text
        assert list(Path("runs/luad_folds_plots").glob(f"luad_{k}_training_loss*"))
    assert "in training)" not in page.text
