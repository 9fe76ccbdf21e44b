"""The latent model: the true state of a simulated patient before any measurement.

Three tumor factors and three TME factors, standard normal and modestly correlated, drive the hazard (with one
interaction between the groups), the grade, the RNA and the appearance of the slides. The model is the same for every
cohort and seed; only the patients differ. Each patient has separate random number generators, so that patient 7 of
seed 0 is the same regardless of how many other patients are drawn, and in which order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FACTORS = {
    "tumor": ("proliferation", "pleomorphism", "architecture"),
    "tme": ("lymphocytes", "fibrosis", "vessels"),
}
"""Factors of each subspace. High architecture means solid growth, low architecture well-formed glands."""
FACTOR_NAMES = FACTORS["tumor"] + FACTORS["tme"]

CORRELATION = np.array(
    [
        [1.00, 0.30, 0.25, 0.10, 0.00, 0.15],
        [0.30, 1.00, 0.30, 0.00, 0.10, 0.10],
        [0.25, 0.30, 1.00, -0.15, 0.15, 0.00],
        [0.10, 0.00, -0.15, 1.00, -0.20, 0.10],
        [0.00, 0.10, 0.15, -0.20, 1.00, -0.10],
        [0.15, 0.10, 0.00, 0.10, -0.10, 1.00],
    ]
)
"""Correlation matrix of the factors, in the order of `FACTOR_NAMES`."""

HAZARD = np.array([0.75, 0.55, 0.50, -0.80, 0.60, 0.50])
"""Log-hazard ratio per standard deviation of each factor."""
INTERACTION = -0.50
"""Log-hazard of proliferation × lymphocytes: an immune infiltrate restrains fast-dividing tumors most."""
AGE_EFFECT = 0.15
"""Log-hazard per standard deviation of age, which the clinical table gives but neither slides nor RNA show."""

GRADE_WEIGHTS = np.array([0.65, 0.75, 0.80, -0.25, 0.30, 0.20])
GRADE_NOISE = 0.45
GRADES = ("G2", "G3", "G4")
GRADE_CUTS = (-0.45, 0.55)
"""Thresholds between the grades, in standard deviations of the grade score."""

WEIBULL_SHAPE = 1.35
MEDIAN_DAYS = 700.0
FOLLOW_UP_DAYS = (500.0, 4000.0)
FIRST_DAY = 30
"""First possible day of death or last contact: patients who die earlier do not enter a cohort."""

SCORE_MEAN, SCORE_PER_RISK, SCORE_NOISE = 50.0, 6.0, 5.0
"""Mean of the molecular score, its change per unit of the log-hazard, and the standard deviation of its noise"""

SITES = {
    "development": ("Aspen", "Birch", "Cedar", "Dogwood", "Elm", "Fir"),
    "held_out": ("Hazel", "Juniper", "Larch"),
}
COHORTS = tuple(SITES)
SECOND_SLIDE_SHARE = 0.10
WITHOUT_RNA_SHARE = {"development": 0.10, "held_out": 0.0}

MODEL_SEED = 20_260
"""Seed of what is the same for all cohorts, such as gene loadings, feature directions and textures; it also enters the
generators of the patients."""


@dataclass(frozen=True)
class Patient:
    """One simulated patient with the true latent state."""

    patient_id: str
    cohort: str
    index: int
    seed: int
    site: str
    factors: np.ndarray
    """(6,) factors in the order of `FACTOR_NAMES`."""
    risk: float
    """Log-hazard; higher is worse."""
    days: int
    event: int
    """1 = died at `days`, 0 = alive at `days`, when last seen."""
    grade: str
    age: int
    sex: str
    stage: str
    slides: tuple[str, ...]
    has_expression: bool

    def generator(self, purpose: str) -> np.random.Generator:
        """Make the random number generator for one purpose of this patient."""
        return patient_generator(self.seed, self.cohort, self.index, purpose)


def patient_generator(seed: int, cohort: str, index: int, purpose: str) -> np.random.Generator:
    """Make the random number generator for one purpose of one patient, independent of all other such generators."""
    return np.random.default_rng([MODEL_SEED, seed, COHORTS.index(cohort), index, *purpose.encode()])


def draw_patients(cohort: str, n: int, seed: int) -> list[Patient]:
    """Draw the first `n` patients of a cohort.

    Args:
        cohort: `"development"` or `"held_out"`.
        n: Number of patients.
        seed: Seed of the cohort; another seed gives other patients of the same model.
    """
    return [_draw_patient(cohort, index, seed) for index in range(n)]


def _draw_patient(cohort: str, index: int, seed: int) -> Patient:
    rng = patient_generator(seed, cohort, index, "truth")
    factors = np.linalg.cholesky(CORRELATION) @ rng.standard_normal(len(FACTOR_NAMES))
    age_score = float(np.clip(rng.standard_normal(), -2.6, 2.2))
    risk = float(log_hazard(factors) + AGE_EFFECT * age_score)
    days, event = _outcome(risk, rng)
    patient_id = f"SIM{seed}-{cohort[0].upper()}{index + 1:04d}"
    n_slides = 1 + int(rng.random() < SECOND_SLIDE_SHARE)
    return Patient(
        patient_id=patient_id,
        cohort=cohort,
        index=index,
        seed=seed,
        site=SITES[cohort][rng.integers(len(SITES[cohort]))],
        factors=factors,
        risk=risk,
        days=days,
        event=event,
        grade=_grade(factors, rng),
        age=round(64 + 10.5 * age_score),
        sex="female" if rng.random() < 0.48 else "male",
        stage=draw_stage(risk, rng),
        slides=tuple(f"{patient_id}-S{k + 1}" for k in range(n_slides)),
        has_expression=bool(rng.random() >= WITHOUT_RNA_SHARE[cohort]),
    )


def log_hazard(factors: np.ndarray) -> np.ndarray:
    """Log-hazard of the factors: `factors @ HAZARD + INTERACTION · proliferation · lymphocytes`.

    Args:
        factors: (..., 6) in the order of `FACTOR_NAMES`.

    Returns:
        (...) log-hazard.
    """
    proliferation = factors[..., FACTOR_NAMES.index("proliferation")]
    lymphocytes = factors[..., FACTOR_NAMES.index("lymphocytes")]
    return factors @ HAZARD + INTERACTION * proliferation * lymphocytes


def _outcome(risk: float, rng: np.random.Generator) -> tuple[int, int]:
    """Draw a Weibull survival time under proportional hazards, censored at the end of follow-up. → (days, event)."""
    scale = MEDIAN_DAYS / np.log(2) ** (1 / WEIBULL_SHAPE)
    death = scale * (rng.exponential() / np.exp(risk)) ** (1 / WEIBULL_SHAPE)
    last_seen = rng.uniform(*FOLLOW_UP_DAYS)
    return FIRST_DAY + round(min(death, last_seen - FIRST_DAY)), int(death <= last_seen - FIRST_DAY)


def _grade(factors: np.ndarray, rng: np.random.Generator) -> str:
    score = factors @ GRADE_WEIGHTS + GRADE_NOISE * rng.standard_normal()
    spread = np.sqrt(GRADE_WEIGHTS @ CORRELATION @ GRADE_WEIGHTS + GRADE_NOISE**2)
    return GRADES[int(np.searchsorted(GRADE_CUTS, score / spread))]


def draw_stage(risk: float, rng: np.random.Generator) -> str:
    """Draw a stage that depends partly on the risk and mostly on noise."""
    spread = np.sqrt(HAZARD @ CORRELATION @ HAZARD)
    score = 0.45 * risk / spread + 0.9 * rng.standard_normal()
    return ("I", "II", "III", "IV")[int(np.searchsorted((-0.1, 0.6, 1.3), score))]


def molecular_score(patient: Patient) -> float:
    """Draw a patient's molecular score, a continuous value that rises with the log-hazard; to two digits.

    Its noise has a generator of its own, so that it changes nothing else of the patient.
    """
    noise = SCORE_NOISE * patient.generator("score").standard_normal()
    return round(SCORE_MEAN + SCORE_PER_RISK * patient.risk + float(noise), 2)


def visible_factors(patient: Patient, slide: int, visibility: float) -> np.ndarray:
    """Factors as one slide of a patient shows them, with noise: `v · f + √(1 − v²) · noise`.

    Args:
        patient: The patient to whom the slide belongs.
        slide: Index of the slide within the patient; slides have independent noise, as two blocks of one tumor would.
        visibility: Correlation v between a factor and what the slide shows of it, in (0, 1].

    Returns:
        (6,) in the order of `FACTOR_NAMES`, standard normal over patients.
    """
    noise = patient.generator(f"shown{slide}").standard_normal(len(FACTOR_NAMES))
    return visibility * patient.factors + np.sqrt(1 - visibility**2) * noise
