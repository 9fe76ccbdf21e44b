"""A working directory in which the files exist that the documentation names."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from blank_plots import leave_plots_blank
from documented_files import write_extensions, write_project, write_runs

from dmml.commands import extract
from dmml.commands.extract import options_of
from dmml.evaluation import interval_settings


@contextmanager
def lightened() -> Iterator[pytest.MonkeyPatch]:
    """Leave out what takes most of the time and shows nothing about the commands: resamples, processes, drawing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interval_settings, "RESAMPLES", 50)
        leave_plots_blank(patch)
        patch.setattr(extract, "options_of", lambda args: options_of(args) | {"readers": 0})
        yield patch


@pytest.fixture(autouse=True)
def _lightened():
    """Lighten each test by itself: a fixture that lives longer would reach the tests of other folders."""
    with lightened():
        yield


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """The files that no fit makes: slides, tables, features, configs and modules of a user's own."""
    root = tmp_path_factory.mktemp("project")
    with lightened() as patch:
        patch.chdir(root)
        write_project(root)
    return root


@pytest.fixture(scope="session")
def project_with_runs(project) -> Path:
    """The same with fitted runs and cross-validations."""
    with lightened() as patch:
        patch.chdir(project)
        write_runs(project)
    return project


@pytest.fixture
def own_modules(tmp_path, monkeypatch) -> Path:
    """The modules of docs/extending.md in the working directory, from where they are imported."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    for module in (*write_extensions(tmp_path), "my_plots"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path


@pytest.fixture
def work_in(tmp_path, own_modules):
    """Copies a prepared folder into the working directory of a test."""

    def copy(folder: Path) -> Path:
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("cohorts"))
        (tmp_path / "cohorts").symlink_to(folder / "cohorts")  # the largest part, into which nothing is written
        return tmp_path

    return copy
