"""Results belong to the run that owns the checkpoint, and never overwrite those of another checkpoint or fold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from html_page import Page

from dmml.__main__ import main
from dmml.evaluation.result_folders import find_tests

pytestmark = pytest.mark.slow


@pytest.fixture
def run(folds, tmp_path) -> Path:
    """A copy of the run `fold1`, as `runs/f1` in the working directory."""
    shutil.copytree(folds.run("fold1") / "checkpoints", tmp_path / "runs" / "f1" / "checkpoints")
    for name in ("config.yaml", "metrics.csv", "provenance.json"):
        shutil.copy(folds.run("fold1") / name, tmp_path / "runs" / "f1")
    return Path("runs/f1")


@pytest.fixture
def config(folds, tmp_path) -> str:
    """The config of the fit, which names a run folder of its own."""
    content = yaml.safe_load((folds.root / "fold1.yaml").read_text())
    content["trainer"]["default_root_dir"] = "runs/of_the_config"
    (tmp_path / "same.yaml").write_text(yaml.safe_dump(content))
    return "same.yaml"


def results(folder: Path = Path()) -> list[str]:
    return sorted(str(path.parent) for path in folder.rglob("predictions.csv"))


def record(folder: str) -> dict:
    return json.loads((Path(folder) / "context.json").read_text())


def test_a_folder_in_a_config_does_not_move_results(run, config, tmp_path):
    (tmp_path / "trainer.yaml").write_text(yaml.safe_dump({"default_root_dir": "runs/of_the_trainer_file"}))
    before = (run / "config.yaml").read_bytes()
    argv = ["--config", config, "--ckpt_path", str(run / "checkpoints" / "best.ckpt")]
    assert main(["test", *argv]) == 0
    assert main(["test", *argv, "--trainer", "trainer.yaml"]) == 0
    assert main(["predict", *argv]) == 0
    assert results() == ["runs/f1/predict/development_fold1", "runs/f1/test/development_fold1"]
    assert (run / "config.yaml").read_bytes() == before
    assert not Path("runs/of_the_config").exists()
    context = record("runs/f1/test/development_fold1")
    assert (context["run"], context["cohort"], context["fold"]) == ("f1", "development", 1)
    assert context["checkpoint"]["path"] == "checkpoints/best.ckpt"


@pytest.mark.parametrize("typed", [["--trainer.default_root_dir", "moved"], ["--trainer.default_root_dir=moved"]])
def test_a_typed_folder_moves_the_result_and_the_report_still_finds_the_run(run, config, typed, tmp_path):
    argv = ["--config", config, "--ckpt_path", str(run / "checkpoints" / "best.ckpt")]
    assert main(["test", *argv, *typed]) == 0
    assert results() == ["moved/test/development_fold1"]
    Path("moved/metrics.csv").write_text("epoch,step,train/stranger\n0,0,1.0\n1,1,2.0\n")  # of another run
    [result] = find_tests(["moved"])
    assert result.run == run
    assert main(["report", "moved", "--out", "moved.html"]) == 0
    assert "\ndmml report moved\n" in Path("moved.html").read_text()
    assert not list(Path("moved_plots").glob("*stranger*"))
    assert list(Path("moved_plots").glob("f1_training_loss*"))


def test_the_result_of_another_checkpoint_is_kept(run, config, capsys):
    best, last = (str(run / "checkpoints" / name) for name in ("best.ckpt", "last.ckpt"))
    assert main(["test", "--config", config, "--ckpt_path", best]) == 0
    kept = record("runs/f1/test/development_fold1")["checkpoint"]
    capsys.readouterr()
    assert main(["test", "--config", config, "--ckpt_path", last]) == 2
    line = capsys.readouterr().err
    assert "holds the result of another checkpoint (checkpoints/best.ckpt of the run f1); give --overwrite" in line
    assert record("runs/f1/test/development_fold1")["checkpoint"] == kept
    assert main(["test", "--config", config, "--ckpt_path", best]) == 0, "its own result is made anew"
    assert main(["test", "--config", config, "--ckpt_path", last, "--overwrite"]) == 0
    assert record("runs/f1/test/development_fold1")["checkpoint"]["path"] == "checkpoints/last.ckpt"
    assert main(["predict", "--config", config, "--ckpt_path", best]) == 0
    assert main(["predict", "--config", config, "--ckpt_path", last]) == 2


def test_a_checkpoint_that_changed_at_its_path_is_a_different_one(run, config, capsys):
    import torch

    best = run / "checkpoints" / "best.ckpt"
    assert main(["test", "--config", config, "--ckpt_path", str(best)]) == 0
    content = torch.load(best, weights_only=True)
    content["epoch"] += 1
    torch.save(content, best)
    assert main(["test", "--config", config, "--ckpt_path", str(best)]) == 2
    assert main(["report", str(run), "--out", "page.html"]) == 0
    page = Page(Path("page.html").read_text())
    assert "The tested checkpoint is no longer in runs/f1: the run was fitted again after the test" in page.text
    assert not list(Path().glob("page_plots/*training*"))


def test_a_fold_does_not_replace_the_result_of_a_cohort_with_its_name(run, config, capsys):
    argv = ["--config", config, "--ckpt_path", str(run / "checkpoints" / "best.ckpt")]
    assert main(["test", *argv]) == 0
    named = ["--data.split", "null", "--data.name", "development_fold1", "--allow-training-patients"]
    capsys.readouterr()
    assert main(["test", *argv, *named]) == 2
    assert "holds the result of another cohort or fold (development, fold 1)" in capsys.readouterr().err


def test_results_of_a_checkpoint_outside_a_checkpoints_folder_are_written_next_to_it(run, config):
    Path("zoo").mkdir()
    shutil.copy(run / "checkpoints" / "best.ckpt", "zoo/model.ckpt")
    assert main(["test", "--config", config, "--ckpt_path", "zoo/model.ckpt"]) == 0
    assert results() == ["zoo/test/development_fold1"]
    assert record("zoo/test/development_fold1")["checkpoint"]["path"] == "model.ckpt"


def test_a_result_that_names_no_checkpoint_is_kept(run, config, capsys):
    argv = ["--config", config, "--ckpt_path", str(run / "checkpoints" / "best.ckpt")]
    folder = run / "test" / "development_fold1"
    folder.mkdir(parents=True)
    (folder / "predictions.csv").write_text("patient_id,risk\na,1\n")
    assert main(["test", *argv]) == 2
    assert "the result of a checkpoint that it does not name" in capsys.readouterr().err
    assert (folder / "predictions.csv").read_text() == "patient_id,risk\na,1\n"


def test_a_test_that_cannot_be_written_completely_leaves_no_metrics_of_an_earlier_one(run, config):
    argv = ["test", "--config", config, "--ckpt_path", str(run / "checkpoints" / "best.ckpt")]
    assert main(argv) == 0
    folder = run / "test" / "development_fold1"
    shutil.rmtree(folder / "plots")
    (folder / "plots").write_text("a file where the pictures should be")
    with pytest.raises(NotADirectoryError):
        main(argv)
    assert {path.name for path in folder.iterdir() if path.is_dir() or path.suffix == ".html"} == set()
    assert not (folder / "metrics.json").exists()
