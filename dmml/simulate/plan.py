"""What to simulate. Standard library only, so that arguments can be checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

VISIBILITY = {"features": 0.8, "slides": 0.9}
"""Default correlation of each factor with what a slide shows; pixels and encoder blur what is shown once more."""


@dataclass(frozen=True)
class Plan:
    """What to simulate; the arguments of `dmml simulate`."""

    out: Path
    patients: int = 60
    held_out: int = 40
    seed: int = 0
    features_only: bool = False
    dim: int = 64
    visibility: float | None = None
    world: str | None = None
    """A key of `dmml.simulate.worlds.WORLDS`; None = the default simulation"""

    @property
    def sizes(self) -> dict[str, int]:
        """Patients per cohort."""
        return {"development": self.patients, "held_out": self.held_out}

    @property
    def shown(self) -> float:
        """Visibility, its default filled in."""
        return (
            VISIBILITY["features" if self.features_only else "slides"] if self.visibility is None else self.visibility
        )

    def arguments(self) -> dict[str, object]:
        """All that the files depend on."""
        chosen = {"patients": self.patients, "held_out": self.held_out, "seed": self.seed, "visibility": self.shown}
        chosen |= {"features_only": self.features_only, "dim": self.dim if self.features_only else None}
        return chosen if self.world is None else chosen | {"world": self.world}
