"""The cohorts of `real_histology.py`: tables as a user would have them, and stores written by `dmml features import`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import real_rna_by_hand as by_hand
import yaml
from numpy.typing import NDArray

from dmml.__main__ import main as dmml
from dmml.cohort.clinical.table import Clinical, read_clinical
from dmml.cohort.splits.make_folds import make_folds
from dmml.store import FeatureStore

MCAT = "tcga_luad/mcat_luad_all_clean.csv.zip"
SURVIVAL = {"time": "os_days", "event": "os_event", "unit": "days"}
WITH_RNA = ("teacher", "student", "student_undistilled", "histology_abmil", "histology_mean", "rna_linear")
SLIDES_ALONE = ("student_undistilled", "histology_abmil", "histology_mean")


@dataclass
class CohortFiles:
    """A cohort on disk and the settings of its cross-validation."""

    folder: Path
    clinical: pd.DataFrame
    outcome: dict[str, Any]
    task: str
    split: Any
    models: tuple[str, ...] = SLIDES_ALONE
    repeats: int = 1
    expression: dict[str, Any] | None = None
    slide_id: str | None = None
    positive: str = ""
    """The class whose probability is evaluated, the second of two"""
    slides: dict[str, list[str]] = field(default_factory=dict)
    """{patient: slides}, if the ids of the store are not those of the patients"""
    for_ridge: str = "features.zarr"
    """Store that models by hand read, in which the unordered instances of a bag may be columns side by side"""

    def folds(self) -> list[list[tuple[list[str], list[str]]]]:
        """(training, test) patients of each fold of each repeat, as in `dmml crossval`."""
        if not isinstance(self.split, dict):
            return [by_hand.folds(Path(self.split))]
        clinical = read_clinical(self.folder / "clinical.csv", outcome=self.outcome)
        return [self._dealt(clinical, self.split["seed"] + repeat) for repeat in range(self.repeats)]

    def _dealt(self, clinical: Clinical, seed: int) -> list[tuple[list[str], list[str]]]:
        dealt = make_folds(clinical, self.split["folds"], self.split["stratify"], seed=seed)
        return [(list(dealt.index[dealt != k]), list(dealt.index[dealt == k])) for k in sorted(dealt.unique())]

    @property
    def store(self) -> Path:
        """Feature store."""
        return self.folder / "features.zarr"

    def vectors(self) -> dict[str, NDArray]:
        """{patient: (N, D)} for models by hand, NaN where a value is missing."""
        store = FeatureStore(self.folder / self.for_ridge)
        slides_of = self.slides or {name: [name] for name in store.slides()}
        complete = {patient: store.whole(slides) for patient, slides in slides_of.items()}
        return {
            patient: np.concatenate([store.read(slide, 20).features for slide in slides])
            for patient, slides in complete.items()
            if slides
        }

    def write(self) -> tuple[Path, Path | None]:
        """Write the clinical table and the configs.

        Returns:
            The config of the teacher, or of the student without RNA; and the student's config if there is a teacher.
        """
        self.clinical.to_csv(self.folder / "clinical.csv", index=False)
        data: dict[str, Any] = {
            "name": self.folder.name,
            "clinical": str(self.folder / "clinical.csv"),
            "outcome": self.outcome,
            "features": str(self.store),
            "magnifications": [20],
            "split": self.split,
            "batch_size": 32,
        }
        data |= {"expression": self.expression} if self.expression else {}
        data |= {"slide_id": self.slide_id} if self.slide_id else {}
        first, student = self.folder / "config.yaml", self.folder / "student.yaml"
        kinds = (
            {first: "SubspaceTeacher", student: "SubspaceStudent"} if self.expression else {first: "SubspaceStudent"}
        )
        for path, kind in kinds.items():
            content = {
                "seed_everything": 0,
                "model": {"class_path": kind, "init_args": {"task": {"class_path": self.task}}},
                "data": {"class_path": "MultimodalDataModule", "init_args": data},
                "trainer": {
                    "default_root_dir": str(self.folder / "run"),
                    "gradient_clip_val": 1.0,
                },
            }
            path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return first, student if self.expression else None


def luad(work: Path, data: Path) -> CohortFiles:
    """TCGA-LUAD: 607 features of tissue areas and cells of each slide, RNA, overall survival, published folds."""
    folder = _imported(
        work / "luad",
        data / "tcga_luad_histology" / "luad_hifs.csv.gz",
        "--id",
        "case",
        "--columns",
        "*_HE",
        "--missing",
        "-1",
    )
    return CohortFiles(folder, _luad_clinical(data), SURVIVAL, "Survival", *_luad_rna(data))


def nuclear(work: Path, data: Path) -> CohortFiles:
    """The same patients with the shapes of nuclei: 8 kinds of cells per slide, 96 features each. Needs openpyxl."""
    tables = data / "tcga_luad_histology"
    words = (work / "nuclear", tables / "luad_nuhifs.xlsx", "--id", "H & E_ID")
    folder = _imported(*words, "--instances", "8")
    _imported(*words, store="side_by_side.zarr")
    owner = pd.read_excel(tables / "luad_metadata.xlsx").rename(columns={"H & E_ID": "slide_id"})
    owner = owner[["slide_id", "bcr_patient_barcode"]].astype(str)
    clinical = _luad_clinical(data).merge(owner, left_on="patient_id", right_on="bcr_patient_barcode", how="left")
    slides = {patient: list(ids) for patient, ids in owner.groupby("bcr_patient_barcode")["slide_id"]}
    return CohortFiles(
        folder,
        clinical.drop(columns="bcr_patient_barcode"),
        SURVIVAL,
        "Survival",
        *_luad_rna(data),
        slide_id="slide_id",
        slides=slides,
        for_ridge="side_by_side.zarr",
    )


def _luad_rna(data: Path) -> tuple[str, tuple[str, ...], int, dict[str, Any]]:
    """Split, models, repeats and expression of both LUAD cohorts."""
    expression = {"path": str(data / MCAT), "patient_id": "case_id", "suffix": "_rnaseq", "scale": "zscore"}
    return str(data / "tcga_luad" / "splits_5fold"), WITH_RNA, 1, expression


def _luad_clinical(data: Path) -> pd.DataFrame:
    return pd.read_csv(data / "tcga_luad" / "clinical.csv", dtype={"site": str})


def hancock(work: Path, data: Path, other: str = "1") -> CohortFiles:
    """HANCOCK: 512 deep features of a core of the tumor; p16 positive (code 2) against another code.

    Args:
        work: Folder in which the cohort is written.
        data: Folder of `hancock/`.
        other: Code of the other class: 1, or 0 in the oropharynx alone.
    """
    folder = _imported(
        work / ("hancock" if other == "1" else "oropharynx"),
        data / "hancock" / "tma_tile_dtr_256_HE.npz",
        "--encoder",
        "dtr_256",
    )
    table = pd.read_csv(data / "hancock" / "pathological.csv", dtype=str)
    table["p16"] = table["hpv_association_p16"].map({other: "other", "2": "positive"})
    table = table.dropna(subset="p16")[["patient_id", "p16"]]
    table = table[table["patient_id"].isin(FeatureStore(folder / "features.zarr").slides())]
    split = {"folds": 5, "stratify": True, "seed": 0}
    return CohortFiles(folder, table, {"label": "p16"}, "Classification", split, positive="positive")


def oropharynx(work: Path, data: Path) -> CohortFiles:
    """HANCOCK, p16 positive against code 0: both of the oropharynx."""
    return hancock(work, data, "0")


def musk1(work: Path, data: Path) -> CohortFiles:
    """musk1: 92 molecules, each a bag of up to 40 shapes with 166 features; is it a musk?"""
    folder = work / "musk1"
    folder.mkdir(parents=True, exist_ok=True)
    raw = pd.read_csv(data / "mil" / "musk1.csv", header=None)
    raw.columns = ["musk", "molecule", *(f"f{i}" for i in range(raw.shape[1] - 2))]
    raw["molecule"] = "m" + raw["molecule"].astype(str)
    raw.drop(columns="musk").to_csv(folder / "shapes.csv", index=False)
    _imported(folder, folder / "shapes.csv", "--id", "molecule")
    table = raw.groupby("molecule", as_index=False)["musk"].first().rename(columns={"molecule": "patient_id"})
    table["musk"] = table["musk"].map({0: "inactive", 1: "musk"})
    split = {"folds": 10, "stratify": True, "seed": 0}
    return CohortFiles(folder, table, {"label": "musk"}, "Classification", split, repeats=5, positive="musk")


def _imported(folder: Path, source: Path, *options: str, store: str = "features.zarr") -> Path:
    """Import vectors into the store of a cohort's folder; an existing store is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    if code := dmml(["features", "import", str(source), "--out", str(folder / store), *options]):
        raise SystemExit(code)
    return folder


COHORTS = {"luad": luad, "nuclear": nuclear, "hancock": hancock, "oropharynx": oropharynx, "musk1": musk1}
