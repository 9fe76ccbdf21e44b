"""The cohorts of `real_rna.py`: tables and configs for `dmml crossval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

CONFIGS = Path(__file__).parent.parent / "configs"
MCAT = "tcga_luad/mcat_luad_all_clean.csv.zip"
PORPOISE = "tcga_gbmlgg/porpoise_gbmlgg_all_clean.csv.zip"


def luad_clinical(data: Path) -> pd.DataFrame:
    """The patients of TCGA-LUAD: site, age, sex, stage, outcomes in days."""
    return pd.read_csv(data / "tcga_luad" / "clinical.csv", dtype={"site": str})


def luad_both(data: Path) -> pd.DataFrame:
    """Patients who have both forms of the outcome: days with 1 = died, and months with 1 = censored."""
    columns = ["case_id", "survival_months", "censorship"]
    months = pd.read_csv(data / MCAT, usecols=columns).drop_duplicates("case_id")
    table = luad_clinical(data).merge(months, left_on="patient_id", right_on="case_id").drop(columns="case_id")
    return table.dropna(subset=["os_days", "os_event", "survival_months", "censorship"])


def dealt_anew(table: pd.DataFrame, outcome: list[str], seed: int) -> pd.DataFrame:
    """The table with the outcomes of the patients who have one in a random order; all other columns stay."""
    table = table.copy()
    has_outcome = table[outcome].notna().all(axis=1).to_numpy()
    order = np.random.default_rng([seed, 20]).permutation(int(has_outcome.sum()))
    table.loc[has_outcome, outcome] = table.loc[has_outcome, outcome].to_numpy()[order]
    return table


def gbmlgg_clinical(data: Path) -> pd.DataFrame:
    """The patients of TCGA-GBMLGG with grade and diagnosis."""
    columns = ["case_id", "age", "is_female", "survival_months", "censorship"]
    table = pd.read_csv(data / PORPOISE, usecols=columns).drop_duplicates("case_id")
    table = table.merge(pd.read_csv(data / "tcga_gbmlgg" / "grade_diagnosis.csv"), on="case_id", how="left")
    return table.rename(columns={"case_id": "patient_id", "diag": "diagnosis"})


def config(name: str, data: Path, clinical: Path, **changed: Any) -> dict[str, Any]:
    """A shipped config with its tables under `data`, and another clinical table.

    Args:
        name: Stem of the file in `configs`.
        data: Folder of the cohorts.
        clinical: The clinical table.
        changed: Arguments of the data section.
    """
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    section = content["data"]["init_args"]
    section["expression"]["path"] = section["expression"]["path"].replace("data/", f"{data}/", 1)
    section["split"] = section["split"].replace("data/", f"{data}/", 1)
    section |= {"clinical": str(clinical)} | changed
    return content
