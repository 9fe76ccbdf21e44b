"""A place that cannot be written to is named in one line before the work, and nothing is left half-done."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from drawn_slides import write_slide

from dmml.__main__ import main
from dmml.cohort.rna.expression_file import read_expression_file
from dmml.commands.config.file_checks import check_checkpoint
from dmml.errors import InputError
from dmml.evaluation.result_folders import find_tests
from dmml.writable import check_writable, write_failure


@pytest.fixture(scope="module")
def read_only(folds, tmp_path_factory):
    """A folder that nobody can write to, with a run in it: a read-only mount for root, who ignores permission bits."""
    folder = tmp_path_factory.mktemp("read_only")
    mounted = os.geteuid() == 0 and not _mount("-t", "tmpfs", "tmpfs", folder)
    try:
        shutil.copytree(folds.run("fold1"), folder / "runs" / "fold1")
        shutil.copytree(folds.root / "held_out" / "features.zarr", folder / "features.zarr")
        (folder / "fold1.yaml").write_text(yaml.safe_dump(_without_folder(folds.root / "fold1.yaml")))
        if mounted:
            assert not _mount("-o", "remount,ro", folder)
        elif os.geteuid() == 0:
            reason = "root ignores permission bits, and a read-only file system cannot be mounted here"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
        else:
            for path in (folder, *folder.rglob("*")):
                path.chmod(0o555 if path.is_dir() else 0o444)
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=True)
        else:
            for path in (folder, *folder.rglob("*")):
                path.chmod(0o755)


def _mount(*words) -> int:
    """Exit code of `mount`; 127 where there is none."""
    if shutil.which("mount") is None:
        return 127
    return subprocess.run(["mount", *words], check=False, capture_output=True).returncode


def _without_folder(config: Path) -> dict:
    content = yaml.safe_load(config.read_text())
    content["trainer"].pop("default_root_dir")
    return content


@pytest.fixture
def refused(capsys):
    """Runs a command line that must be refused; returns its one line on stderr."""

    def run(*argv) -> str:
        capsys.readouterr()
        assert main([str(word) for word in argv]) == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        return line

    return run


COMMANDS = {
    "fit": "fit --config {config} --trainer.default_root_dir {folder}/new/run",
    "fit again": "fit --config {config} --overwrite --trainer.default_root_dir {folder}/runs/fold1",
    "test": "test --config {config} --ckpt_path {folder}/runs/fold1/checkpoints/best.ckpt",
    "test elsewhere": "test --config {config} --ckpt_path {best} --trainer.default_root_dir={folder}/new",
    "predict": "predict --config {config} --ckpt_path {folder}/runs/fold1/checkpoints/best.ckpt",
    "crossval": "crossval --config {config} --out {folder}/cv",
    "report": "report {folder}/runs/fold1",
    "report elsewhere": "report {run} --out {folder}/new/report.html",
    "predict-slide": "predict-slide S.tif --mpp 0.5 --ckpt_path {best} --out {folder}/answer",
    "expression": "cohort expression {data}/expression.parquet --out {folder}/e.parquet",
    "split": "cohort split --clinical {data}/clinical.csv --out {folder}/s.csv",
    "gdc": "cohort gdc {data} --sample-sheet s.tsv --clinical c.tsv --out {folder}/cohort",
    "extract": "extract S.tif --mpp 0.5 --out {folder}/f.zarr",
    "extract more": "extract S.tif --mpp 0.5 --out {folder}/features.zarr",
    "import": "features import {data} --out {folder}/f.zarr",
    "simulate": "simulate {folder}/demo --features-only",
}
"""Command lines that would write into a folder, in a run that is there or in a new place."""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_the_folder_that_it_cannot_write_to(folds, read_only, refused, command):
    write_slide(Path("S.tif"), np.full((600, 600, 3), 200, np.uint8), levels=(1,))
    config, run = folds.root / "fold1.yaml", folds.run("fold1")
    places = {"folder": read_only, "config": config, "run": run, "best": folds.best("fold1")}
    line = refused(*COMMANDS[command].format(**places, data=folds.root / "development").split())
    assert str(read_only) in line
    assert "cannot be written to" in line
    assert "read-only file system" in line or "permission denied" in line
    assert "another" in line


def test_the_default_run_folder_is_checked_in_a_read_only_working_directory(read_only, refused, monkeypatch):
    monkeypatch.chdir(read_only)
    assert "runs/development: cannot be written to" in refused("fit", "--config", "fold1.yaml")
    assert "machine: runs: cannot be written to" in refused("doctor", "--config", "fold1.yaml")


@pytest.mark.slow
def test_reading_needs_no_permission_to_write(folds, read_only, tmp_path, capsys):
    checkpoint = str(read_only / "runs" / "fold1" / "checkpoints" / "best.ckpt")
    argv = ["--config", str(folds.root / "three_folds.yaml"), "--data.fold", "1", "--ckpt_path", checkpoint]
    assert main(["features", "verify", str(read_only / "features.zarr")]) == 0
    assert main(["validate", *argv]) == 0
    assert main(["test", *argv, "--trainer.default_root_dir", str(tmp_path / "own")]) == 0
    assert main(["report", str(tmp_path / "own"), "--out", str(tmp_path / "page.html")]) == 0
    assert list((tmp_path / "page_plots").glob("fold1_training_loss*")), "its curves are read where they lie"


@pytest.fixture
def as_somebody(tmp_path):
    """Run a function in a separate process as a user who is not root; return what it raised."""
    for path in (tmp_path, *tmp_path.parents):  # pytest-xdist adds a level, and pytest closes the folder of all runs
        if not path.stat().st_mode & 0o001:
            path.chmod(0o755)

    def run(function, *arguments) -> str:
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setuid(65534)
            try:
                function(*arguments)
            except BaseException as error:
                os.write(writing, f"{type(error).__name__}: {error}".encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with os.fdopen(reading, encoding="utf-8") as stream:
            return stream.read()

    return run


def test_a_file_that_may_not_be_read_is_not_called_damaged(folds, tmp_path, as_somebody):
    table = shutil.copy(folds.root / "development" / "expression.parquet", tmp_path)
    checkpoint = shutil.copy(folds.best("fold1"), tmp_path)
    for path, read, message in (
        (Path(table), read_expression_file, "you have no permission to read this file; change its permissions"),
        (Path(checkpoint), check_checkpoint, "may not be read; give yourself the right to"),
    ):
        path.chmod(0)
        assert as_somebody(read, path) == f"InputError: {path}: {message}"


def test_a_result_that_may_not_be_read_is_not_skipped(tmp_path, as_somebody):
    for name in ("open", "closed"):
        (tmp_path / "run" / "test" / name).mkdir(parents=True)
        (tmp_path / "run" / "test" / name / "predictions.csv").write_text("patient_id,risk\n")
    closed = tmp_path / "run" / "test" / "closed"
    assert len(find_tests([tmp_path / "run"])) == 2
    closed.chmod(0)
    assert f"InputError: {closed} may not be read" in as_somebody(find_tests, [tmp_path / "run"])
    closed.parent.chmod(0)
    assert f"InputError: {closed.parent} may not be read" in as_somebody(find_tests, [tmp_path / "run"])
    closed.parent.chmod(0o755)


def test_a_file_in_place_of_a_folder_is_named(tmp_path, refused, folds):
    (tmp_path / "taken").write_text("")
    (tmp_path / "leads").symlink_to("nowhere")
    clinical = folds.root / "development" / "clinical.csv"
    assert "taken: is a file" in refused("cohort", "split", "--clinical", clinical, "--out", "taken/s.csv")
    assert "leads: is a file" in refused("cohort", "split", "--clinical", clinical, "--out", "leads/x/s.csv")
    config = folds.root / "fold1.yaml"
    assert "taken: is a file" in refused("fit", "--config", config, "--trainer.default_root_dir", "taken/run")
    assert (tmp_path / "taken").read_text() == ""


def test_a_check_leaves_nothing_behind_and_makes_no_folder(tmp_path):
    check_writable(tmp_path / "a" / "b")
    check_writable("s3://bucket/folder")
    check_writable("relative/folder")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_during_a_run_is_reported_in_one_line(monkeypatch, refused, tmp_path):
    """On a file system of 64 kB where one can be mounted; the error itself is the system's in any case."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() == 0 and not _mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", folder):
        try:
            line = refused("simulate", folder / "demo", "--features-only", "--patients", "4", "--dim", "8")
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
        assert "No space left on device" in line
        assert "make room" in line
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x/best.ckpt")
    assert write_failure(full) == "runs/x/best.ckpt: no space left on device; make room, then run the command again"
    assert write_failure(OSError(errno.ECONNRESET, "reset")) is None


def test_the_python_function_raises_what_the_commands_print(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: is a file, but a folder is needed there; give another one"):
        check_writable(tmp_path / "file" / "x", "give another one")
