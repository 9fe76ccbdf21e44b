"""Checks which levels of a pyramid show the same as the finest level, at a whole fraction of its size.

Some pyramids have levels that were padded to whole tiles, cropped or rotated, or that show another picture. Such a level
is ignored and named in a note, so that the tiles are the same as without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from PIL import Image

from dmml.slides.slide_error import SlideError

Size = tuple[int, int]
"""(width, height) in pixels"""
ReadPixels = Callable[[int, int, int, int, int], Image.Image]
"""(level, left, top, width, height) in pixels of that level → RGB picture"""

MAX_UNREADABLE_SHARE = 0.2
"""Largest share of a slide that may fail to decode; beyond it a finer level is read, or the slide is refused"""
_MAX_ROUNDING_PX = 2
"""Pixels by which a level's side may miss a whole fraction: each halving may round up or down, and some trim an edge"""
_N_POSITIONS = 4
"""Number of positions across and down at which two levels are compared"""
_MAX_PATCH, _MIN_PATCH, _MAX_FINE_PATCH = 64, 16, 512
"""Side of a compared patch, pixels: maximum and minimum at the coarse level, maximum at the fine one (decoding time)"""
_GRID = 16
"""Number of cells across a patch in which brightness is compared"""
_MIN_CONTRAST = 4.0
"""Standard deviation, in grey levels, from which a patch shows enough to be compared: JPEG noise on glass has less"""
_MIN_CORRELATION = 0.5
"""Correlation of brightness from which two patches show the same; true levels have more than 0.7"""
_MIN_AGREEMENT = 0.75
"""More than this share of patches must agree. In a true level all do; in a mirrored one up to this share do, if tissue
is distributed alike on both sides"""


class Levels:
    """The levels of one slide.

    Args:
        sizes: Sizes of all levels, the finest first.
        read: Reads pixels of a level; it may fail if the file is damaged, and that position is then not compared.
        whole_fractions: Whether a level must be smaller by a whole factor. This holds for generic TIFFs, of which only
            the sizes are known; vendors' formats state how a level is placed.

    Attributes:
        notes: One line for each level that is ignored, with the reason.
        damaged: The levels that are ignored because too much of them cannot be decoded.
    """

    def __init__(self, sizes: Sequence[Size], read: ReadPixels, whole_fractions: bool):
        self._sizes, self._read = sizes, read
        self.notes: list[str] = []
        self.damaged: tuple[int, ...] = ()
        self._ratio: dict[int, float] = {0: 1.0}
        for level, size in enumerate(sizes[1:], start=1):
            ratio = ratio_of(sizes[0], size)
            if ratio is None:
                self._ignore(level, f"it is {_times(sizes[0], size)} smaller than the slide across and down")
            elif whole_fractions and ratio != round(ratio):
                self._ignore(level, f"it is {ratio:.4g} times smaller than the slide, which is not a whole number")
            elif ratio > 1:
                self._ratio[level] = ratio
        self._is_sound: dict[int, bool] = {0: True}

    def coarsest(self, largest_ratio: float) -> tuple[int, float]:
        """Return the coarsest sound level that is at most this many times smaller than the finest, and its ratio."""
        by_ratio = sorted(self._ratio, key=lambda level: -self._ratio[level])
        fitting = (level for level in by_ratio if self._ratio[level] <= largest_ratio)
        level = next((level for level in fitting if self._shows_the_slide(level)), 0)
        return level, self._ratio[level]

    def ignore_damaged(self, level: int, largest_ratio: float, extent: str) -> None:
        """Ignore a level of which too much cannot be decoded, and note which one is read in its place.

        Args:
            level: The level, which is not the finest one.
            largest_ratio: As for `coarsest`.
            extent: What of it cannot be decoded, as in `12 of 40 tiles`.
        """
        self.exclude([level])
        substitute = self.coarsest(largest_ratio)[0]
        self.notes.append(
            f"{self._name(level)} is damaged: {extent} cannot be decoded; {self._name(substitute)} is read instead"
        )

    def exclude(self, levels: Iterable[int]) -> None:
        """Do not use levels that are known to be damaged."""
        self.damaged = tuple(sorted({*self.damaged, *levels}))
        self._is_sound |= dict.fromkeys(levels, False)

    def _shows_the_slide(self, level: int) -> bool:
        """Compare a level with the next finer sound one, once, when it is first needed."""
        if level not in self._is_sound:
            finer = self.coarsest(math.nextafter(self._ratio[level], 0))[0]
            self._is_sound[level] = self._is_like(level, finer)
            if not self._is_sound[level]:
                self._ignore(level, "it does not show what the slide shows there")
        return self._is_sound[level]

    def _is_like(self, level: int, finer: int) -> bool:
        """Whether two levels agree at almost all positions that show something; bare glass is not compared."""
        times = self._ratio[level] / self._ratio[finer]
        width, height = self._sizes[level]
        side = min(max(_MIN_PATCH, min(_MAX_PATCH, int(_MAX_FINE_PATCH / times))), width, height)
        agreements = []
        for x in np.linspace(0, width - side, _N_POSITIONS):
            for y in np.linspace(0, height - side, _N_POSITIONS):
                fine_box = (round(round(x) * times), round(round(y) * times), *(max(1, round(side * times)),) * 2)
                try:
                    cells = [
                        _cells(self._read(level, round(x), round(y), side, side)),
                        _cells(self._read(finer, *fine_box)),
                    ]
                except SlideError as error:  # what cannot be decoded is detected and counted when tiles are read
                    if error.state != "unreadable":
                        raise
                    continue
                if max(patch.std() for patch in cells) >= _MIN_CONTRAST:
                    agreements.append(_correlation(*cells) >= _MIN_CORRELATION)
        return not agreements or sum(agreements) > _MIN_AGREEMENT * len(agreements)

    def _ignore(self, level: int, reason: str) -> None:
        self.notes.append(f"{self._name(level)} is ignored: {reason}")

    def _name(self, level: int) -> str:
        width, height = self._sizes[level]
        return f"level {level} ({width} × {height} px)"


def ratio_of(full: Size, small: Size) -> float | None:
    """How many times smaller a level is; if rounding allows, a whole number, preferably a power of two.

    Args:
        full: Size of the finest level.
        small: Size of the level.

    Returns:
        The ratio, or None if width and height disagree by more than rounding.
    """
    lowest = max(side / (small_side + _MAX_ROUNDING_PX) for side, small_side in zip(full, small, strict=True))
    highest = min(side / max(small_side - _MAX_ROUNDING_PX, 1e-9) for side, small_side in zip(full, small, strict=True))
    if lowest > highest:
        return None
    middle = math.sqrt(math.prod(full) / math.prod(small))
    for whole in (2.0 ** round(math.log2(middle)), float(round(middle))):
        if lowest <= whole <= highest and whole >= 1:
            return whole
    return middle


def _times(full: Size, small: Size) -> str:
    across, down = (side / small_side for side, small_side in zip(full, small, strict=True))
    return f"{across:.4g} and {down:.4g} times"


def _cells(picture: Image.Image) -> np.ndarray:
    """Brightness of a picture in 16 × 16 cells."""
    return np.asarray(picture.convert("L").resize((_GRID, _GRID), Image.Resampling.BOX), np.float64)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation; 0 if one of the two is flat."""
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0
