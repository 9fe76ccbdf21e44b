"""A small simulated cohort on disk, made once per test session and shared by all tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from dmml.data.module import MultimodalDataModule
from dmml.simulate.settings import SimulationSettings
from dmml.simulate.simulation import simulate

DIM = 16


def simulated(factory: pytest.TempPathFactory) -> Path:
    """Folder with `development` (30 patients) and `held_out` (8), token features of width 16, and small gene sets."""
    out = factory.getbasetemp() / "simulated"
    if not (out / "sets").is_dir():
        simulate(SimulationSettings(out=out, patients=30, held_out=8, features_only=True, dim=DIM))
        import dmml.cohort.gene_sets.gene_sets as shipped

        (out / "sets").mkdir()
        for subspace, sets in shipped.read_gene_sets().items():
            lines = ["\t".join([name, "-", *genes[:12]]) for name, genes in list(sets.items())[:3]]
            (out / "sets" / f"{subspace}.gmt").write_text("\n".join(lines) + "\n")
    return out


def data_of(
    folder: Path, cohort: str = "development", kind: type[MultimodalDataModule] = MultimodalDataModule, **changes: Any
) -> MultimodalDataModule:
    """Data module of one of its cohorts; by default survival, three folds, both magnifications."""
    return kind(**(section_of(folder, cohort) | {"batch_size": 6} | changes))


def section_of(folder: Path, cohort: str = "development") -> dict[str, Any]:
    """Its data section, as a config has it."""
    cohort_folder = folder / cohort
    return {
        "clinical": str(cohort_folder / "clinical.csv"),
        "outcome": {"time": "os_days", "event": "os_event", "unit": "days"},
        "expression": str(cohort_folder / "expression.parquet"),
        "gene_sets": {s: str(folder / "sets" / f"{s}.gmt") for s in ("tumor", "tme")},
        "features": str(cohort_folder / "features.zarr"),
        "split": {"folds": 3, "seed": 0} if cohort == "development" else None,
    }


def quiet_trainer(folder: Path, **changes: Any) -> Trainer:
    """A trainer on the CPU that logs, keeps and prints nothing, and validates no sooner than after an epoch."""
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(default_root_dir=folder, accelerator="cpu", num_sanity_val_steps=0, **quiet, **changes)
