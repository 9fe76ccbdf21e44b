"""Lists the files that a data section names, and checks that they exist. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmml.cohort.cohort_config import file_arguments
from dmml.errors import InputError


def named_files(section: Mapping[str, Any]) -> dict[str, Path]:
    """{option: path} of every local file or folder that a data section names.

    Args:
        section: Arguments of a data section as a config states them, whose types need not have been checked.
    """
    named: dict[str, Any] = {option: section.get(option) for option in file_arguments()}
    if isinstance(named["expression"], Mapping):
        named["expression.probes"] = named["expression"].get("probes")
        named["expression.patients"] = named["expression"].get("patients")
        named["expression"] = named["expression"].get("path")
    if isinstance(named["gene_sets"], Mapping):
        named |= {f"gene_sets.{subspace}": named["gene_sets"].get(subspace) for subspace in ("tumor", "tme")}
        named["gene_sets"] = None
    if isinstance(named["split"], Mapping):
        named["split"] = None
    # Values of other types, such as a number without quotes in YAML, are refused where the config's types are checked.
    texts = {option: path for option, path in named.items() if isinstance(path, (str, Path))}
    local = {option: Path(path) for option, path in texts.items() if path and "://" not in str(path)}
    for number, other in enumerate(section.get("also") or [], start=1):
        local |= {f"also[{number}].{option}": path for option, path in named_files(other).items()}
    return local


def named_stores(section: Mapping[str, Any]) -> dict[str, str]:
    """{option: path or URL} of every feature store that a data section names."""
    stores = {"features": str(section["features"])} if section.get("features") else {}
    for number, other in enumerate(section.get("also") or [], start=1):
        stores |= {f"also[{number}].{option}": path for option, path in named_stores(other).items()}
    return stores


def check_files_exist(section: Mapping[str, Any]) -> None:
    """Refuse a data section whose files do not exist; one message lists all that are missing.

    Raises:
        InputError: No clinical table is named, or files are missing.
    """
    if not all(cohort.get("clinical") for cohort in (section, *(section.get("also") or []))):
        raise InputError("data: no clinical table is named; add clinical: path/to/clinical.csv")
    missing = [f"{path} ({option})" for option, path in named_files(section).items() if not path.exists()]
    if missing:
        verb = "does" if len(missing) == 1 else "do"
        raise InputError(
            f"{', '.join(missing)} {verb} not exist; put the data in place, or name other files in the config"
        )
