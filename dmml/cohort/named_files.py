"""The files that a data section names, whether they are there, and their hashes. Standard library only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmml.errors import InputError


def named_files(section: Mapping[str, Any]) -> dict[str, Path]:
    """{option: path} of every local file or folder that a data section names."""
    named: dict[str, Any] = {
        option: section.get(option) for option in ("clinical", "expression", "features", "gene_sets", "split")
    }
    if isinstance(named["expression"], Mapping):
        named["expression.probes"] = named["expression"].get("probes")
        named["expression.patients"] = named["expression"].get("patients")
        named["expression"] = named["expression"].get("path")
    if isinstance(named["gene_sets"], Mapping):
        named |= {f"gene_sets.{subspace}": named["gene_sets"].get(subspace) for subspace in ("tumor", "tme")}
        named["gene_sets"] = None
    if isinstance(named["split"], Mapping):
        named["split"] = None
    found = {option: Path(path) for option, path in named.items() if path and "://" not in str(path)}
    for number, other in enumerate(section.get("also") or [], start=1):
        found |= {f"also[{number}].{option}": path for option, path in named_files(other).items()}
    return found


def refuse_missing(section: Mapping[str, Any]) -> None:
    """Refuse a data section that names files which are not there, all of them in one message.

    Raises:
        InputError: No clinical table is named, or files are missing.
    """
    if not all(one.get("clinical") for one in (section, *(section.get("also") or []))):
        raise InputError("data: no clinical table is named; add clinical: path/to/clinical.csv")
    missing = [f"{path} ({option})" for option, path in named_files(section).items() if not path.exists()]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise InputError(
            f"{', '.join(missing)} {are} not there; put the data in place, or name other files in the config"
        )


def hash_of(path: Path) -> str:
    """Hash of a file's content; of a folder, of its files' names, and of their contents where these are tables.

    A feature store is told by the names and sizes of its files: reading it would take longer than the check is worth.
    """
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path)}|{file.stat().st_size}\n".encode())
        if path.is_file() or file.suffix in (".csv", ".gmt", ".txt", ".json"):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
