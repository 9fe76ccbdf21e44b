"""The output folder of a simulation: whether it may be written to, and whether it is complete. Standard library only.

`simulation.json` is written before anything else and holds the arguments and a state. A run that was killed is resumed
when the arguments are the same; a complete run is left alone; other arguments need `--overwrite`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmml.atomic_files import write_json
from dmml.errors import InputError
from dmml.writable import check_writable

MARKER = "simulation.json"
FORMAT = 1
"""Version of the simulation, increased when the same arguments would give other cohorts than before."""


def start_simulation(out: Path, arguments: Mapping[str, object], overwrite: bool = False) -> bool:
    """Check that a simulation with these arguments may be written to `out`, and mark it as running.

    Args:
        out: Output folder, created if it does not exist.
        arguments: All settings that determine the files, serialisable as JSON.
        overwrite: Remove another simulation from `out`. Nothing else is ever removed.

    Returns:
        False if `out` already holds this simulation and it is complete, else True.

    Raises:
        InputError: `out` holds files that no simulation wrote, an unreadable marker, or a simulation with other
            arguments while `overwrite` is off; or it is not a folder or cannot be written to.
    """
    wanted = {"format": FORMAT, "arguments": dict(arguments)}
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file, not a folder; name another folder for the simulated cohorts")
    present = _read_marker(out)
    if present is None and out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out}: holds files that no simulation wrote; name a new or empty folder")
    if present is not None and {key: present.get(key) for key in wanted} != wanted:
        if not overwrite:
            raise InputError(
                f"{out}: holds a simulation with {_difference(present, wanted)}; name another folder, or replace it "
                "with --overwrite"
            )
        check_writable(out, "name another folder for the simulated cohorts")
        for cohort in ("development", "held_out"):
            shutil.rmtree(out / cohort, ignore_errors=True)
    elif present is not None and present.get("state") == "complete":
        return False
    check_writable(out, "name another folder for the simulated cohorts")
    out.mkdir(parents=True, exist_ok=True)
    _write_marker(out, {**wanted, "state": "running"})
    return True


def finish_simulation(out: Path, arguments: Mapping[str, object]) -> None:
    """Mark the simulation in `out` as complete."""
    _write_marker(out, {"format": FORMAT, "arguments": dict(arguments), "state": "complete"})


def _read_marker(out: Path) -> dict[str, Any] | None:
    path = out / MARKER
    if not path.is_file():
        return None
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError):
        marker = None
    if not isinstance(marker, dict) or "arguments" not in marker:
        raise InputError(
            f"{path}: cannot be read as the marker of a simulation; remove the folder {out} and start again"
        )
    return marker


def _write_marker(out: Path, marker: Mapping[str, Any]) -> None:
    write_json(out / MARKER, marker)


def _difference(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Describe the arguments that differ, e.g. `seed = 0 instead of 1`."""
    before, after = present["arguments"], wanted["arguments"]
    names = [name for name in {**after, **before} if before.get(name) != after.get(name)]
    if not names:
        return f"format {present.get('format')} of another version of dmml"
    return ", ".join(f"{name} = {before.get(name)} instead of {after.get(name)}" for name in names)
