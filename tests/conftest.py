"""What every test stands on: a directory of its own, a fixed seed, one thread, and real data where it lies."""

import os
import random
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


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


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real slides and tables beside the checkout; CI must have it, elsewhere its tests are skipped."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{folder} is missing, and in CI the tests on real data must run")
        pytest.skip(f"needs the real data folder {folder}")
    return folder
