"""The settings of a simulation. Standard library only, so that they are checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_VISIBILITY = {"features": 0.8, "slides": 0.9}
"""Default correlation between each factor and what a slide shows of it, in (0, 1]. It is higher for rendered slides,
because rendering and the encoder blur the factors once more."""


@dataclass(frozen=True)
class SimulationSettings:
    """Settings of a simulation: the arguments of `dmml simulate`.

    Attributes:
        out: Folder for the two cohorts.
        patients: Number of patients of the development cohort.
        held_out: Number of patients of the held-out cohort.
        seed: Seed of the patients.
        features_only: Whether to write token features instead of slides.
        dim: Width of the token features.
        visibility: Correlation between each factor and what a slide shows of it; None for the default.
        world: Key of `dmml.simulate.worlds.WORLDS`; None for the default simulation.
        cells: Minimum and maximum number of 10x grid cells along each side of the tissue, for token features; None for
            the default, `dmml.simulate.tokens.CELLS`. `dmml simulate` has no option for it.
    """

    out: Path
    patients: int = 60
    held_out: int = 40
    seed: int = 0
    features_only: bool = False
    dim: int = 64
    visibility: float | None = None
    world: str | None = None
    cells: tuple[int, int] | None = None

    @property
    def cohort_sizes(self) -> dict[str, int]:
        """Number of patients in each cohort."""
        return {"development": self.patients, "held_out": self.held_out}

    @property
    def effective_visibility(self) -> float:
        """The visibility, or its default if none is set."""
        if self.visibility is not None:
            return self.visibility
        return DEFAULT_VISIBILITY["features" if self.features_only else "slides"]

    def arguments(self) -> dict[str, object]:
        """All settings that determine the content of the files."""
        arguments: dict[str, object] = {
            "patients": self.patients,
            "held_out": self.held_out,
            "seed": self.seed,
            "visibility": self.effective_visibility,
            "features_only": self.features_only,
            "dim": self.dim if self.features_only else None,
        }
        arguments |= {} if self.world is None else {"world": self.world}
        return arguments if self.cells is None else arguments | {"cells": list(self.cells)}
