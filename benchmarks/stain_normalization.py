"""Extraction with and without stain normalisation: processor time per tile, alternating in one run.

The slide is a mosaic of the public region of CMU-1 (`../shared/data/slides/cmu_small_region.svs`), which has a section's
worth of real H&E tiles. Each turn extracts it as scanned and by each method, from opening the file to the finished store,
with one encoder; the fit of the slide's stains is part of it. Slides are read in a thread of the same process, so that its
processor time is that of everything, whatever else runs on the machine. Map and fit are also measured alone.

    python benchmarks/stain_normalization.py [--turns 3] [--side 3] [--out docs/results]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

REGION = Path("../shared/data/slides/cmu_small_region.svs")
MPP = 0.499
CHOICES = ("as scanned", "macenko", "vahadane")


def mosaic(side: int, folder: Path) -> Path:
    """A plain image of side × side copies of the region, every second one turned by 180 degrees."""
    import openslide

    with openslide.OpenSlide(REGION) as slide:
        region = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    rows = [np.concatenate([region[:: 1 - 2 * ((x + y) % 2)] for x in range(side)], axis=1) for y in range(side)]
    path = folder / "mosaic.png"
    Image.fromarray(np.concatenate(rows)).save(path, compress_level=1)
    return path


def milliseconds_per_tile(path: Path, out: Path, encoder, choice: str) -> float:
    from dmml.slides.extraction.extract import extract

    method = None if choice == CHOICES[0] else choice
    start = time.process_time()
    result = extract([path], out, encoder, mpp=MPP, readers=0, stain_normalization=method)
    return 1e3 * (time.process_time() - start) / result.tiles


def cost_alone(path: Path) -> dict[str, float]:
    """Milliseconds per tile of the map, and seconds of the fit of each method on the sampled pixels of a slide."""
    from dmml.slides.stains.colour_map import ColourMap
    from dmml.slides.stains.fit_stains import built_in_target, fit_stains

    picture = np.asarray(Image.open(path))
    pixels = picture[::4, ::4].reshape(-1, 3)
    costs = {}
    for method in CHOICES[1:]:
        start = time.process_time()
        stains = fit_stains(method, pixels)
        costs[f"fit by {method}, s"] = round(time.process_time() - start, 2)
    colours, tile = ColourMap(stains, built_in_target()), np.ascontiguousarray(picture[1000:1224, 1000:1224])
    start = time.process_time()
    for _ in range(200):
        colours(tile)
    return costs | {"map, ms per tile": round(1e3 * (time.process_time() - start) / 200, 2)}


def page(results: dict) -> str:
    lines = [
        "# Cost of stain normalisation in an extraction",
        "",
        "`python benchmarks/stain_normalization.py` writes this page; its docstring says what is measured.",
        "",
        f"{results['turns']} turns with {results['encoder']} on a slide of {results['tiles']} tiles.",
        "",
        "| tiles | ms of processor time per tile, median | ratio to as scanned in the same turn, median (lowest to highest) |",
        "|---|---|---|",
    ]
    for choice in CHOICES:
        costs = results["ms_per_tile"][choice]
        ratios = [a / b for a, b in zip(costs, results["ms_per_tile"][CHOICES[0]], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {choice} | {statistics.median(costs):.1f} | {spread} |")
    lines += [
        "",
        "The fit is made once per slide, so that its share falls with the number of tiles.",
        "",
        "| alone | processor time |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in results["alone"].items()),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--side", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    from dmml.slides.encoders.build import load_encoder
    from dmml.store import FeatureStore

    encoder = load_encoder(device="cpu")
    costs: dict[str, list[float]] = {choice: [] for choice in CHOICES}
    with tempfile.TemporaryDirectory() as folder:
        path = mosaic(args.side, Path(folder))
        alone = cost_alone(path)
        for turn in range(args.turns):
            for choice in CHOICES[turn % 3 :] + CHOICES[: turn % 3]:
                out = Path(folder) / f"{turn}-{choice}".replace(" ", "-") / "f.zarr"
                out.parent.mkdir()
                costs[choice].append(round(milliseconds_per_tile(path, out, encoder, choice), 2))
                print(turn, choice, costs[choice][-1], "ms per tile", flush=True)
            sizes = FeatureStore(out).sizes([path.stem], (10, 20))
            results = {
                "turns": turn + 1,
                "encoder": encoder.name,
                "tiles": sum(sizes[path.stem]),
                "ms_per_tile": costs,
                "alone": alone,
            }
            if args.out:
                (args.out / "stain_normalization.json").write_text(json.dumps(results, indent=1) + "\n")
                (args.out / "stain_normalization.md").write_text(page(results))
    print(page(results))


if __name__ == "__main__":
    main()
