"""Opens the viewer in headless Chromium: screenshots at three widths, and how fast it draws a slide with 100,000 tiles.

Writes screenshots to docs/images, and the times to docs/results/viewer.md and .json.

    python benchmarks/viewer.py --answer answers/cmu_small_region --slides slides/cmu_small_region.svs

The large slide is drawn on paper: its tiles are written by the writers of `dmml predict-slide`, with made-up values.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from dmml.slides.geojson.frame import SlideFrame
from dmml.slides.geojson.tile_layer import Category, TileLayer, tile_features
from dmml.slides.geojson.writing import write_features
from dmml.viewer.open_path import open_path
from dmml.viewer.page_data import PageData
from dmml.viewer.server import ViewerServer

MAX_SCREENSHOT_BYTES = 300_000
SHOTS = {"viewer": (1440, 900, "light"), "viewer_tablet": (820, 1100, "dark"), "viewer_phone": (390, 844, "light")}
"""Name: width and height in CSS pixels, colour scheme"""
N_TILES = 100_000
READY = "body[data-state=ready]"
FRAMES = """(seconds) => new Promise((resolve) => {
  const times = [];
  const step = (now) => {
    times.push(now);
    if (now - times[0] < 1000 * seconds) requestAnimationFrame(step);
    else resolve(times.slice(1).map((time, i) => time - times[i]));
  };
  requestAnimationFrame(step);
})"""
"""Milliseconds between frames"""


def main() -> None:
    """Take the screenshots, measure, and write both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answer", required=True, help="folder of an answer of dmml predict-slide")
    parser.add_argument("--slides", nargs="+", default=[], help="its slide")
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--browser", default="chromium")
    args = parser.parse_args()
    path = shutil.which(args.browser)
    if path is None:
        raise SystemExit(f"--browser {args.browser} is not installed")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with serving(args.answer, args.slides) as url:
            for name, shot in SHOTS.items():
                picture = screenshot(browser, url, *shot)
                (args.images / f"{name}.png").write_bytes(picture)
                print(f"{name}.png: {len(picture) / 1000:.0f} kB")
        write_large_answer(Path(folder) / "large")
        with serving(Path(folder) / "large") as url:
            record = {"browser": f"Chromium {browser.version}", "tiles": N_TILES, **measure(browser, url)}
        browser.close()
    (args.out / "viewer.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (args.out / "viewer.md").write_text(markdown(record), encoding="utf-8")
    print(markdown(record))


@contextmanager
def serving(path: str | Path, slides=()):
    """Serve a path in a thread; yields the address."""
    data = PageData(open_path(str(path), slides))
    with ViewerServer(data) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.url
        server.shutdown()
        data.close()


def screenshot(browser: Browser, url: str, width: int, height: int, scheme: str) -> bytes:
    """The page with its first tile selected, as a PNG of 256 colours."""
    is_phone = width < 500
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce", has_touch=is_phone
    )
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector(READY)
    page.keyboard.press("n")
    page.keyboard.press("h")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    context.close()
    if width > 1000:
        image = image.resize((width * 3 // 4, height * 3 // 4), Image.Resampling.LANCZOS)  # as wide as a page of docs
    buffer = io.BytesIO()
    image.quantize(256, kmeans=2, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    if len(buffer.getvalue()) > MAX_SCREENSHOT_BYTES:
        raise SystemExit(f"the picture has {len(buffer.getvalue())} bytes, more than {MAX_SCREENSHOT_BYTES}")
    return buffer.getvalue()


def write_large_answer(folder: Path) -> None:
    """An answer on a slide that does not exist, with `N_TILES` tiles at 20x in a disc."""
    folder.mkdir()
    side = int(np.ceil(np.sqrt(N_TILES * 4 / np.pi))) + 2
    cell = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    nearest = np.argsort(((cell - side / 2) ** 2).sum(axis=1), kind="stable")[:N_TILES]
    cell = cell[np.sort(nearest)]
    total = np.sin(cell[:, 0] / 20) * np.cos(cell[:, 1] / 20)
    colour = np.where(total[:, None] > 0, (178, 24, 43), (33, 102, 172)).astype(np.uint8)
    classes = (Category("raises the risk", (178, 24, 43)), Category("lowers the risk", (33, 102, 172)))
    values = {"contribution, all parts": total, "attention, tumor": np.abs(total)}
    layer = TileLayer(20, 112.0, cell, colour, classes, np.where(total > 0, 0, 1), "little effect", values)
    slide = {"slide_id": "large", "mpp": 0.5, "dimensions": [side * 224, side * 224], "tile_um": {"20": 112.0}}
    write_features(folder / "tiles.geojson", tile_features(layer, SlideFrame.of(slide), uuid.uuid4()), N_TILES)
    record = {"patient": "large", "answer": [], "use": "", "slides": [slide], "command": ""}
    (folder / "prediction.json").write_text(json.dumps(record))


def measure(browser: Browser, url: str) -> dict[str, float]:
    """Seconds until the page is ready, and milliseconds between frames while the slide moves."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    start = time.perf_counter()
    page.goto(url)
    page.wait_for_selector(READY, timeout=120_000)
    record = {"ready_s": time.perf_counter() - start}
    page.locator("#stage").focus()
    record |= {f"whole_{name}": value for name, value in frames(page).items()}
    for _ in range(6):
        page.keyboard.press("+")
    page.wait_for_timeout(800)
    record |= {f"near_{name}": value for name, value in frames(page).items()}
    page.close()
    return {name: round(value, 2) for name, value in record.items()}


def frames(page: Page) -> dict[str, float]:
    """Median and 95th percentile of the milliseconds between frames, in 4 s of drags that never pause."""
    box = page.locator("#stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.evaluate(f"window.frames_ = ({FRAMES})(4)")
    page.mouse.move(x, y)
    page.mouse.down()
    end = time.perf_counter() + 4
    for step in range(10_000):
        page.mouse.move(x + 150 * np.sin(step / 8), y + 150 * np.cos(step / 8))
        if time.perf_counter() > end:
            break
    page.mouse.up()
    times = page.evaluate("window.frames_")
    return {"median_ms": statistics.median(times), "p95_ms": float(np.percentile(times, 95))}


def markdown(record: dict) -> str:
    """The page of docs/results."""
    lines = [
        "# The viewer with many tiles",
        "",
        f"`python benchmarks/viewer.py --answer …` opened an answer with {record['tiles']:,} tiles in headless "
        f"{record['browser']} on two cores without a graphics card, in a window of 1440 × 900, and dragged the slide without "
        "a pause. It also takes the screenshots of [the viewer's page](../viewer.md).",
        "",
        "| | result |",
        "|---|---|",
        f"| from the request to the drawn page, with the reading of the GeoJSON file | {record['ready_s']:.1f} s |",
        f"| between two frames, whole slide in view: median, 95th percentile | {record['whole_median_ms']:.0f} ms, {record['whole_p95_ms']:.0f} ms |",
        f"| the same, zoomed in so that single tiles are drawn | {record['near_median_ms']:.0f} ms, {record['near_p95_ms']:.0f} ms |",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
