"""Writes slides as JPEG-compressed tiled TIFF pyramids with their scale, which OpenSlide opens as generic-tiff."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from dmml.atomic_files import atomic_write
from dmml.simulate.slides.label_image import write_label_key, write_labels
from dmml.simulate.slides.render import render_slide
from dmml.simulate.slides.tissue_map import CELL, UM_PER_PIXEL
from dmml.simulate.truth import Patient
from dmml.simulate.workers import Workers

LEVELS = 3
TILE = 256
QUALITY = 88


def write_slides(folder: Path, patients: list[Patient], visibility: float, workers: Workers) -> None:
    """Render the slides of a cohort into `slides/` and their labels into `truth/`; existing slides are kept.

    Args:
        folder: Folder of the cohort.
        patients: Patients of the cohort.
        visibility: Correlation between each factor and what a slide shows of it, in (0, 1].
        workers: Processes that share the slides; every slide has a random generator of its own.
    """
    (folder / "slides").mkdir(parents=True, exist_ok=True)
    slides = [(patient, k) for patient in patients for k in range(len(patient.slides))]
    missing = [(folder, patient, k, visibility) for patient, k in slides if not _path(folder, patient, k).is_file()]
    workers.run(_write_slide, missing, f"{folder.name}: slides", "slide", done=len(slides) - len(missing))
    write_label_key(folder / "truth" / "labels.json", CELL * UM_PER_PIXEL)


def _write_slide(folder: Path, patient: Patient, k: int, visibility: float) -> None:
    image, labels = render_slide(patient, k, visibility)
    write_labels(folder / "truth" / f"{patient.slides[k]}.png", labels)
    write_pyramid(_path(folder, patient, k), image)


def _path(folder: Path, patient: Patient, k: int) -> Path:
    return folder / "slides" / f"{patient.slides[k]}.tif"


def write_pyramid(path: Path, image: np.ndarray) -> None:
    """Write an image as a pyramid. The file exists in full or not at all.

    Args:
        path: Path of the TIFF.
        image: (rows, columns, 3) uint8 at 0.5 µm per pixel.
    """
    with atomic_write(path) as partial, tifffile.TiffWriter(partial) as tiff:
        for level in range(LEVELS):
            per_cm = 1e4 / (UM_PER_PIXEL * 2**level)
            tiff.write(
                image,
                photometric="rgb",
                tile=(TILE, TILE),
                compression="jpeg",
                compressionargs={"level": QUALITY},
                subfiletype=1 if level else 0,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                metadata=None,
                software=False,
            )
            image = _halve(image)


def _halve(image: np.ndarray) -> np.ndarray:
    """Halve the resolution by averaging blocks of 2 × 2 pixels, halves rounded up."""
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    whole = image[: 2 * rows, : 2 * columns].astype(np.uint16)
    pairs = whole[::2] + whole[1::2]
    return ((pairs[:, ::2] + pairs[:, 1::2] + 2) // 4).astype(np.uint8)
