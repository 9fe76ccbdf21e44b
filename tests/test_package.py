"""Wheel and source archive are complete, and the demo runs from the wheel in an empty folder, without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archives(repository, tmp_path_factory) -> Path:
    """Folder with the wheel, which is built from the source archive, and that archive."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(repository)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return out


@pytest.fixture(scope="module")
def wheel_only(archives, tmp_path_factory) -> Path:
    """Environment with the wheel; it borrows the dependencies of the environment of the tests, but not its dmml."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, *archives.glob("*.whl")], check=True)
    [packages] = folder.glob("lib/python3*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(environment: Path, *command: str, folder: Path) -> str:
    """Run `dmml` of the environment, and return what it prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DMML", "PYTEST"))}
    dmml = str(environment / "bin" / "dmml")
    done = subprocess.run(
        [dmml, *command], cwd=folder, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def tracked(repository: Path, *folders: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", *folders], cwd=repository, check=True, capture_output=True, text=True)
    return set(listed.stdout.split())


def test_every_file_of_the_package_is_in_both_archives(archives, repository):
    [wheel], [source] = archives.glob("*.whl"), archives.glob("*.tar.gz")
    expected = (tracked(repository, "dmml") - {"dmml/configs"}) | {
        f"dmml/{path}" for path in tracked(repository, "configs")
    }
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(source) as archive:
        in_source = {name.partition("/")[2] for name in archive.getnames()}
    assert expected - in_wheel == set()
    assert expected - in_source == set()
    assert {name.split("/")[0] for name in in_wheel if "dist-info" not in name} == {"dmml"}


def test_the_demo_runs_from_the_wheel(wheel_only, tmp_path):
    assert "the installation works" in run(wheel_only, "doctor", folder=tmp_path)
    out = run(wheel_only, "demo", "--patients", "30", "--held-out", "20", folder=tmp_path)
    assert "Look first at" in out
    assert (tmp_path / "runs" / "demo_student" / "report.html").is_file()
    assert "done before" in run(wheel_only, "demo", "--patients", "30", "--held-out", "20", folder=tmp_path)
