"""Patients of a world: those of the default simulation with the world's factors, another hazard and another follow-up.

A patient has the same shared factors, slides and site in every world, and the same h and g in every world that has them.
All have RNA: a world is about what carries the signal, not about what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from dmml.simulate.truth import (
    CORRELATION,
    MEDIAN_DAYS,
    SITES,
    WEIBULL_SHAPE,
    Patient,
    draw_patients,
    draw_stage,
    log_hazard,
    shown_factors,
)
from dmml.simulate.worlds import OPPOSED, World, world_named

FOLLOW_UP_DAYS = (60.0, 1500.0)
"""Earliest and latest end of follow-up, uniform in between."""
UNEVEN_LAST_DAYS = dict(zip(SITES["development"], (400.0, 800.0, 1200.0, 1600.0, 2000.0, 2400.0), strict=True))
"""Latest end of follow-up by site, where it is uneven."""
COMMON_SHARE = 0.9
"""Share of the variance of the opposed factors of tumor and microenvironment that they have in common; they correlate by 0.8."""


@dataclass(frozen=True)
class WorldPatient(Patient):
    """A patient of a world."""

    world: World
    h: float
    """Standard normal; what tissue shows. Drawn in every world, also where it has no effect."""
    g: float
    """Standard normal; what genes show, or what opposed subspaces have in common"""

    @property
    def opposed(self) -> tuple[float, float]:
        """Opposed factors of tumor and microenvironment, each standard normal; their difference is h."""
        common, apart = np.sqrt(COMMON_SHARE) * self.g, np.sqrt(1 - COMMON_SHARE) * self.h
        return common + apart, common - apart


def draw_world(name: str, cohort: str, n: int, seed: int) -> list[WorldPatient]:
    """The first `n` patients of a cohort of a world.

    Args:
        name: Of the world, a key of `WORLDS`.
        cohort: `"development"` or `"held_out"`.
        n: Number of patients.
        seed: Of the cohort.

    Raises:
        InputError: There is no such world.
    """
    world = world_named(name)
    return [_enter(world, patient) for patient in draw_patients(cohort, n, seed)]


def _enter(world: World, patient: Patient) -> WorldPatient:
    """The patient in a world, drawn by separate generators so that the default simulation does not change."""
    rng = patient.generator("world")
    h, g = (float(value) for value in rng.standard_normal(2))
    risk = world.shared_effect * patient.risk + _own_hazard(world, h, g)
    days, event = _outcome(risk, FOLLOW_UP_DAYS[0], _last_day(world, patient.site), rng)
    kept = {each.name: getattr(patient, each.name) for each in fields(Patient)}
    kept |= {"risk": risk, "days": days, "event": event, "stage": draw_stage(risk, rng), "has_expression": True}
    return WorldPatient(**kept, world=world, h=h, g=g)


def _own_hazard(world: World, h: float, g: float) -> float:
    """What a world's own factors add to the log-hazard."""
    return world.h_effect * h + world.g_effect * g + world.product_effect * h * g


def _last_day(world: World, site: str) -> float:
    return UNEVEN_LAST_DAYS.get(site, FOLLOW_UP_DAYS[1]) if world.uneven_follow_up else FOLLOW_UP_DAYS[1]


def _outcome(risk: float, first_day: float, last_day: float, rng: np.random.Generator) -> tuple[int, int]:
    """Weibull time under proportional hazards, cut off by the end of follow-up. → (days, event)."""
    scale = MEDIAN_DAYS / np.log(2) ** (1 / WEIBULL_SHAPE)
    death = scale * (rng.exponential() / np.exp(risk)) ** (1 / WEIBULL_SHAPE)
    last_seen = rng.uniform(first_day, last_day)
    return max(1, round(min(death, last_seen))), int(death <= last_seen)


def oracles(patient: WorldPatient, visibility: float) -> dict[str, float]:
    """Expected log-hazard given each kind of data, read without error: the best that a model can reach.

    Genes know the six factors and g, slides the six factors as far as they show them and h; where the subspaces are
    opposed both know h. Neither knows what age adds to the risk.

    Args:
        patient: Of a world.
        visibility: Correlation of what a slide shows with each shared factor.

    Returns:
        {"oracle_rna", "oracle_slide", "oracle_both"}, each up to a constant that is the same for all patients.
    """
    world = patient.world
    shown = np.mean([shown_factors(patient, slide, visibility) for slide in range(len(patient.slides))], axis=0)
    from_genes = world.shared_effect * float(log_hazard(patient.factors))
    from_slides = world.shared_effect * float(expected_log_hazard(shown, visibility, len(patient.slides)))
    h_of_genes = patient.h if world.planting == OPPOSED else 0.0
    return {
        "oracle_rna": from_genes + _own_hazard(world, h_of_genes, patient.g),
        "oracle_slide": from_slides + _own_hazard(world, patient.h, 0.0),
        "oracle_both": from_genes + _own_hazard(world, patient.h, patient.g),
    }


def expected_log_hazard(shown: np.ndarray, visibility: float, n_slides: int = 1) -> np.ndarray:
    """E[log-hazard of the shared factors | what the slides of a patient show of them].

    Factors f ~ N(0, C), and shown = v f + √((1 − v²) / n) noise on the mean of n slides make f given shown normal, with
    mean K shown and covariance C − v K C, where K = v C (v² C + (1 − v²) / n I)⁻¹. The log-hazard is linear but for one
    product, whose expectation adds the covariance of the two: the same for all patients, and left to `log_hazard` of the
    mean it only shifts.

    Args:
        shown: (..., 6) mean over the patient's slides, in the order of `FACTOR_NAMES`.
        visibility: v in (0, 1].
        n_slides: n.

    Returns:
        (...), up to a constant.
    """
    spread = visibility**2 * CORRELATION + (1 - visibility**2) / n_slides * np.eye(len(CORRELATION))
    return log_hazard(shown @ np.linalg.solve(spread, visibility * CORRELATION))
