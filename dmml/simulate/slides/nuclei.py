"""Nuclei and red cells, rendered in batches as small render_stamps with soft edges and then drawn onto the stain maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmml.simulate.slides.texture import SIDE, smooth_noise

CACHED_PIXELS = 32_768
"""Pixels of the stamps that are rendered at a time: their arrays fit into a processor's cache"""


@dataclass
class Nuclei:
    """n nuclei of one kind; lengths are in pixels of 0.5 µm."""

    position: np.ndarray
    """(n, 2) row and column of the centre."""
    radius: np.ndarray
    """(n,) geometric mean of the two semi-axes."""
    elongation: np.ndarray
    """(n,) ratio of the semi-axes, ≥ 1."""
    angle: np.ndarray
    """(n,) angle of the long axis, from the x axis towards the y axis."""
    irregularity: np.ndarray
    """(n,) how far the outline deviates from an ellipse."""
    density: np.ndarray
    """(n,) amount of hematoxylin."""
    coarseness: np.ndarray
    """(n,) contrast of the chromatin, 0 = smooth."""
    nucleoli: np.ndarray
    """(n,) strength of the single nucleolus, 0 = none."""

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, index: np.ndarray | slice) -> Nuclei:
        return Nuclei(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


@dataclass
class _Draws:
    """Random variation of the stamps of n nuclei, drawn at once so that the stamps can be rendered in any portions."""

    bend: np.ndarray
    """(4, n) amplitudes of the second and third harmonic of the outline."""
    offset: np.ndarray
    """(2, n) row and column of the chromatin in its texture."""
    spot: np.ndarray
    """(2, n) position of the nucleolus, in semi-axes."""

    def part(self, which: slice) -> _Draws:
        return _Draws(self.bend[:, which], self.offset[:, which], self.spot[:, which])


def render_stamps(nuclei: Nuclei, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render nuclei as square render_stamps of S × S pixels.

    Returns:
        Top left corners (n, 2) int, opacities (n, S, S) in [0, 1] and hematoxylin (n, S, S).
    """
    n = len(nuclei)
    reach = float((nuclei.radius * np.sqrt(nuclei.elongation) * (1 + 2 * nuclei.irregularity)).max(initial=1.0)) + 2
    side = 2 * int(np.ceil(reach)) + 1
    corner = np.floor(nuclei.position).astype(int) - side // 2
    draws = _Draws(
        bend=rng.normal(0.0, 1.0, (4, n)).astype(np.float32) * np.asarray(nuclei.irregularity, dtype=np.float32),
        offset=rng.integers(0, SIDE, (2, n)),
        spot=rng.uniform(-0.35, 0.35, (2, n)),
    )
    texture = np.pad(smooth_noise(1.3), ((0, side), (0, side)), mode="wrap")
    opacity, hematoxylin = (np.empty((n, side, side), dtype=np.float32) for _ in range(2))
    portion = max(1, CACHED_PIXELS // side**2)
    for start in range(0, n, portion):
        which = slice(start, start + portion)
        opacity[which], hematoxylin[which] = _render(nuclei[which], draws.part(which), corner[which], texture, side)
    return corner, opacity, hematoxylin


def _render(
    nuclei: Nuclei, draws: _Draws, corner: np.ndarray, texture: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Opacities (n, side, side) and hematoxylin (n, side, side) of stamps with given top left corners (n, 2)."""
    axis = np.arange(side, dtype=np.float32)
    y = axis[None, :, None] - _per_nucleus(nuclei.position[:, 0] - corner[:, 0])
    x = axis[None, None, :] - _per_nucleus(nuclei.position[:, 1] - corner[:, 1])
    cos, sin = _per_nucleus(np.cos(nuclei.angle)), _per_nucleus(np.sin(nuclei.angle))
    stretch = _per_nucleus(np.sqrt(nuclei.elongation))
    u = (cos * x + sin * y) / (_per_nucleus(nuclei.radius) * stretch)
    v = (cos * y - sin * x) / (_per_nucleus(nuclei.radius) / stretch)
    squared = u * u + v * v + 1e-6
    distance = np.sqrt(squared)
    # Second and third harmonics of the outline, as polynomials of the direction; this avoids an arctangent per pixel.
    bend = draws.bend
    du, dv = u / distance, v / distance
    outline = 1 + _per_nucleus(bend[0]) * (du * du - dv * dv) + _per_nucleus(bend[1]) * du * dv
    outline += _per_nucleus(bend[2]) * (du**3 - 3 * du * dv * dv) + _per_nucleus(bend[3]) * (dv**3 - 3 * dv * du * du)
    relative = distance / np.maximum(outline, 0.35)
    opacity = np.clip((1 - relative) * _per_nucleus(nuclei.radius) * 0.8 + 0.5, 0.0, 1.0)
    rim = np.clip((relative - 0.62) * 3.0, 0.0, 1.0)
    chromatin = np.lib.stride_tricks.sliding_window_view(texture, (side, side))[draws.offset[0], draws.offset[1]]
    contrast = _per_nucleus(nuclei.coarseness)
    hematoxylin = 0.84 + contrast * (0.42 * rim + 0.34 * chromatin - 0.10)
    spot = draws.spot
    hematoxylin += _per_nucleus(nuclei.nucleoli) * np.exp(
        -((u - _per_nucleus(spot[0])) ** 2 + (v - _per_nucleus(spot[1])) ** 2) / 0.05
    )
    return opacity, _per_nucleus(nuclei.density) * np.clip(hematoxylin, 0.2, 2.0)


def _per_nucleus(values: np.ndarray) -> np.ndarray:
    """Shape (n,) values as (n, 1, 1) float32, one for each stamp."""
    return np.asarray(values, dtype=np.float32)[:, None, None]


def draw_nuclei(
    hematoxylin: np.ndarray, eosin: np.ndarray, nuclei: Nuclei, rng: np.random.Generator, clears: float = 0.55
) -> None:
    """Draw nuclei onto the stain maps, in place; nuclei whose stamp would cross the border of the map are left out.

    Args:
        hematoxylin: (rows, columns) map, changed in place.
        eosin: (rows, columns) map, changed in place.
        nuclei: Nuclei to draw.
        rng: Random number generator.
        clears: Share of the eosin that a nucleus displaces.
    """
    for start in range(0, len(nuclei), 1500):  # in batches, to bound the memory of the render_stamps
        part = nuclei[np.arange(start, min(start + 1500, len(nuclei)))]
        corner, opacity, stain = render_stamps(part, rng)
        side = opacity.shape[1]
        inside = (corner >= 0).all(axis=1) & (corner + side <= hematoxylin.shape).all(axis=1)
        fade = 1 - clears * opacity
        for k in np.flatnonzero(inside):
            y, x = corner[k]
            below = hematoxylin[y : y + side, x : x + side]
            below += opacity[k] * (stain[k] - below)
            eosin[y : y + side, x : x + side] *= fade[k]


def jittered_lattice(
    shape: tuple[int, int], spacing: float, rng: np.random.Generator, jitter: float = 0.36
) -> np.ndarray:
    """Draw the points of a jittered hexagonal lattice, (n, 2); few are much closer to each other than `spacing`."""
    rows = np.arange(0, shape[0], spacing * np.sqrt(0.75))
    columns = np.arange(0, shape[1], spacing)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    x = x + (np.arange(len(rows)) % 2)[:, None] * spacing / 2
    points = np.stack([y.ravel(), x.ravel()], axis=1) + rng.normal(0.0, jitter * spacing / 1.5, (y.size, 2))
    inside = (points >= 0).all(axis=1) & (points < np.array(shape) - 1).all(axis=1)
    return points[inside]
