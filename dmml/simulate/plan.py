"""The settings of a simulation. Standard library only, so that they are checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

VISIBILITY = {"features": 0.8, "slides": 0.9}
"""Default correlation between each factor and what a slide shows of it, in (0, 1]. It is higher for rendered slides,
because rendering and the encoder blur the factors once more."""


@dataclass(frozen=True)
class Plan:
    """Settings of a simulation: the arguments of `dmml simulate`."""

    out: Path
    patients: int = 60
    held_out: int = 40
    seed: int = 0
    features_only: bool = False
    dim: int = 64
    visibility: float | None = None
    world: str | None = None
    """Key of `dmml.simulate.worlds.WORLDS`; None for the default simulation."""

    @property
    def sizes(self) -> dict[str, int]:
        """Number of patients in each cohort."""
        return {"development": self.patients, "held_out": self.held_out}

    @property
    def shown(self) -> float:
        """The visibility, or its default if none is given."""
        return (
            VISIBILITY["features" if self.features_only else "slides"] if self.visibility is None else self.visibility
        )

    def arguments(self) -> dict[str, object]:
        """All settings that determine the content of the files."""
        chosen = {"patients": self.patients, "held_out": self.held_out, "seed": self.seed, "visibility": self.shown}
        chosen |= {"features_only": self.features_only, "dim": self.dim if self.features_only else None}
        return chosen if self.world is None else chosen | {"world": self.world}
