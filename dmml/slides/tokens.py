"""From one raw slide to its tokens: find tissue, lay tiles, read them in the background, encode."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dmml.errors import InputError
from dmml.slides.grid import (
    JUDGED_AT,
    LEAST_TISSUE,
    TILE_PX,
    Tiles,
    check_magnifications,
    lay_tiles,
    pixel_um,
    tile_um,
    tissue_share,
)
from dmml.slides.mpp import SlideError
from dmml.slides.reader import MOST_UNREADABLE, Slide
from dmml.slides.tissue import MASK_MPP, tissue_mask

if TYPE_CHECKING:
    from dmml.slides.encoders import Encoder
    from dmml.store import SlideFeatures

THUMBNAIL_PX = 512
_AHEAD = 4
_END = object()


@dataclass
class Layout:
    """Where the tiles of a slide lie, before any of them is read."""

    tiles: dict[int, Tiles]
    thumbnail: np.ndarray
    """(H, W, 3) uint8, long side at most 512 px"""
    thumbnail_mpp: float
    tissue_mm2: float


def lay_out(slide: Slide, magnifications: Sequence[int], least_tissue: float = LEAST_TISSUE) -> Layout:
    """Find the tissue of a slide and lay tiles on it.

    Raises:
        SlideError: No tile holds tissue (state `no_tissue`).
    """
    picture = slide.overview(MASK_MPP)
    mask = tissue_mask(picture, MASK_MPP)
    judged_at = max(JUDGED_AT, *magnifications)
    share = tissue_share(mask, MASK_MPP, tile_um(judged_at), slide.size_um)
    tiles = lay_tiles(share, judged_at, magnifications, least_tissue)
    if not len(tiles[max(magnifications)]):
        reason = f"none of {share.size} {judged_at}x tiles holds {least_tissue:.0%} tissue"
        if not share.size:
            reason = f"{slide.size_um[0]:.0f} × {slide.size_um[1]:.0f} µm is too small for one {judged_at}x tile"
        raise SlideError(
            "no_tissue", f"{slide.path}: {reason}; leave it out, or check its µm per pixel ({slide.mpp:.4g})"
        )
    thumbnail, mpp = _thumbnail(slide, picture)
    return Layout(tiles, thumbnail, mpp, float(mask.sum()) * MASK_MPP**2 / 1e6)


def tokens_of_slide(
    path: str | Path,
    encoder: Encoder,
    mpp: float | None = None,
    magnifications: Sequence[int] = (10, 20),
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[int, SlideFeatures], np.ndarray, dict[str, Any]]:
    """Encode the tissue of one slide.

    Args:
        path: The slide.
        encoder: As `load_encoder` gives it.
        mpp: µm per pixel, used only where the slide tells none.
        magnifications: One, or two of which the finer is twice the coarser.
        batch_size: Tiles a call of the encoder; the encoder's own choice when None.
        progress: Called with (tiles done, tiles of the slide) after every batch.

    Returns:
        {magnification: features}, the thumbnail (H, W, 3) uint8, and attributes: `source`, `source_bytes`,
        `dimensions`, `mpp`, `mpp_source`, `reader`, `thumbnail_mpp`, `tissue_mm2`, `tiles`, `tiles_unreadable`.

    Raises:
        SlideError: The slide cannot be used; `state` says why in a word.
    """
    magnifications = check_magnifications(magnifications)
    with Slide(path, mpp) as slide:
        slide.check_scale(magnifications)
        layout = lay_out(slide, magnifications)
        features, read = _encode(slide, layout.tiles, encoder, batch_size, progress)
        bags = _bags(layout.tiles, features, read)
        unreadable = int(sum((~kept).sum() for kept in read.values()))
        attributes = {
            "source": slide.path.name,
            "source_bytes": slide.path.stat().st_size,
            "dimensions": list(slide.dimensions),
            "mpp": slide.mpp,
            "mpp_source": slide.mpp_source,
            "reader": slide.reader,
            "thumbnail_mpp": layout.thumbnail_mpp,
            "tissue_mm2": round(layout.tissue_mm2, 4),
            "tiles": {str(m): len(bag.features) for m, bag in bags.items()},
            "tiles_unreadable": unreadable,
        }
    return bags, layout.thumbnail, attributes


def read_tiles(slide: Slide, tiles: dict[int, Tiles]) -> Iterator[tuple[int, int, np.ndarray | None]]:
    """Read every tile; a coarse tile and the fine ones inside it in one go, from one resampled block.

    Yields:
        (magnification, row, (224, 224, 3) uint8); None for a tile that cannot be decoded.
    """
    coarse = min(tiles)
    fine = max(tiles)
    children: dict[int, list[int]] = {}
    if fine != coarse:
        for row, parent in enumerate(tiles[fine].parent.tolist()):
            children.setdefault(parent, []).append(row)
    for row, cell in enumerate(tiles[coarse].cell.tolist()):
        corner = [index * tile_um(coarse) for index in cell]
        if fine == coarse:
            yield coarse, row, _read(slide, corner, TILE_PX, coarse)
            continue
        block = _read(slide, corner, 2 * TILE_PX, fine)
        if block is None:
            yield coarse, row, _read(slide, corner, TILE_PX, coarse)
        else:
            yield coarse, row, np.asarray(Image.fromarray(block).resize((TILE_PX, TILE_PX), Image.Resampling.BOX))
        for child in children.get(row, []):
            x, y = tiles[fine].cell[child].tolist()
            left, top = (x - 2 * cell[0]) * TILE_PX, (y - 2 * cell[1]) * TILE_PX
            if block is None:
                yield fine, child, _read(slide, [x * tile_um(fine), y * tile_um(fine)], TILE_PX, fine)
            else:
                yield fine, child, block[top : top + TILE_PX, left : left + TILE_PX]


def _read(slide: Slide, corner: list[float], side: int, magnification: int) -> np.ndarray | None:
    try:
        return slide.read(corner[0], corner[1], side, side, pixel_um(magnification))
    except SlideError as error:
        if error.state != "unreadable":
            raise
        return None


def _encode(
    slide: Slide,
    tiles: dict[int, Tiles],
    encoder: Encoder,
    batch_size: int | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Features (N, D) float16 and which rows were read (N,) bool, for each magnification."""
    features = {m: np.zeros((len(t), encoder.dim), np.float16) for m, t in tiles.items()}
    read = {m: np.zeros(len(t), bool) for m, t in tiles.items()}
    total = sum(len(t) for t in tiles.values())
    done = failed = 0
    for batch in _ahead(read_tiles(slide, tiles), batch_size or encoder.batch_size):
        good = [item for item in batch if item[2] is not None]
        failed += len(batch) - len(good)
        if failed > MOST_UNREADABLE * total:
            raise SlideError(
                "unreadable",
                f"{slide.path}: {failed} of the first {done + len(batch)} tiles cannot be decoded; fetch the slide again",
            )
        if good:
            values = encoder(np.stack([tile for _, _, tile in good]))
            with np.errstate(over="ignore"):
                values = values.astype(np.float16)
            if not np.isfinite(values).all():
                raise InputError(
                    f"--encoder {encoder.name}: gave NaN or more than float16 holds for a tile of {slide.path}"
                )
            for (magnification, row, _), value in zip(good, values, strict=True):
                features[magnification][row] = value
                read[magnification][row] = True
        done += len(batch)
        if progress:
            progress(done, total)
    return features, read


def _bags(
    tiles: dict[int, Tiles], features: dict[int, np.ndarray], read: dict[int, np.ndarray]
) -> dict[int, SlideFeatures]:
    """Leave out the tiles that were not read; a fine tile whose parent is gone has parent −1."""
    from dmml.store import SlideFeatures

    bags = {}
    for magnification, kept in read.items():
        parent = tiles[magnification].parent
        if parent is not None:
            alive = read[magnification // 2]
            row = np.where(alive, np.cumsum(alive) - 1, -1).astype(np.int32)
            parent = row[parent][kept]
        bags[magnification] = SlideFeatures(features[magnification][kept], tiles[magnification].position[kept], parent)
    return bags


def _ahead(items: Iterator, size: int) -> Iterator[list]:
    """Lists of up to `size` items, made in a thread while the caller works on the one before."""
    ready: queue.Queue = queue.Queue(maxsize=_AHEAD)
    stop = threading.Event()

    def offer(thing) -> bool:
        while not stop.is_set():
            try:
                ready.put(thing, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        batch = []
        try:
            for item in items:
                batch.append(item)
                if len(batch) == size:
                    if not offer(batch):
                        return
                    batch = []
            if batch:
                offer(batch)
            offer(_END)
        except BaseException as error:
            offer(error)

    thread = threading.Thread(target=work, name="tile-reader", daemon=True)
    thread.start()
    try:
        while (thing := ready.get()) is not _END:
            if isinstance(thing, BaseException):
                raise thing
            yield thing
    finally:
        # The slide is closed after this: the thread must not be reading from it any more.
        stop.set()
        thread.join()


def _thumbnail(slide: Slide, picture: np.ndarray) -> tuple[np.ndarray, float]:
    """A picture of at most 512 px a side, and its µm/px; small slides keep the pixels of a finer reading."""
    longest = max(slide.size_um)
    mpp = max(longest / THUMBNAIL_PX, slide.mpp)
    if mpp < MASK_MPP:
        return slide.overview(mpp), mpp
    width, height = (max(1, math.ceil(um / mpp - 1e-6)) for um in slide.size_um)
    box = (0.0, 0.0, min(width * mpp / MASK_MPP, picture.shape[1]), min(height * mpp / MASK_MPP, picture.shape[0]))
    image = Image.fromarray(picture).resize((width, height), Image.Resampling.BOX, box=box)
    return np.asarray(image), mpp
