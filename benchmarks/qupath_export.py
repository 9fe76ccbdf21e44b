"""How long does it take, and how much memory, to write the tiles of a large slide for QuPath?

Tiles on a square grid with four measurements, in classes that form regions, on a slide of 0.25 µm per pixel. Each kind of
file is written in a process of its own: seconds of the wall clock and of the processor, from arrays in memory to the
complete file, and the peak of the process's resident memory, Python and its libraries included. Prints a table and writes
`qupath_export.json` and `qupath_export.md`.

    python benchmarks/qupath_export.py [--tiles 200000] --out docs/results
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np

KINDS = ("tiles", "regions", "overlay")
MAX_SECONDS, MAX_GIB = 60.0, 1.0
"""Targets for 200,000 tiles"""
MPP, TILE_UM = 0.25, 112.0


def layer_of(n: int):
    """N tiles whose classes are patches of about a hundred tiles, with their slide."""
    from scipy import ndimage

    from dmml.slides.geojson.frame import SlideFrame
    from dmml.slides.geojson.tile_layer import Category, TileLayer
    from dmml.slides.wsi.bounds import Bounds

    side = math.ceil(math.sqrt(n))
    rng = np.random.default_rng(0)
    cell = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)[:n]
    smooth = ndimage.gaussian_filter(rng.normal(size=(side, side)), 4).ravel()[:n]
    category = np.digitize(smooth / smooth.std(), [-0.7, 0.7]) - 1
    measurements = {f"contribution, part {i}": rng.normal(size=n) for i in range(4)}
    categories = [Category("lowers the risk", (33, 102, 172)), Category("raises the risk", (178, 24, 43))]
    colour = rng.integers(0, 256, (n, 3)).astype(np.uint8)
    px = math.ceil(side * TILE_UM / MPP)
    layer = TileLayer(20, TILE_UM, cell, colour, categories, category, "little effect", measurements)
    return layer, SlideFrame(MPP, Bounds(0, 0, px, px))


def write(kind: str, n: int, folder: Path) -> dict:
    """Write one kind of file, and measure it."""
    from dmml.slides.geojson.regions import region_features
    from dmml.slides.geojson.tile_layer import tile_features
    from dmml.slides.geojson.writing import write_features
    from dmml.slides.ome_tiff import write_ome_tiff

    layer, frame = layer_of(n)
    namespace, shapes = uuid.UUID(int=0), n
    start, cpu = time.perf_counter(), time.process_time()
    if kind == "tiles":
        path = write_features(folder / "tiles.geojson", tile_features(layer, frame, namespace), n)
    elif kind == "regions":
        regions = list(region_features(layer, frame, namespace))
        shapes = len(regions)
        path = write_features(folder / "regions.geojson", regions, shapes)
    else:
        path = folder / "heatmap_20x.ome.tif"
        write_ome_tiff(path, layer, frame, namespace)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "kind": kind,
        "file": path.name,
        "shapes": shapes if kind != "overlay" else None,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "gib": round(gib, 2),
        "mib": round(path.stat().st_size / 2**20, 1),
    }


def page(results: dict) -> str:
    """The table as Markdown."""
    rows = [
        f"| {r['file']} | {'' if r['shapes'] is None else format(r['shapes'], ',')} | {r['seconds']} | {r['cpu_seconds']} | {r['gib']} | {r['mib']} |"
        for r in results["files"]
    ]
    return "\n".join(
        [
            "# Files for QuPath of a large slide",
            "",
            f"`python benchmarks/qupath_export.py --tiles {results['tiles']} --out docs/results`: {results['tiles']:,} tiles "
            f"at 20x, on a slide of {results['slide_px']:,} pixels a side. The target for the tiles is "
            f"{MAX_SECONDS:.0f} seconds and {MAX_GIB:.0f} GiB. Memory is the peak of the whole process. Seconds exceed those of the processor where other processes use the "
            "machine, too.",
            "",
            "| file | shapes | seconds | of the processor | GiB | MiB of the file |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=200_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", choices=KINDS, help="measure one kind in this process, and print it as JSON")
    args = parser.parse_args(argv)
    if args.only:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(write(args.only, args.tiles, Path(folder))))
        return
    command = [sys.executable, __file__, "--tiles", str(args.tiles), "--only"]
    files = [json.loads(subprocess.run([*command, kind], check=True, capture_output=True).stdout) for kind in KINDS]
    results = {"tiles": args.tiles, "slide_px": layer_of(args.tiles)[1].bounds.width, "files": files}
    print(text := page(results))
    if args.out:
        (args.out / "qupath_export.json").write_text(json.dumps(results, indent=2) + "\n")
        (args.out / "qupath_export.md").write_text(text)


if __name__ == "__main__":
    main()
