"""A file may name a user's own class, but not code that came in the same folder."""

import sys

import pytest

from dmml.class_paths import check_class_paths, import_class
from dmml.commands.config.mistakes import check_class_names
from dmml.errors import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory that Python imports from, as it is for every command."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def test_a_class_in_the_working_directory_is_imported(folder):
    (folder / "my_numbers.py").write_text("class Even(int): ...\n")
    assert import_class("my_numbers.Even", int, folder / "runs" / "a" / "best.ckpt").__name__ == "Even"


@pytest.mark.parametrize("init", [True, False], ids=["package", "namespace package"])
def test_code_in_the_folder_of_the_file_is_not_run(folder, init):
    received = folder / "from_somebody"
    received.mkdir()
    (received / "evil.py").write_text("from pathlib import Path\nPath('ran').touch()\nclass A(int): ...\n")
    if init:
        (received / "__init__.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    with pytest.raises(InputError, match=r"from_somebody.evil.A.*same folder"):
        import_class("from_somebody.evil.A", int, received / "run" / "checkpoints" / "best.ckpt")
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("path", ["nowhere_at_all.A", "A", "", "json.nothing", "..a.B"])
def test_a_class_that_does_not_exist_is_refused(folder, path):
    with pytest.raises(InputError, match=r"best\.ckpt: its class .* cannot be imported"):
        import_class(path, int, "best.ckpt")


def test_a_class_of_another_kind_is_refused(folder):
    with pytest.raises(InputError, match=r"pathlib\.Path is not derived from builtins\.int"):
        import_class("pathlib.Path", int, "best.ckpt")


def test_every_class_that_a_file_names_is_checked_at_any_depth(folder):
    received = folder / "from_somebody"
    received.mkdir()
    hparams = {"task": {"init_args": {"parts": [{"class_path": "from_somebody.evil.A"}]}}, "class_paths": "x"}
    with pytest.raises(InputError, match=r"from_somebody\.evil\.A.*same folder"):
        check_class_paths(hparams, received / "best.ckpt")
    check_class_paths(hparams, folder / "runs" / "best.ckpt")
    check_class_paths(
        {"class_path": "gone.A", "other": [None, 3, {"_class_path": "pathlib.Path"}]}, received / "a.ckpt"
    )


@pytest.mark.parametrize(
    ("name", "present"),
    [
        ("dmml.nn.paper.PaperFusion", "dmml.nn.released_code.fusion.ReleasedFusion"),
        ("dmml.nn.paper.PaperExpressionEncoder", "dmml.nn.released_code.expression.ReleasedExpressionEncoder"),
        ("PaperExpressionEncoder", "ReleasedExpressionEncoder"),
    ],
)
def test_an_earlier_name_of_a_class_is_refused_with_the_present_one(name, present):
    section = {"model": {"init_args": {"part": {"class_path": name}}}}
    with pytest.raises(InputError, match=rf"^best\.ckpt: {name} is now {present}; write that name"):
        check_class_paths(section, "best.ckpt")
    with pytest.raises(InputError, match=rf"^model\.part: {name} is now {present}; write that name"):
        check_class_names(section)
