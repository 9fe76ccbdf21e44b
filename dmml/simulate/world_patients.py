"""Patients of a world: those of the default simulation with the world's factors, hazard and follow-up.

A patient has the same shared factors, slides and site in every world, and the same h and g in every world that has them.
All patients have RNA: worlds differ in which data carry the signal, not in which data are missing.
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
    visible_factors,
)
from dmml.simulate.worlds import OPPOSED, World, world_named

FOLLOW_UP_DAYS = (60.0, 1500.0)
"""Earliest and latest end of follow-up in days; the end is uniform in between."""
UNEVEN_LAST_DAYS = dict(zip(SITES["development"], (400.0, 800.0, 1200.0, 1600.0, 2000.0, 2400.0), strict=True))
"""Latest end of follow-up in days at each site, in worlds with uneven follow-up."""
COMMON_SHARE = 0.9
"""Share of variance that the opposed factors of tumor and microenvironment have in common; they correlate by 0.8."""


@dataclass(frozen=True)
class WorldPatient(Patient):
    """A patient of a world."""

    world: World
    h: float
    """Standard normal factor that only tissue shows. Drawn in every world, even where it has no effect."""
    g: float
    """Standard normal factor that only genes show, or the common part of the opposed factors."""

    @property
    def opposed(self) -> tuple[float, float]:
        """Opposed factors of tumor and microenvironment, each standard normal, with a difference proportional to h."""
        common, apart = np.sqrt(COMMON_SHARE) * self.g, np.sqrt(1 - COMMON_SHARE) * self.h
        return common + apart, common - apart


def draw_world(name: str, cohort: str, n: int, seed: int) -> list[WorldPatient]:
    """Draw the first `n` patients of a world's cohort.

    Args:
        name: Name of the world, a key of `WORLDS`.
        cohort: `"development"` or `"held_out"`.
        n: Number of patients.
        seed: Seed of the cohort.

    Raises:
        InputError: `name` is not a known world.
    """
    world = world_named(name)
    return [_move_into_world(world, patient) for patient in draw_patients(cohort, n, seed)]


def _move_into_world(world: World, patient: Patient) -> WorldPatient:
    """Put a patient into a world; a separate generator is used, so that the default simulation does not change."""
    rng = patient.generator("world")
    h, g = (float(value) for value in rng.standard_normal(2))
    risk = world.shared_effect * patient.risk + _added_log_hazard(world, h, g)
    days, event = _outcome(risk, FOLLOW_UP_DAYS[0], _last_day(world, patient.site), rng)
    values = {each.name: getattr(patient, each.name) for each in fields(Patient)}
    values |= {"risk": risk, "days": days, "event": event, "stage": draw_stage(risk, rng), "has_expression": True}
    return WorldPatient(**values, world=world, h=h, g=g)


def _added_log_hazard(world: World, h: float, g: float) -> float:
    """Contribution of h and g to the log-hazard."""
    return world.h_effect * h + world.g_effect * g + world.product_effect * h * g


def _last_day(world: World, site: str) -> float:
    return UNEVEN_LAST_DAYS.get(site, FOLLOW_UP_DAYS[1]) if world.uneven_follow_up else FOLLOW_UP_DAYS[1]


def _outcome(risk: float, first_day: float, last_day: float, rng: np.random.Generator) -> tuple[int, int]:
    """Draw a Weibull survival time under proportional hazards, censored at the end of follow-up. → (days, event)."""
    scale = MEDIAN_DAYS / np.log(2) ** (1 / WEIBULL_SHAPE)
    death = scale * (rng.exponential() / np.exp(risk)) ** (1 / WEIBULL_SHAPE)
    last_seen = rng.uniform(first_day, last_day)
    return max(1, round(min(death, last_seen))), int(death <= last_seen)


def oracles(patient: WorldPatient, visibility: float) -> dict[str, float]:
    """Expected log-hazard given each modality, measured without error: the upper bound for any model.

    Genes reveal the six factors and g. Slides reveal h, and the six factors as far as they show them. Where the
    subspaces are opposed, both modalities reveal h. Neither reveals what age adds to the risk.

    Args:
        patient: Patient of a world.
        visibility: Correlation between each shared factor and what a slide shows of it.

    Returns:
        {"oracle_rna", "oracle_slide", "oracle_both"}, each up to a constant that is the same for all patients.
    """
    world = patient.world
    visible = np.mean([visible_factors(patient, slide, visibility) for slide in range(len(patient.slides))], axis=0)
    from_genes = world.shared_effect * float(log_hazard(patient.factors))
    from_slides = world.shared_effect * float(expected_log_hazard(visible, visibility, len(patient.slides)))
    h_of_genes = patient.h if world.planting == OPPOSED else 0.0
    return {
        "oracle_rna": from_genes + _added_log_hazard(world, h_of_genes, patient.g),
        "oracle_slide": from_slides + _added_log_hazard(world, patient.h, 0.0),
        "oracle_both": from_genes + _added_log_hazard(world, patient.h, patient.g),
    }


def expected_log_hazard(visible: np.ndarray, visibility: float, n_slides: int = 1) -> np.ndarray:
    """E[log-hazard of the shared factors | what a patient's slides show of them].

    With factors f ~ N(0, C) and, for the mean of n slides, visible = v f + √((1 − v²) / n) noise, f given visible is normal
    with mean K visible and covariance C − v K C, where K = v C (v² C + (1 − v²) / n I)⁻¹. The log-hazard is linear except
    for one product, whose expectation is the product of the two means plus their covariance. That covariance is the
    same for all patients with n slides, so that `log_hazard` of the mean is off by a constant only.

    Args:
        visible: (..., 6) mean over the patient's slides, in the order of `FACTOR_NAMES`.
        visibility: v in (0, 1].
        n_slides: Number of slides n.

    Returns:
        (...) expected log-hazard, up to a constant.
    """
    spread = visibility**2 * CORRELATION + (1 - visibility**2) / n_slides * np.eye(len(CORRELATION))
    return log_hazard(visible @ np.linalg.solve(spread, visibility * CORRELATION))
