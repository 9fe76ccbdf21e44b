"""Files that dmml writes beside a download: sample sheet, clinical data, and a config for `dmml crossval`."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from dmml.atomic_files import write_text
from dmml.cohort.fetch.fetch_manifest import CLINICAL, Entry
from dmml.cohort.fetch.remote_file import RemoteFile

SHEET = "gdc_sample_sheet.tsv"
CONFIG = "crossval.yaml"
_COVARIATES = ("age", "sex", "stage")
_CONFIG_HEADER = """\
# {project}, overall survival: `dmml crossval --config` compares teacher, student and baselines on the folds of folds.csv.
# Written by `dmml cohort fetch`, which writes it anew each time: copy it before you change it.
"""


def write_sample_sheet(folder: Path, files: Sequence[RemoteFile]) -> None:
    """Write the sample sheet of RNA files, in the columns of the portal."""
    rows = [file.sheet_row for file in files if file.sheet_row]
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    write_text(folder / SHEET, "\n".join(lines) + "\n")


def write_clinical(folder: Path, cases: Sequence[Mapping[str, object]]) -> Entry:
    """Write the clinical data of cases as the portal exports them, and return their entry of the manifest."""
    text = json.dumps(cases, indent=1) + "\n"
    write_text(folder / CLINICAL, text)
    content = text.encode()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Entry(CLINICAL, "clinical", CLINICAL, len(content), md5, is_complete=True)


def next_commands(folder: Path, project: str, kinds: Sequence[str]) -> list[str]:
    """The commands that lead from a fetched cohort to a cross-validation; those that lack their input are left out."""
    commands = []
    if "clinical" in kinds:
        rna = [folder / "rna", "--sample-sheet", folder / SHEET] if "rna" in kinds else []
        commands.append(["cohort", "gdc", *rna, "--clinical", folder / CLINICAL, "--out", folder])
        outcome = ["--time", "os_days", "--event", "os_event"]
        site = ["--site", "site"] if project.startswith("TCGA-") else []
        table = folder / "clinical.csv"
        commands.append(["cohort", "split", "--clinical", table, *outcome, *site, "--out", folder / "folds.csv"])
    elif "rna" in kinds:
        table = folder / "expression.parquet"
        commands.append(["cohort", "expression", folder / "rna", "--patients", folder / SHEET, "--out", table])
    if "slides" in kinds:
        commands.append(["extract", folder / "slides", "--out", folder / "features.zarr"])
    if "clinical" in kinds and len(kinds) > 1:
        commands += [[command, "--config", folder / CONFIG] for command in ("doctor", "crossval")]
    return [shlex.join(["dmml", *map(str, words)]) for words in commands]


def write_config(folder: Path, project: str, kinds: Sequence[str]) -> None:
    """Write a config for `dmml crossval`.

    Covariates are the columns of the clinical data that are stated for at least half of the patients.

    Raises:
        InputError: The clinical data cannot be read.
    """
    import yaml

    from dmml.cohort.gdc.clinical import read_gdc_clinical

    clinical, _ = read_gdc_clinical([folder / CLINICAL])
    name = project.lower().replace("-", "_")
    inputs = {
        "covariates": [column for column in _COVARIATES if clinical[column].notna().mean() >= 0.5] or None,
        "expression": str(folder / "expression.parquet") if "rna" in kinds else None,
        "features": str(folder / "features.zarr") if "slides" in kinds else None,
    }
    data = {
        "name": name,
        "clinical": str(folder / "clinical.csv"),
        "outcome": {"time": "os_days", "event": "os_event", "unit": "days"},
        **{option: value for option, value in inputs.items() if value},
        "split": str(folder / "folds.csv"),
        "fold": 0,
        "batch_size": 8,
        "pack": 16,
    }
    task = {"class_path": "Survival", "init_args": {"n_intervals": 4}}
    config = {
        "seed_everything": 0,
        "model": {"class_path": "SubspaceTeacher", "init_args": {"task": task}},
        "data": {"class_path": "MultimodalDataModule", "init_args": data},
        "trainer": {"default_root_dir": f"runs/{name}", "max_epochs": 50, "gradient_clip_val": 1.0},
    }
    write_text(folder / CONFIG, _CONFIG_HEADER.format(project=project) + yaml.safe_dump(config, sort_keys=False))
