"""Images and Jobs: pinned versions, no root user, and nothing that a linter or the schema of Kubernetes refuses."""

import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def jobs(repository):
    files = sorted((repository / "deploy/kubernetes").glob("*.yaml"))
    assert [file.stem for file in files] == ["collect", "crossval", "extract"]
    return [yaml.safe_load(file.read_text()) for file in files]


def images(repository):
    return {name: (repository / "deploy" / name).read_text() for name in ("Dockerfile", "dmml.def")}


def test_the_dockerfile_passes_hadolint(repository):
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, repository / "deploy/Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_jobs_follow_the_schema_of_kubernetes(repository):
    for job in jobs(repository):
        kubernetes_validate.validate(job, "1.37", strict=True)
    broken = jobs(repository)[0]
    broken["spec"]["template"]["spec"]["restartPolice"] = "Never"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.37", strict=True)


def test_nothing_runs_as_root(repository):
    user = re.search(r"^USER (\d+):(\d+)$", images(repository)["Dockerfile"], re.MULTILINE)
    assert user is not None
    for job in jobs(repository):
        pod = job["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == int(user[1]) > 0
        assert pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False


def test_both_images_are_built_from_the_same_parts(repository):
    for text in images(repository).values():
        assert "python:3.11-slim-bookworm" in text
        assert "nvidia/cuda:" in text
        assert "'.[demo,stain,overlay,dicom,explain,xlsx]'" in text
        assert text.count("--constraint deploy/constraints.txt") == 2
        for file in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
            assert file in text
            assert f"!{file}" in (repository / "deploy/Dockerfile.dockerignore").read_text()


def test_every_dependency_is_pinned_to_a_version_that_dmml_allows(repository):
    """A new dependency or extra belongs in deploy/constraints.txt, too."""
    lines = [line for line in (repository / "deploy/constraints.txt").read_text().splitlines() if line[0] != "#"]
    pinned = dict(line.split("==") for line in lines)
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = re.search(r"'\.\[([\w,]+)\]'", images(repository)["Dockerfile"])[1].split(",")
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    for requirement in map(Requirement, texts):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in deploy/constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}"
