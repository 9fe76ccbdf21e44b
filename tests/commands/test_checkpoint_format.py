"""Every command that reads a checkpoint refuses one of an earlier dmml in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dmml.__main__ import main
from dmml.networks.checkpoint_content import FORMAT_KEY

pytestmark = pytest.mark.slow


@pytest.fixture
def refused_format(capsys):
    """Runs a command that must be refused because of the format of the checkpoint."""

    def run(*argv: object) -> None:
        capsys.readouterr()
        assert main([str(word) for word in argv]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        assert len(lines) == 1, lines
        assert "earlier.ckpt: this checkpoint was written by an earlier dmml (format 1)" in lines[0]

    return run


@pytest.fixture
def earlier(journey, tmp_path) -> Path:
    """The teacher's checkpoint as an earlier dmml wrote it, without a format number."""
    return without_number(journey.best("teacher"), tmp_path / "earlier.ckpt")


def without_number(best: str, path: Path) -> Path:
    checkpoint = torch.load(best, weights_only=True)
    del checkpoint[FORMAT_KEY]
    torch.save(checkpoint, path)
    return path


def test_no_command_reads_a_checkpoint_of_an_earlier_dmml(refused_format, journey, earlier, shared_data, tmp_path):
    held = journey.config("format_held_out", cohort="held_out")
    for command in ("test", "validate", "predict"):
        refused_format(command, "--ckpt_path", earlier, "--config", held)
    slide = shared_data / "slides" / "cmu_small_region.svs"
    refused_format("predict-slide", slide, "--ckpt_path", earlier, "--out", tmp_path / "out")
    for argument in ("teacher", "init_from"):
        kind = "SubspaceStudent" if argument == "teacher" else "SubspaceTeacher"
        refused_format("fit", "--config", journey.config(f"format_{argument}", kind, model={argument: str(earlier)}))


def test_doctor_reports_a_checkpoint_of_an_earlier_dmml(journey, earlier, capsys):
    held = journey.config("format_doctor", cohort="held_out")
    assert main(["doctor", "--ckpt_path", str(earlier), "--config", str(held)]) != 0
    assert "written by an earlier dmml (format 1)" in " ".join(capsys.readouterr().out.split())


def test_an_unfinished_run_of_an_earlier_dmml_is_not_resumed(cohorts, capsys, kill_fit):
    config = str(cohorts.config("format_cut", "SubspaceTeacher", trainer={"max_epochs": 3}))
    kill_fit(config)
    last = cohorts.run("format_cut") / "checkpoints" / "last.ckpt"
    without_number(str(last), last)
    capsys.readouterr()
    assert main(["fit", "--config", config, "--resume"]) == 2
    assert "last.ckpt: this checkpoint was written by an earlier dmml" in capsys.readouterr().err
