"""A short form of `benchmarks/fit_kills.py`: real processes, killed by SIGKILL and SIGTERM, and resumed."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_a_killed_and_resumed_fit_ends_like_an_uninterrupted_one(repository, tmp_path):
    script = repository / "benchmarks" / "fit_kills.py"
    argv = [sys.executable, str(script), "--kills", "2", "--patients", "12", "--epochs", "2", "--out", str(tmp_path)]
    run = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    page = (tmp_path / "fit_kills.md").read_text()
    assert "None differed in any bit." in page
    assert int(page.split("\n\n")[2].split(" kills")[0]) >= 2
