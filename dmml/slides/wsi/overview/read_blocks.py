"""Reads a whole slide block by block, and divides blocks that are damaged, so that little more than the damage is lost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dmml.slides.slide_error import SlideError
from dmml.slides.wsi.levels import MAX_UNREADABLE_SHARE

ReadBlock = Callable[[int, int, int, int], np.ndarray]
"""(left, top, width, height) in pixels of the picture → (height, width, 3) uint8; raises `SlideError`"""


def read_blocks(
    size: tuple[int, int], side: int, min_side: float, read: ReadBlock, read_substitute: ReadBlock | None
) -> tuple[np.ndarray, int]:
    """Read a picture block by block.

    Args:
        size: (width, height) of the picture.
        side: Side of a block, pixels.
        min_side: A damaged block is divided until its parts are smaller than twice this.
        read: Reads a block.
        read_substitute: Reads a block that is damaged and small; None if there is no other source.

    Returns:
        (height, width, 3) uint8, in which blocks that cannot be decoded are white, and the number of their pixels.

    Raises:
        SlideError: More than a fifth of the picture cannot be decoded (state `unreadable`), or a block cannot be read
            for another reason.
    """
    width, height = size
    picture = np.full((height, width, 3), 255, np.uint8)
    blocks = [(left, top, side) for top in range(0, height, side) for left in range(0, width, side)][::-1]
    n_unreadable = 0
    while blocks:
        left, top, side = blocks.pop()
        h, w = min(side, height - top), min(side, width - left)
        if h <= 0 or w <= 0:
            continue
        try:
            picture[top : top + h, left : left + w] = read(left, top, w, h)
        except SlideError as error:
            if error.state != "unreadable":
                raise
            if side // 2 >= min_side:
                half = -(-side // 2)
                blocks += [(left + x, top + y, half) for y in (half, 0) for x in (half, 0)]
            elif (substitute := _read_or_none(read_substitute, left, top, w, h)) is not None:
                picture[top : top + h, left : left + w] = substitute
            else:
                n_unreadable += h * w
                if n_unreadable > MAX_UNREADABLE_SHARE * width * height:
                    raise
    return picture, n_unreadable


def _read_or_none(read: ReadBlock | None, left: int, top: int, width: int, height: int) -> np.ndarray | None:
    try:
        return None if read is None else read(left, top, width, height)
    except SlideError as error:
        if error.state != "unreadable":
            raise
        return None
