"""`dmml export` refuses what cannot be exported in one line, and writes its folder completely or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from batches import GENES
from exported_students import ENCODER, student_checkpoint
from models import build

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.experiment.export import export_model as module
from dmml.experiment.export import verification
from dmml.experiment.export.export_model import export_model
from dmml.networks.checkpoint_content import FORMAT, FORMAT_KEY


def teacher_checkpoint(path: Path) -> Path:
    teacher = build("teacher", genes=GENES, fitted={"encoder": ENCODER})
    torch.save(
        {"state_dict": teacher.state_dict(), "hyper_parameters": dict(teacher.hparams), FORMAT_KEY: FORMAT}, path
    )
    return path


def error_of(capsys, *argv: object) -> str:
    assert main(["export", *map(str, argv)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_teacher_is_refused_in_one_line(capsys, tmp_path):
    ckpt = teacher_checkpoint(tmp_path / "teacher.ckpt")
    assert "is not a student" in error_of(capsys, ckpt, "out")
    with pytest.raises(InputError, match="is not a student"):
        export_model(ckpt, Path("out"))
    assert not Path("out").exists()


def test_a_student_that_compares_all_pairs_of_tiles_is_refused(capsys, tmp_path):
    ckpt = student_checkpoint(tmp_path / "m.ckpt", n_merged=None, with_backbone=False)
    assert "merges no tokens" in error_of(capsys, ckpt, "out")


@pytest.mark.parametrize("name", ["absent.ckpt", "text.ckpt"])
def test_what_is_no_checkpoint_is_refused(capsys, name):
    Path("text.ckpt").write_text("text")
    assert name in error_of(capsys, name, "out")


def test_an_existing_folder_is_replaced_only_on_request_and_only_if_it_is_an_export(capsys, tmp_path):
    ckpt, out = student_checkpoint(tmp_path / "m.ckpt", with_backbone=False), tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert "already exists; give --overwrite" in error_of(capsys, ckpt, out)
    assert "holds something other than an export" in error_of(capsys, ckpt, out, "--overwrite")
    assert "is a file" in error_of(capsys, ckpt, out / "mine.txt")
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_a_graph_that_differs_from_pytorch_is_not_written(classes, capsys, tmp_path, monkeypatch):
    """A tolerance of 0 stands for a wrong graph: nothing is left, and an earlier export stays as it was."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "export.json").write_text("earlier")
    # The student was exported before, and converting it again would take a minute.
    program = torch.export.load(classes.folder / "model.pt2")
    monkeypatch.setattr(module, "trace", lambda graph, example: program)
    monkeypatch.setattr(module, "to_onnx", lambda program, interface: classes.graph)
    monkeypatch.setattr(verification, "TOLERANCE", 0.0)
    assert "file differs from PyTorch by" in error_of(capsys, classes.ckpt, out, "--overwrite")
    assert [path.name for path in out.iterdir()] == ["export.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
