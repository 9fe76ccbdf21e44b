"""Tissue between the nuclei (collagen, cytoplasm, lumens), as amounts of hematoxylin and eosin per pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmml.simulate.slides.texture import FIBRE_ANGLES, SIDE, fibres, random_crop, smooth_noise, upsample
from dmml.simulate.slides.tissue_map import CELL, TissueMap
from dmml.simulate.slides.tissue_types import LYMPHOID, NORMAL, STROMA, TUMOR, smooth_field
from dmml.simulate.slides.tumor_pattern import Pattern, lay_out_glands
from dmml.simulate.truth import FACTOR_NAMES

GLAND_SPACING = 128.0
TUBULE_SPACING = 92.0
"""Distance in pixels between the centres of tumor glands, and between those of the tubules of normal tissue."""


@dataclass
class StainMaps:
    """Stain maps of one slide, and masks of where cells may lie.

    All maps but `fibre_angle` are (rows, columns) of the tissue's window.
    """

    hematoxylin: np.ndarray
    eosin: np.ndarray
    red: np.ndarray
    """Amount of haemoglobin."""
    tissue: np.ndarray
    """bool, True = solid tissue."""
    epithelium: np.ndarray
    """bool, True where tumor cells may lie."""
    gland: np.ndarray
    """Approximate distance in pixels from the edge of the nearest gland's lumen, negative outside the lumen."""
    tubule: np.ndarray
    """bool, True where cells of normal tubules may lie."""
    tubule_lumen: np.ndarray
    """The same as `gland`, for the lumens of tubules."""
    stroma: np.ndarray
    """bool, True in stroma and in the septa between glands or tubules."""
    lymphoid: np.ndarray
    """bool, True in lymphoid aggregates."""
    fibre_angle: np.ndarray
    """Coarse map of the angle of the fibres, one value per `CELL` × `CELL` pixels."""


def paint_tissue(tissue: TissueMap, visible: np.ndarray, rng: np.random.Generator) -> StainMaps:
    """Paint everything except nuclei, vessels and artefacts.

    Args:
        tissue: Map of the tissue types.
        visible: (6,) factors that the slide shows.
        rng: Random number generator.
    """
    factor = dict(zip(FACTOR_NAMES, visible, strict=True))
    shape = tissue.labels.shape
    tumor, normal, lymphoid = (tissue.labels == t for t in (TUMOR, NORMAL, LYMPHOID))
    glands = lay_out_glands(tumor, factor["architecture"], GLAND_SPACING, rng)
    tubules = lay_out_glands(normal, -1.5, TUBULE_SPACING, rng)
    epithelium = tumor & (glands.septum < 0)
    tubule = normal & (tubules.septum < 0)
    collagen = (tissue.cover > 0) & ~(epithelium | tubule | lymphoid)
    eosin, fibre_angle = _collagen(collagen, factor["fibrosis"], rng)
    hematoxylin = np.full(shape, 0.03, dtype=np.float32) + 0.015 * random_crop(smooth_noise(3.0), shape, rng)

    fine, broad = random_crop(smooth_noise(2.0), shape, rng), random_crop(smooth_noise(10.0), shape, rng)
    _blend(eosin, epithelium, 0.36 + 0.05 * fine + 0.04 * broad)
    _blend(hematoxylin, epithelium, 0.15 + 0.045 * factor["proliferation"] + 0.05 * fine)
    _blend(eosin, tubule, 0.44 + 0.06 * fine + 0.03 * broad)
    _blend(hematoxylin, tubule, 0.05 + 0.02 * fine)
    _blend(eosin, lymphoid, 0.20 + 0.05 * broad)
    _blend(hematoxylin, lymphoid, 0.13 + 0.04 * fine)
    for where, pattern in ((epithelium, glands), (tubule, tubules)):
        _open_lumens(eosin, hematoxylin, where, pattern)
    for dye in (eosin, hematoxylin):
        np.clip(dye, 0.0, None, out=dye)
        dye *= tissue.cover
    solid = tissue.cover > 0.9
    return StainMaps(
        hematoxylin=hematoxylin,
        eosin=eosin,
        red=np.zeros(shape, dtype=np.float32),
        tissue=solid,
        epithelium=epithelium & (glands.lumen < -6) & (glands.septum < -2) & solid,
        gland=glands.lumen,
        tubule_lumen=tubules.lumen,
        tubule=tubule & (tubules.lumen < -4) & (tubules.septum < -1) & solid,
        stroma=((tissue.labels == STROMA) | (tumor & (glands.septum > 0)) | (normal & (tubules.septum > 0))) & solid,
        lymphoid=lymphoid & solid,
        fibre_angle=fibre_angle,
    )


def _blend(dye: np.ndarray, where: np.ndarray, amount: np.ndarray) -> None:
    np.copyto(dye, amount, where=where)


def _open_lumens(eosin: np.ndarray, hematoxylin: np.ndarray, where: np.ndarray, pattern: Pattern) -> None:
    """Remove the dyes from the lumens, with a soft edge two pixels wide."""
    closed = 1 - 0.95 * np.clip(pattern.lumen / 2 + 0.5, 0.0, 1.0) * where
    eosin *= closed
    hematoxylin *= closed


def _collagen(where: np.ndarray, fibrosis: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Paint the eosin of stroma: loose wavy fibres with gaps at low fibrosis, dense parallel bundles at high fibrosis.

    Returns:
        (rows, columns) float32 eosin, 0 outside `where`; and the coarse map of the fibres' angle.
    """
    half, small = (tuple(side // step for side in where.shape) for step in (2, CELL))
    lean = np.stack([1.6 * smooth_field(small, 10.0, rng) for _ in FIBRE_ANGLES])
    lean[rng.integers(len(FIBRE_ANGLES))] += np.clip(1.0 + 0.9 * fibrosis, 0.0, 3.0)
    weight = np.exp(lean)
    weight /= weight.sum(axis=0)
    sway = 13.0 * np.exp(-0.35 * fibrosis)
    warp = [(sway * upsample(smooth_field(small, 4.0, rng), where.shape)).astype(np.int32)[where] for _ in range(2)]
    y, x = np.nonzero(where)
    bent = (y + warp[0]) % SIDE * SIDE + (x + warp[1]) % SIDE  # the gaps below are bent like the fibres
    fibre = np.zeros(len(y), dtype=np.float32)
    for share, texture in zip(weight, fibres(), strict=True):
        shifted = np.roll(texture, rng.integers(0, SIDE, 2), axis=(0, 1))
        fibre += upsample(share, half)[y // 2, x // 2] * shifted.ravel().take(bent)
    fibre /= fibre.std() + 1e-6
    broad, fine = (random_crop(smooth_noise(scale), where.shape, rng)[where] for scale in (10.0, 1.3))
    eosin = 0.48 + 0.09 * fibrosis + (0.12 + 0.03 * fibrosis) * fibre + 0.05 * broad + 0.035 * fine
    loose = np.roll(smooth_noise(6.0), rng.integers(0, SIDE, 2), axis=(0, 1)).ravel().take(bent)
    gaps = np.clip((0.8 * loose - 0.5 * fibre - 0.9 - 0.55 * fibrosis) * 1.6, 0.0, 1.0)
    amount = np.zeros(where.shape, dtype=np.float32)
    amount[where] = np.clip(eosin, 0.05, None) * (1 - 0.9 * gaps)
    return amount, FIBRE_ANGLES[weight.argmax(axis=0)]
