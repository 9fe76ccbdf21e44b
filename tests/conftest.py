"""What every test relies on: a directory of its own, a fixed seed, one thread, and the real data beside the checkout."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the test processes share the cores

import random
from pathlib import Path

import numpy as np
import pytest
from blank_plots import leave_plots_blank
from groups_of_tests import CHECKED, DRAWN, THOROUGH, TOGETHER
from xdist.scheduler import LoadFileScheduling

REPOSITORY = Path(__file__).resolve().parent.parent


class FilesAndFolders(LoadFileScheduling):
    """Gives a test process whole files, or whole folders of `TOGETHER`."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((folder for folder in TOGETHER if file.startswith(f"tests/{folder}")), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FilesAndFolders | None:
    """Replace the scheduling by files; `xdist_group` would need a mark on every test."""
    return FilesAndFolders(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests of `make check` and of `make thorough`."""
    if not item.get_closest_marker("slow"):
        return
    if f"{_path(item)}::{item.name}".startswith(THOROUGH):
        item.add_marker("thorough")
    elif _path(item).startswith(CHECKED):
        item.add_marker("check")


def _path(item: pytest.Item) -> str:
    """Path of a test's file below `tests/`."""
    return item.path.relative_to(REPOSITORY / "tests").as_posix()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first, so that no test process is left alone with one at the end."""
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow_files)


@pytest.fixture(autouse=True)
def _own_directory(tmp_path, monkeypatch):
    """Run in an empty directory, so that nothing is left in the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _fixed_seed():
    """Seed every generator that a test may touch without naming it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test may draw from the legacy generator
    import torch

    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _blank_plots(request, monkeypatch):
    """Draw plots only where a test looks at them, and in fixtures that several tests share."""
    if not _path(request.node).startswith(DRAWN):
        leave_plots_blank(monkeypatch)


@pytest.fixture(autouse=True, scope="session")
def _own_encoder_cache():
    """Keep exported encoders in the checkout, so that a run of the tests exports the default encoder at most once."""
    folder = REPOSITORY / ".pytest_cache" / "encoders"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMML_ENCODER_CACHE", str(folder))
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real slides and tables beside the checkout."""
    return folder_beside_the_checkout("data")


@pytest.fixture(scope="session")
def shared_faults() -> Path:
    """Folder of inputs that once failed, beside the checkout; each has a README with its command and the right result."""
    return folder_beside_the_checkout("faults")


def folder_beside_the_checkout(name: str) -> Path:
    """`../shared/<name>`; CI must have it, elsewhere the tests that read it are skipped."""
    folder = REPOSITORY.parent / "shared" / name
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{folder} is missing, and in CI the tests that read it must run")
        pytest.skip(f"needs the folder {folder}")
    return folder
