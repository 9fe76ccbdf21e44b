"""Writes a simulated study to disk: two cohorts with clinical tables, truth, RNA, and slides or token features."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from dmml._version import __version__
from dmml.atomic_files import write_text
from dmml.cohort.rna.expression import Expression, write_expression
from dmml.progress_bars import hide_bar
from dmml.simulate.expression import draw_counts, gene_model, star_counts, tpm
from dmml.simulate.output_folder import finish_simulation, start_simulation
from dmml.simulate.settings import SimulationSettings
from dmml.simulate.slides.label_image import write_label_key, write_labels
from dmml.simulate.truth import FACTOR_NAMES, Patient, draw_patients, molecular_score
from dmml.simulate.workers import Workers
from dmml.simulate.world_patients import WorldPatient, draw_world, oracles


def simulate(settings: SimulationSettings, overwrite: bool = False) -> dict[str, list[Patient]]:
    """Write the two cohorts; files that an interrupted run with the same settings has written are kept.

    Returns:
        {cohort: its patients}.

    Raises:
        InputError: The output folder holds other files, or another simulation and `overwrite` is off.
    """
    cohorts = {cohort: _draw(settings, cohort, n) for cohort, n in settings.cohort_sizes.items()}
    if not start_simulation(settings.out, settings.arguments(), overwrite):
        return cohorts
    with Workers() as workers:
        for cohort, patients in cohorts.items():
            folder = settings.out / cohort
            _write_tables(folder, patients, settings)
            if settings.features_only:
                _write_expression(folder, patients)
                _write_features(folder, patients, settings)
            else:
                from dmml.simulate.slides.slide_file import write_slides  # imported late: only slides need tifffile

                _write_star_counts(folder, patients, workers)
                write_slides(folder, patients, settings.effective_visibility, workers)
    finish_simulation(settings.out, settings.arguments())
    return cohorts


def summary(patients: list[Patient]) -> str:
    """Summarise a cohort in one line: counts of patients, slides, deaths, missing RNA and grades, and the sites."""
    events = sum(patient.event for patient in patients)
    slides = sum(len(patient.slides) for patient in patients)
    without_rna = sum(not patient.has_expression for patient in patients)
    grades = Counter(patient.grade for patient in patients)
    sites = sorted({patient.site for patient in patients})
    return (
        f"{len(patients)} patients, {slides} slides, {events} deaths, {without_rna} without RNA, "
        f"grades {', '.join(f'{grade} {grades[grade]}' for grade in sorted(grades))}, sites {', '.join(sites)}"
    )


def _draw(settings: SimulationSettings, cohort: str, n: int) -> list[Patient]:
    if settings.world is None:
        return draw_patients(cohort, n, settings.seed)
    return [*draw_world(settings.world, cohort, n, settings.seed)]


def _write_tables(folder: Path, patients: list[Patient], settings: SimulationSettings) -> None:
    clinical = pd.DataFrame(
        [
            {
                "patient_id": patient.patient_id,
                "slide_id": slide,
                "site": patient.site,
                "os_days": patient.days,
                "os_event": patient.event,
                "grade": patient.grade,
                "age": patient.age,
                "sex": patient.sex,
                "stage": patient.stage,
                "molecular_score": molecular_score(patient),
            }
            for patient in patients
            for slide in patient.slides
        ]
    )
    truth = pd.DataFrame(np.stack([patient.factors for patient in patients]), columns=list(FACTOR_NAMES))
    truth.insert(0, "patient_id", [patient.patient_id for patient in patients])
    truth["risk"] = [patient.risk for patient in patients]
    truth = truth.join(pd.DataFrame([_world_truth(patient, settings.effective_visibility) for patient in patients]))
    write_text(folder / "clinical.csv", clinical.to_csv(index=False))
    write_text(folder / "truth.csv", truth.round(6).to_csv(index=False))


def _world_truth(patient: Patient, visibility: float) -> dict[str, float]:
    """Columns that a world adds to `truth.csv`: its additional factors and the oracle risks; {} without a world."""
    if not isinstance(patient, WorldPatient):
        return {}
    factors = ({"h": patient.h} if patient.world.has_h else {}) | ({"g": patient.g} if patient.world.has_g else {})
    return factors | oracles(patient, visibility)


def _write_expression(folder: Path, patients: list[Patient]) -> None:
    """Write the patients × genes table in TPM, together with its provenance."""
    measured = [patient for patient in patients if patient.has_expression]
    values = np.stack([tpm(draw_counts(patient)) for patient in _progress(measured, f"{folder.name}: RNA")])
    index = pd.Index([patient.patient_id for patient in measured], name="patient_id")
    table = pd.DataFrame(values.astype(np.float32), index=index, columns=list(gene_model().symbols))
    provenance = {
        "dmml": __version__,
        "source": "dmml simulate --features-only",
        "scale": "tpm",
        "patients": len(table),
        "genes": table.shape[1],
    }
    write_expression(Expression(table, "tpm", provenance), folder / "expression.parquet", overwrite=True)


def _write_features(folder: Path, patients: list[Patient], settings: SimulationSettings) -> None:
    """Write token features to `features.zarr` and tissue labels to `truth/`; slides in the store are skipped."""
    from dmml.simulate.tokens import CELLS, TILE_UM, draw_tokens, token_model
    from dmml.store import FeatureStore

    encoder = {
        "name": "simulated",
        "weights": token_model(settings.dim).digest(),
        "dim": settings.dim,
        "preprocessing": {},
    }
    store = FeatureStore.create(folder / "features.zarr", encoder, {m: um / 224 for m, um in TILE_UM.items()})
    stored = set(store.slides())
    for patient in _progress(patients, f"{folder.name}: features"):
        for slide, slide_id in enumerate(patient.slides):
            if slide_id in stored:
                continue
            bags, labels = draw_tokens(
                patient, slide, settings.dim, settings.effective_visibility, settings.cells or CELLS
            )
            write_labels(folder / "truth" / f"{slide_id}.png", labels)
            dimensions = [int(side * TILE_UM[20] / 0.5) for side in labels.shape[::-1]]
            store.write(
                slide_id, bags, {"source": "simulated", "dimensions": dimensions, "mpp": 0.5, "mpp_source": "simulated"}
            )
    write_label_key(folder / "truth" / "labels.json", TILE_UM[20])


def _write_star_counts(folder: Path, patients: list[Patient], workers: Workers) -> None:
    """Write one STAR counts file in the GDC's format per patient with RNA; existing files are kept."""
    files = [(folder / "rna" / f"{patient.patient_id}.tsv", patient) for patient in patients if patient.has_expression]
    missing = [(path, patient) for path, patient in files if not path.is_file()]
    workers.run(_write_star_count, missing, f"{folder.name}: RNA", "patient", done=len(files) - len(missing))


def _write_star_count(path: Path, patient: Patient) -> None:
    write_text(path, star_counts(patient))


def _progress(patients: list[Patient], description: str) -> tqdm:
    return tqdm(patients, desc=description, unit="patient", disable=hide_bar(), leave=False)
