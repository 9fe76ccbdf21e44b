"""Every config of `configs/paper` has the paper's form, and fits, tests and reports by the commands that it states."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from html_page import Page

from dmml.__main__ import main
from dmml.commands import extract
from dmml.slides.tiling.grid import DEFAULT_TILE_PX
from dmml.slides.wsi.mpp import pixel_um

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "paper"
CONFIGS = sorted(FOLDER.glob("*.yaml"))
TASKS = ("diagnosis", "grading", "survival")
EPOCHS = 2


def arguments(name: str) -> dict:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["model"]["init_args"]


def commands(task: str) -> list[list[str]]:
    """The commands in the header of a teacher's config, in their order; what follows two blanks and a # is a remark."""
    header = re.findall(r"^#(.*)$", (FOLDER / f"{task}.yaml").read_text(), re.MULTILINE)
    text = "\n".join(line.strip() for line in header).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith(("dmml ", "python "))]
    return [shlex.split(line, comments=True) for line in lines]


def test_each_task_has_a_teacher_and_a_student():
    assert [path.stem for path in CONFIGS] == sorted(f"{task}{kind}" for task in TASKS for kind in ("", "_student"))


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_parts_that_the_paper_lacks_are_switched_off(name):
    model = arguments(name)
    off = ("program_weight", "decorrelation_weight", "token_dropout", "embedding_dropout")
    assert [model[key] for key in off] == [0] * len(off)
    assert model["backbone"] is None
    assert model["tissue_specific"] is False
    assert "class_weights" not in model["task"]["init_args"]
    if name.endswith("_student"):
        assert (model["prediction_weight"], model["feature_weight"]) == (1, 1), "the paper's losses are unweighted"
        assert (model["teacher_program_weight"], model["consistency_weight"]) == (0, 0)


@pytest.mark.parametrize("task", TASKS)
def test_teacher_and_student_of_a_task_read_the_same_patients(task):
    teacher, student = (yaml.safe_load((FOLDER / f"{task}{kind}.yaml").read_text()) for kind in ("", "_student"))
    sections = [config["data"]["init_args"] for config in (teacher, student)]
    differ = {key for key in sections[0] if sections[0][key] != sections[1].get(key)}
    assert differ == {"batch_size"}
    assert sections[0]["max_tokens"] == {10: 2500, 20: 2500}, "the paper's number of tiles, at each magnification"
    assert teacher["model"]["init_args"]["task"] == student["model"]["init_args"]["task"]
    assert student["model"]["init_args"]["teacher"] == f"{teacher['trainer']['default_root_dir']}/checkpoints/best.ckpt"
    assert teacher["trainer"]["max_epochs"] == 10


@pytest.mark.parametrize("task", TASKS)
def test_the_header_leads_from_slides_to_the_page_of_the_tables(task):
    verbs = [words[1] for words in commands(task)]
    assert verbs == [
        "extract",
        "cohort",
        "fit",
        "fit",
        "test",
        "test",
        "report",
        "crossval",
        "benchmarks/paper_tables.py",
    ]
    parser = argparse.ArgumentParser()
    extract.add_arguments(parser)
    options = parser.parse_args(commands(task)[0][2:])
    assert (options.encoder, options.stain_normalization) == ("resnet50", "vahadane")
    assert {m: pixel_um(m) for m in options.magnifications} == {10: 1.0, 20: 0.5}
    assert DEFAULT_TILE_PX == 224


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder like the repository: small copies of the configs, and a simulated cohort where they look for it."""
    root = tmp_path_factory.mktemp("project")
    argv = ["--features-only", "--patients", "36", "--held-out", "1", "--dim", "8"]
    assert main(["simulate", str(root / "simulated"), *argv]) == 0
    (root / "data").mkdir()
    (root / "simulated" / "development").rename(root / "data" / "gbmlgg")
    clinical = root / "data" / "gbmlgg" / "clinical.csv"
    table = pd.read_csv(clinical)
    table["diagnosis"] = table["grade"].map({"G2": "Oligodendroglioma", "G3": "Astrocytoma-low-grade"})
    high = table["sex"].map({"female": "Glioblastoma", "male": "Astrocytoma-G4"})
    table["diagnosis"] = table["diagnosis"].fillna(high.where(table["grade"] == "G4"))
    table.to_csv(clinical, index=False)
    (root / "configs" / "paper").mkdir(parents=True)
    for path in CONFIGS:
        config = yaml.safe_load(path.read_text())
        config["model"]["init_args"]["width"] = 16
        config["trainer"] |= {"max_epochs": EPOCHS, "enable_progress_bar": False}
        (root / "configs" / "paper" / path.name).write_text(yaml.safe_dump(config))
    return root


@pytest.fixture
def here(project, monkeypatch) -> Path:
    monkeypatch.chdir(project)
    return project


def run_commands(task: str, *verbs: str) -> None:
    for words in commands(task):
        if words[0] == "dmml" and words[1] in verbs:
            assert main(words[1:]) == 0, words


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_config_fits_tests_and_reports_by_its_commands(here, task):
    run_commands(task, "fit", "test", "report")
    for run in (f"runs/paper/{task}", f"runs/paper/{task}_student"):
        checkpoint = torch.load(f"{run}/checkpoints/best.ckpt", weights_only=True)
        assert checkpoint["epoch"] == EPOCHS - 1, "the last epoch is tested, whatever inner validation says"
        names = list(checkpoint["state_dict"])
        assert not any("tissue_heads" in name or name.startswith("backbone") for name in names)
        part = "aggregator.10x.tissue_attention." if run.endswith("_student") else "fusion.10x_tumor.selection."
        assert any(name.startswith(part) for name in names)
        metrics = json.loads(Path(f"{run}/test/gbmlgg_fold0/metrics.json").read_text())
        primary = metrics["c_index" if task == "survival" else "accuracy"]
        assert 0 <= primary["value"] <= 1
        Page(Path(f"{run}/test/gbmlgg_fold0/report.html").read_text()).check()


@pytest.mark.slow
def test_a_cross_validation_of_a_config_fills_the_page_of_the_tables(here, repository, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import paper_tables

    words = next(words for words in commands("survival") if words[1] == "crossval")
    assert main([*words[1:], "--models", "teacher,student,student_undistilled"]) == 0
    assert paper_tables.main([*commands("survival")[-1][2:], "--out", str(tmp_path)]) == 0
    content = json.loads(Path("runs/paper/survival_crossval/crossval.json").read_text())
    page = (tmp_path / "paper_tables.md").read_text()
    table = page.split("### Table III: ")[1].split("\n### ")[0]
    for row, model in (("teacher", "teacher"), ("distilled", "student"), ("student", "student_undistilled")):
        lines = table.split(f"\n| **{row}** |")[1].split("| **")[0]
        value = content["models"][model]["c_index"]["pooled"]["value"]
        [cells] = [line.split(" | ") for line in lines.splitlines() if "dmml, patients" in line]
        assert cells[3].startswith(f"{100 * value:.2f} ("), row
        [figure] = [line for line in page.splitlines() if line.startswith(f"| {row}: hazard ratio")]
        ratio = content["hazard_ratio"][model]["value"]
        assert figure.split(" | ")[2].startswith("–" if ratio is None else f"{ratio:.2f}"), row
