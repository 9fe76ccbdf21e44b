"""Renders one slide of a patient, from the map of tissue types to pixels."""

from __future__ import annotations

import numpy as np

from dmml.simulate.slides.artefacts import damage, mark, record
from dmml.simulate.slides.cells import lay_cells
from dmml.simulate.slides.ground import lay_ground
from dmml.simulate.slides.stain import STAINS, develop
from dmml.simulate.slides.tissue_map import SLIDE, draw_map
from dmml.simulate.slides.vessels import lay_vessels
from dmml.simulate.truth import FACTOR_NAMES, Patient, shown_factors


def render_slide(patient: Patient, slide: int, visibility: float) -> tuple[np.ndarray, np.ndarray]:
    """Render a slide at 0.5 µm per pixel.

    Args:
        patient: The patient to whom the slide belongs.
        slide: Index of the slide within the patient.
        visibility: Correlation between each factor and what the slide shows of it, in (0, 1].

    Returns:
        (rows, columns, 3) uint8 picture, and (rows / 8, columns / 8) uint8 tissue labels.
    """
    shown = shown_factors(patient, slide, visibility)
    return render_factors(shown, patient.site, patient.generator(f"pixels{slide}"))


def render_factors(shown: np.ndarray, site: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Render a slide that shows the given factors, with the stain and scanner of a site.

    Args:
        shown: (6,) factor values in standard deviations, in the order of `FACTOR_NAMES`.
        site: Key of `STAINS`.
        rng: Random number generator.

    Returns:
        The same as `render_slide`.
    """
    shown = np.clip(shown, -2.6, 2.6)
    tissue = draw_map(shown, rng)
    ground = lay_ground(tissue, shown, rng)
    lay_vessels(ground, float(shown[FACTOR_NAMES.index("vessels")]), rng)
    lay_cells(ground, shown, rng)
    damage(ground, rng)
    stain = STAINS[site]
    picture = np.empty((SLIDE, SLIDE, 3), dtype=np.float32)
    picture[:] = stain.white
    top, left = tissue.origin
    rows, columns = tissue.labels.shape
    picture[top : top + rows, left : left + columns] = develop(ground.hematoxylin, ground.eosin, ground.red, stain, rng)
    mark(picture, rng)
    return record(picture, rng), tissue.small
