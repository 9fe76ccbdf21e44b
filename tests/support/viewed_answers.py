"""Answers of `dmml predict-slide` on a slide with bounds, written by its own writers, in which one tile is marked."""

import json
import threading
import uuid
from contextlib import contextmanager

import numpy as np
from drawn_slides import paint_tissue
from leica_slides import write_scn
from PIL import Image

from dmml.slides.geojson.frame import SlideFrame
from dmml.slides.geojson.tile_layer import TileClass, TileLayer, tile_features
from dmml.slides.geojson.writing import write_features
from dmml.slides.tiling.grid import DEFAULT_TILE_PX, tile_um
from dmml.slides.tiling.layout import SlideRequest, lay_out
from dmml.slides.wsi.slide import Slide
from dmml.viewer.open_path import open_path
from dmml.viewer.page_data import PageData
from dmml.viewer.server import ViewerServer

PATIENT, DATE = "DOE JANE 1961", "2011-05-04T10:21:33.000Z"
CORNER, GLASS, SIZE = (1000, 700), (4000, 3000), (2240, 1792)
"""Pixels: corner of the scanned area on the glass, size of the glass and of the area"""
MARKED, SIDE = (7, 6), 224
"""Column and row of the marked 20x tile in the grid that begins at the corner of the glass, and its side in pixels"""
PURPLE, RED = (60, 10, 110), (103, 0, 31)
"""Colour of the marked tile on the slide, and of the upper end of the colour scale of contributions"""


def write_marked_slide(path):
    """A slide with bounds, a patient's name and a date, on which the marked tile is purple and other tissue is pink."""
    width, height = SIZE
    picture = paint_tissue(width, height, ((300, 200, 1500, 1300),))
    left, top = (cell * SIDE - corner for cell, corner in zip(MARKED, CORNER, strict=True))
    picture[top : top + SIDE, left : left + SIDE] = PURPLE
    return write_scn(path, picture, CORNER, GLASS, patient=PATIENT, date=DATE)


def write_answer(folder, slide_path, command=None):
    """An answer in which the marked tile adds 1 and all others subtract something."""
    folder.mkdir(parents=True)
    with Slide(slide_path) as slide:
        layout = lay_out(slide, SlideRequest(slide_path, (10, 20)))
    record = {"slide_id": slide_path.stem, **layout.attributes}
    layers = [layer_of(m, tiles) for m, tiles in layout.tiles.items()]
    namespace = uuid.uuid4()
    features = [feature for layer in layers for feature in tile_features(layer, SlideFrame.of(record), namespace)]
    write_features(folder / "tiles.geojson", features, len(features))
    Image.fromarray(layout.thumbnail).save(folder / "thumbnail.jpg", quality=95)
    prediction = {
        "patient": slide_path.stem,
        "answer": ["Above the median risk", "18 % chance of being event-free"],
        "use": "For research use only.",
        "slides": [record],
        "command": command or f"dmml predict-slide '{slide_path}' --ckpt_path best.ckpt --out answers",
    }
    (folder / "prediction.json").write_text(json.dumps(prediction))
    return folder


def layer_of(magnification, tiles):
    """Values that differ from tile to tile."""
    n = len(tiles)
    is_marked = (tiles.cell == MARKED).all(axis=1) & (magnification == 20)
    total = np.where(is_marked, 1.0, -(1 + np.arange(n)) / (2 * n))
    attention = np.linspace(0.1, 3, n)
    classes = (TileClass("raises the risk", (178, 24, 43)), TileClass("lowers the risk", (33, 102, 172)))
    return TileLayer(
        magnification,
        tile_um(magnification, DEFAULT_TILE_PX),
        tiles.cell,
        np.where(is_marked[:, None], (178, 24, 43), (33, 102, 172)).astype(np.uint8),
        classes,
        np.where(is_marked, 0, 1),
        "little effect",
        {"contribution, all parts": total, "attention, tumor": attention},
    )


@contextmanager
def serving(path, slides=(), thumbnails=False):
    """Serve a path in a thread; yields the server."""
    data = PageData(open_path(str(path), slides, thumbnails))
    with ViewerServer(data) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            data.close()
