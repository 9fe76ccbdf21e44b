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
from dmml.simulate.settings import DEFAULT_VISIBILITY, SimulationSettings
from dmml.simulate.simulation import simulate
from dmml.simulate.truth import FACTORS, visible_factors
from dmml.simulate.truth import Patient as SimulatedPatient
from dmml.simulate.worlds import WORLDS

_VISIBILITY = DEFAULT_VISIBILITY["features"]
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


@dataclass(frozen=True)
class Scene:
    """A world whose cohort differs from the plain one in other respects than where the signal lies."""

    world: str
    """A key of `WORLDS`"""
    known_outcomes: float = 1.0
    """Share of the training and of the inner validation patients whose outcome is known; all have slides and RNA"""
    cells: tuple[int, int] | None = None
    """Minimum and maximum number of 10x grid cells along each side of the tissue; None for those of other worlds"""
    cost: float = 1.0
    """Assumed seconds of a fit, relative to a world with as many patients"""
    description: str = ""


SCENES = {
    "few_outcomes": Scene(
        "shared",
        known_outcomes=0.4,
        description="as `shared`, but the outcome of only two in five training and inner validation patients is known",
    ),
    "many_tokens": Scene(
        "rare_tissue",
        cells=(16, 20),
        cost=5.0,
        description="as `rare_tissue`, with about eight times as many tokens",
    ),
}
"""Scenes besides the worlds themselves"""


def scene_named(name: str) -> Scene:
    """A scene by its name; the name of a world is its plain scene."""
    return SCENES[name] if name in SCENES else Scene(name, description=WORLDS[name].description)


@dataclass
class WorldData:
    """The data modules of one world, and the truth about its patients."""

    world: str
    """Name of the world or scene"""
    fitting: FoldData
    """Parts "train" and "val" are training and inner validation"""
    testing: FoldData
    """Part "test" are the tested patients"""
    truth: pd.DataFrame
    """Rows of the tested patients, in their order: `truth.csv`, and `time` (days) and `event`"""
    simulated: dict[str, SimulatedPatient]
    """The simulated patients by id, the tested ones among them"""

    @property
    def test(self) -> list[str]:
        """Ids of the tested patients."""
        return list(self.truth.index)

    def outcome(self, patients: list[str]) -> dict[str, NDArray]:
        """`time` in days and `event` of training or inner validation patients."""
        return {name: values.astype(float) for name, values in self.fitting.outcome(patients).items()}

    def factors(self) -> dict[str, NDArray]:
        """{subspace: (n_test, 3)} true factors of the tested patients."""
        return _by_subspace(self.truth[[name for names in FACTORS.values() for name in names]].to_numpy(float))

    def visible_factors(self) -> dict[str, NDArray]:
        """{subspace: (n_test, 3)} factors of the tested patients as their slides show them, mean over the slides."""
        patients = (self.simulated[patient] for patient in self.test)
        by_slide = ([visible_factors(each, k, _VISIBILITY) for k in range(len(each.slides))] for each in patients)
        return _by_subspace(np.stack([np.mean(slides, axis=0) for slides in by_slide]))

    def record(self) -> dict[str, list[float]]:
        """Outcomes, oracles and the world's factors of the tested patients, in plain Python."""
        columns = self.truth.rename(columns={"risk": "oracle"})
        kept = [name for name in ("time", "event", *ORACLES, "h", "g") if name in columns]
        return {name: columns[name].astype(float).tolist() for name in kept}


def read_world(world: str, patients: int, seed: int, setup: Setup, folder: Path) -> WorldData:
    """Simulate a world into a folder, or reuse what is there, and open it.

    Args:
        world: A key of `WORLDS` or `SCENES`.
        patients: Number of training and inner validation patients; three quarters are for training.
        seed: Seed of the cohorts.
        setup: Settings that all cells share.
        folder: Folder of the cohorts.
    """
    scene = scene_named(world)
    elsewhere = WORLDS[scene.world].site_size != 1
    # Every cohort needs at least one patient, and every split at least one test patient, even if it is not evaluated.
    n_test = 1 if elsewhere else setup.test
    sizes = (n_test + patients, setup.test if elsewhere else 1)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        settings = SimulationSettings(folder, *sizes, seed, True, setup.features, None, scene.world, scene.cells)
        cohorts = simulate(settings)
        development, held_out = folder / "development", folder / "held_out"
        ids = list(pd.read_csv(development / "truth.csv")["patient_id"])
        train = n_test + round(0.75 * patients)
        rows = {"train": ids[n_test:train], "val": ids[train:], "test": ids[:n_test]}
        if scene.known_outcomes < 1:
            _hide_outcomes(development / "clinical.csv", [rows["train"], rows["val"]], scene.known_outcomes)
        fitting = _open(development, _write_split(folder / "split", rows))
        fitting.setup("fit")
        testing = _open(held_out, None) if elsewhere else _open(development, folder / "split")
        testing.setup("test")
    source = held_out if elsewhere else development
    simulated = {patient.patient_id: patient for each in cohorts.values() for patient in each}
    return WorldData(world, fitting, testing, _truth(source, testing.patients("test")), simulated)


def _hide_outcomes(clinical: Path, parts: list[list[str]], known_share: float) -> None:
    """Remove the outcomes of all but the first patients of each part from a clinical table."""
    table = pd.read_csv(clinical)
    hidden = [patient for part in parts for patient in part[round(known_share * len(part)) :]]
    table.loc[table["patient_id"].isin(hidden), ["os_days", "os_event"]] = np.nan
    table.to_csv(clinical, index=False)


def _by_subspace(factors: NDArray) -> dict[str, NDArray]:
    """(n, 6) factors in the order of `FACTORS` → {subspace: (n, 3)}."""
    return {s: factors[:, 3 * i : 3 * i + 3] for i, s in enumerate(FACTORS)}


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
