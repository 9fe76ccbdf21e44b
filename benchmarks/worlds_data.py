"""The patients of one world, as `dmml simulate` writes them: training, inner validation and test patients.

A seed has the same test patients for any number of training patients. They come from the sites of the training
patients, except in the world with shifted sites, where they come from other sites.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.experiment.crossval.fold_data import FoldData
from dmml.simulate.settings import SimulationSettings
from dmml.simulate.simulation import simulate
from dmml.simulate.worlds import WORLDS

ORACLES = ("oracle", "oracle_rna", "oracle_slide", "oracle_both")
"""The true risk, and the expected log-hazard given each kind of data; see `dmml.simulate.world_patients.oracles`."""


@dataclass(frozen=True)
class Setup:
    """Settings that all cells of a run share."""

    test: int = 400
    features: int = 64
    """Width of the token features"""
    max_epochs: int = 50
    """Default of `dmml fit`"""


@dataclass
class WorldData:
    """The data modules of one world, and the truth about its patients."""

    fitting: FoldData
    """Parts "train" and "val" are training and inner validation"""
    testing: FoldData
    """Part "test" are the tested patients"""
    truth: pd.DataFrame
    """Rows of the tested patients, in their order: `truth.csv`, and `time` (days) and `event`"""

    @property
    def test(self) -> list[str]:
        """Ids of the tested patients."""
        return list(self.truth.index)

    def outcome(self, patients: list[str]) -> dict[str, NDArray]:
        """`time` in days and `event` of training or inner validation patients."""
        return {name: values.astype(float) for name, values in self.fitting.outcome(patients).items()}

    def record(self) -> dict[str, list[float]]:
        """Outcomes, oracles and the world's factors of the tested patients, in plain Python."""
        columns = self.truth.rename(columns={"risk": "oracle"})
        kept = [name for name in ("time", "event", *ORACLES, "h", "g") if name in columns]
        return {name: columns[name].astype(float).tolist() for name in kept}


def read_world(world: str, patients: int, seed: int, setup: Setup, folder: Path) -> WorldData:
    """Simulate a world into a folder, or reuse what is there, and open it.

    Args:
        world: A key of `WORLDS`.
        patients: Number of training and inner validation patients; three quarters are for training.
        seed: Seed of the cohorts.
        setup: Settings that all cells share.
        folder: Folder of the cohorts.
    """
    elsewhere = WORLDS[world].site_size != 1
    # Every cohort needs at least one patient, and every split at least one test patient, even if it is not evaluated.
    n_test = 1 if elsewhere else setup.test
    sizes = (n_test + patients, setup.test if elsewhere else 1)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        simulate(SimulationSettings(folder, *sizes, seed, True, setup.features, None, world))
        development, held_out = folder / "development", folder / "held_out"
        ids = list(pd.read_csv(development / "truth.csv")["patient_id"])
        train = n_test + round(0.75 * patients)
        rows = {"train": ids[n_test:train], "val": ids[train:], "test": ids[:n_test]}
        fitting = _open(development, _write_split(folder / "split", rows))
        fitting.setup("fit")
        testing = _open(held_out, None) if elsewhere else _open(development, folder / "split")
        testing.setup("test")
    source = held_out if elsewhere else development
    return WorldData(fitting, testing, _truth(source, testing.patients("test")))


def _open(cohort: Path, split: Path | None) -> FoldData:
    arguments: dict[str, Any] = {
        "clinical": str(cohort / "clinical.csv"),
        "name": cohort.name,
        "outcome": {"time": "os_days", "event": "os_event", "unit": "days"},
        "expression": str(cohort / "expression.parquet"),
        "features": str(cohort / "features.zarr"),
    }
    return FoldData(**arguments, split=None if split is None else str(split))


def _write_split(folder: Path, parts: dict[str, list[str]]) -> Path:
    """Write one fold in the format of CLAM, with columns of unequal length."""
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame({name: pd.Series(ids, dtype=object) for name, ids in parts.items()})
    table.to_csv(folder / "splits_0.csv")
    return folder


def _truth(cohort: Path, patients: list[str]) -> pd.DataFrame:
    truth = pd.read_csv(cohort / "truth.csv").set_index("patient_id")
    clinical = pd.read_csv(cohort / "clinical.csv").drop_duplicates("patient_id").set_index("patient_id")
    return truth.assign(time=clinical["os_days"], event=clinical["os_event"]).loc[patients]


def mean_tokens(data: FoldData, patients: list[str]) -> NDArray[np.float64]:
    """(n, M · D) mean over all tokens of a patient, magnification after magnification."""
    read = (data.reader.read(patient).features for patient in patients)
    return np.stack(
        [np.concatenate([features[m].astype(float).mean(0) for m in sorted(features)]) for features in read]
    )
