"""The files that docs/extending.md shows run in a user's folder; tests/experiment/crossval runs its baseline."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from doc_blocks import blocks_of
from documented_files import write_extensions
from drawn_slides import paint_tissue, write_slide

from dmml.__main__ import main
from dmml.store import FeatureStore
from dmml.tasks import Survival

pytestmark = pytest.mark.slow

SHORT = {"fusion", "loss", "callback", "encoder", "tissue", "networks", "survival"}
"""Files of which docs/extending.md shows one that is complete and short: all but the endpoint with its own metrics"""


@pytest.fixture
def my_folder(tmp_path, monkeypatch) -> Path:
    """A user's folder with the files that docs/extending.md shows; it is the working directory."""
    for name in write_extensions(tmp_path):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.parametrize("name", sorted(SHORT))
def test_the_file_that_the_page_shows_is_short(my_folder, name):
    assert len((my_folder / f"my_{name}.py").read_text().splitlines()) < 42


def test_a_task_without_a_linear_likelihood_is_refused_with_the_way_out(my_folder, cohorts, capsys):
    config = cohorts.config("no", "SubspaceTeacher", model={"task": {"class_path": "my_survival.ConstantHazard"}})
    assert main(["fit", "--config", str(config)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert sum("the task ConstantHazard has no linear_likelihood" in line for line in lines) == 1
    assert "backbone: null in the model section" in lines[-1]


def test_a_cross_validation_of_such_a_task_is_refused_before_a_network_is_fitted(my_folder, cohorts, capsys):
    task = {"class_path": "my_survival.ConstantHazard"}
    config = cohorts.config(
        "no_folds", "SubspaceTeacher", model={"task": task, "backbone": None}, data={"split": {"folds": 2}}
    )
    assert main(["crossval", "--config", str(config), "--models", "teacher,rna_linear"]) == 2
    assert "name other models with --models" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not list(cohorts.run("no_folds_crossval").rglob("done.json"))


def hyper_parameters(checkpoint: str) -> dict:
    return torch.load(checkpoint, weights_only=True)["hyper_parameters"]


def test_a_fusion_an_endpoint_and_a_callback_run_by_class_path(my_folder, cohorts):
    config = cohorts.config(
        "own",
        "SubspaceTeacher",
        model={
            "fusion": {"class_path": "my_fusion.MeanFusion", "init_args": {"scale": 0.5}},
            "task": {"class_path": "my_survival.ConstantHazard"},
            "backbone": None,  # the task has no likelihood of a linear predictor
        },
        trainer={"callbacks": [{"class_path": "my_callback.HeadNorms", "init_args": {"prefix": "size"}}]},
    )
    assert main(["fit", "--config", str(config)]) == 0
    assert "size/tumor_0" in (cohorts.run("own") / "metrics.csv").read_text().splitlines()[0]
    held = cohorts.config("own_held", cohort="held_out")
    assert main(["test", "--ckpt_path", cohorts.best("own"), "--config", str(held)]) == 0
    assert (cohorts.run("own") / "test" / "held_out" / "predictions.csv").is_file()
    hparams = hyper_parameters(cohorts.best("own"))
    assert hparams["fusion"] == {"class_path": "my_fusion.MeanFusion", "init_args": {"scale": 0.5}}
    assert hparams["task"]["init_args"]["mean_days"] > 0


def test_a_loss_runs_by_class_path_and_keeps_its_arguments(my_folder, cohorts):
    task = {"class_path": "my_loss.EventWeighted", "init_args": {"weight": 3.0, "n_intervals": 3}}
    config = cohorts.config("own_loss", "SubspaceTeacher", model={"task": task}, trainer={"callbacks": []})
    assert main(["fit", "--config", str(config)]) == 0
    stored = hyper_parameters(cohorts.best("own_loss"))["task"]
    assert stored["class_path"] == "my_loss.EventWeighted"
    assert stored["init_args"]["weight"] == 3
    assert len(stored["init_args"]["edges"]) == 2


def test_the_loss_counts_events_as_often_as_it_says(my_folder, monkeypatch):
    monkeypatch.syspath_prepend(my_folder)
    weighted = import_module("my_loss").EventWeighted(weight=3.0, edges=[1.0], n_intervals=2, end=2.0)
    target = {
        "time": torch.tensor([0.5, 0.5]),
        "event": torch.tensor([1.0, 0.0]),
        "observed": torch.tensor([True, True]),
    }
    logits = torch.zeros(2, 2)
    plain = Survival(edges=[1.0], n_intervals=2, end=2.0).loss(logits, target)
    assert torch.allclose(weighted.loss(logits, target), plain * torch.tensor([3.0, 1.0]))


def test_an_encoder_and_a_tissue_finder_make_stores(my_folder):
    (my_folder / "slides").mkdir()
    write_slide(my_folder / "slides" / "a.tif", paint_tissue(1792, 1344, [(224, 224, 896, 672)]))
    commands = [words for block in blocks_of("docs/extending.md", "bash") for words in block.commands(my_folder)]
    extractions = [words[1:] for words in commands if words[1] == "extract"]
    assert [main([*words, "--readers", "0"]) for words in extractions] == [0, 0]
    moments, dark = FeatureStore("moments.zarr"), FeatureStore("dark.zarr")
    assert moments.read("a", 20).features.shape == (12, 6)
    assert moments.attributes["encoder"]["name"] == "my_encoder:ColourMoments"
    assert dark.attributes["extraction"]["tissue"] == "my_tissue:dark"
    assert dark.n_tokens("a", 20) == 12
