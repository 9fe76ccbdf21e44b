"""Checks the installation itself: versions, the library that opens slides, weights, the cache, and optional packages."""

from __future__ import annotations

import re
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, requires, version

from dmml._version import __version__
from dmml.errors import InputError, reason_of
from dmml.experiment.doctor.examination import Examination

PACKAGES = ("torch", "lightning", "timm", "zarr", "onnxruntime", "numpy", "pandas")
"""Packages whose versions a report of a mistake should name"""
FOR_DEVELOPERS = ("dev", "docs")
_EXTRA = re.compile(r"""^(?P<package>[\w.-]+)(?:\[[^\]]*\])?.*;.*extra\s*==\s*["'](?P<extra>[\w-]+)["']""")


def examine_installation(examination: Examination) -> None:
    """Add the findings on the installation. Nothing heavy is imported."""
    examination.add("dmml", __version__)
    examination.add("packages", ", ".join(f"{name} {_version(name) or 'missing'}" for name in PACKAGES))
    _examine_openslide(examination)
    _examine_encoder(examination)
    installed, missing = _extras()
    if installed:
        examination.add("extras", f"installed: {', '.join(installed)}")
    for extra, packages in missing.items():
        examination.add("extras", f"{extra}: not installed ({', '.join(packages)}); pip install 'dmml[{extra}]'")


def _examine_openslide(examination: Examination) -> None:
    try:
        import openslide
    except (ImportError, OSError) as error:  # the package is there, its binary is not
        reason = f"cannot be imported ({reason_of(error)}); pip install openslide-python openslide-bin"
        examination.add("openslide", reason, "blocks")
        return
    examination.add("openslide", f"{openslide.__library_version__} opens slides")


def _examine_encoder(examination: Examination) -> None:
    from dmml.slides.encoders.default_encoder import NAME, packaged_weights
    from dmml.slides.encoders.graph_cache import GraphCache

    for describe in (
        lambda: f"weights of the default, {NAME}: {packaged_weights().name}",
        lambda: f"exported encoders are kept in {GraphCache().folder}",
    ):
        try:
            examination.add("encoder", describe())
        except InputError as error:
            examination.add("encoder", str(error), "check")


def _extras() -> tuple[list[str], dict[str, list[str]]]:
    """Return the extras of dmml that are installed, and {extra: its missing packages} of the others."""
    packages: dict[str, list[str]] = defaultdict(list)
    for requirement in requires("dmml") or []:
        if (match := _EXTRA.match(requirement)) and match["extra"] not in FOR_DEVELOPERS and match["package"] != "dmml":
            packages[match["extra"]].append(match["package"])
    missing = {extra: [name for name in names if _version(name) is None] for extra, names in packages.items()}
    return [extra for extra, names in missing.items() if not names], {e: names for e, names in missing.items() if names}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
