"""Renders one slide of a patient, from the map of tissue types to pixels."""

from __future__ import annotations

import numpy as np

from dmml.simulate.slides.artefacts import draw_pen_stroke, fold_or_tear, scan
from dmml.simulate.slides.cells import draw_cells
from dmml.simulate.slides.stain import STAINS, stained_image
from dmml.simulate.slides.stain_maps import paint_tissue
from dmml.simulate.slides.tissue_map import SLIDE, draw_tissue_map
from dmml.simulate.slides.vessels import draw_vessels
from dmml.simulate.truth import FACTOR_NAMES, Patient, visible_factors


def render_slide(patient: Patient, slide: int, visibility: float) -> tuple[np.ndarray, np.ndarray]:
    """Render a slide at 0.5 µm per pixel.

    Args:
        patient: The patient to whom the slide belongs.
        slide: Index of the slide within the patient.
        visibility: Correlation between each factor and what the slide shows of it, in (0, 1].

    Returns:
        (rows, columns, 3) uint8 image, and (rows / 8, columns / 8) uint8 tissue labels.
    """
    visible = visible_factors(patient, slide, visibility)
    return render_factors(visible, patient.site, patient.generator(f"pixels{slide}"))


def render_factors(visible: np.ndarray, site: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Render a slide that shows the given factors, with the stain and scanner of a site.

    Args:
        visible: (6,) factor values in standard deviations, in the order of `FACTOR_NAMES`.
        site: Key of `STAINS`.
        rng: Random number generator.

    Returns:
        The same as `render_slide`.
    """
    visible = np.clip(visible, -2.6, 2.6)
    tissue = draw_tissue_map(visible, rng)
    stain_maps = paint_tissue(tissue, visible, rng)
    draw_vessels(stain_maps, float(visible[FACTOR_NAMES.index("vessels")]), rng)
    draw_cells(stain_maps, visible, rng)
    fold_or_tear(stain_maps, rng)
    stain = STAINS[site]
    image = np.empty((SLIDE, SLIDE, 3), dtype=np.float32)
    image[:] = stain.white
    top, left = tissue.origin
    rows, columns = tissue.labels.shape
    image[top : top + rows, left : left + columns] = stained_image(
        stain_maps.hematoxylin, stain_maps.eosin, stain_maps.red, stain, rng
    )
    draw_pen_stroke(image, rng)
    return scan(image, rng), tissue.coarse_labels
