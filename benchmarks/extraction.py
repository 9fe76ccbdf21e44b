"""Extraction end to end compared with the encoder alone on tiles in memory: tiles per second on the same threads.

Slides are mosaics of the rendered pyramids of a simulated cohort, so that they have as many tiles as a small section.
`alone` encodes tiles of these slides that are already in memory, in batches of the same size. `end to end` is what
`dmml extract` does with the slides, from opening them to the finished store, without loading the encoder. The steady
state lies between the first and the last slide but one in the store, since nothing is read ahead at the start and
nothing is left to read at the end. `alone` is measured before and after each turn. The second encoder is about ten times
cheaper, so that reading has a tenth of the time. The encoder has the same threads alone and end to end: all cores but
one, which reads, as with a GPU; and once all cores, so that reading competes with it. Memory is the maximum of the main
process and of its reading process, each in a separate run of `extract`.

    python benchmarks/extraction.py [--part lite0|cheap|count|size] [--out docs/results]

With --out, the other parts of the page keep the results of earlier runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from other_load import OtherLoad

HERE = Path(__file__).parent
TILES = 64
READERS = 1
CHEAP = "lite0 at 64 px"
ALONE_S = 6.0


def cheap_encoder():
    """The default encoder's network on images of 64 px: about a tenth of its work, and the same number of features."""
    import timm
    import torch

    from dmml.slides.encoders.torch_encoder import TorchEncoder

    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    return TorchEncoder("lite0-64px", model, {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 64}, device="cpu")


def encoder_of(name: str):
    from dmml.slides.encoders.build import load_encoder

    return cheap_encoder() if name == CHEAP else load_encoder(device="cpu")


def tiles_in_memory(slides: list[Path]) -> np.ndarray:
    """The first tiles of a slide."""
    from dmml.slides.reading.tile_reading import SlideSource
    from dmml.slides.tiling.layout import SlideRequest
    from dmml.slides.tiling.tile_groups import tile_groups

    source, request = SlideSource(), SlideRequest(slides[0], (10, 20))
    pixels = [source.read(request, group).pixels for group in tile_groups(source.lay_out(request).tiles)]
    source.close()
    return np.resize(np.concatenate(pixels), (TILES, 224, 224, 3))


def layout_seconds(slides: list[Path]) -> float:
    """Median seconds per slide from opening it to the list of its tiles, before any of them is read."""
    from dmml.slides.reading.tile_reading import SlideSource
    from dmml.slides.tiling.layout import SlideRequest

    source, seconds = SlideSource(), []
    for path in slides:
        start = time.perf_counter()
        source.lay_out(SlideRequest(path, (10, 20)))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def alone(encoder, tiles: np.ndarray, seconds: float) -> float:
    """Tiles per second of the encoder with tiles in memory, batch by batch."""
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        first = done % len(tiles)
        encoder(tiles[first : first + encoder.batch_size])
        done += encoder.batch_size
    return done / (time.perf_counter() - start)


def end_to_end(encoder, slides: list[Path], folder: Path, readers: int) -> dict:
    """Tiles per second from whole slides to a store, overall and at steady state, and cores used by other processes."""
    from dmml.slides.extraction.slide_writer import SlideWriter
    from dmml.slides.extraction.stream import encode_slides
    from dmml.slides.reading.reader_pool import ReaderPool
    from dmml.slides.tiling.layout import SlideRequest
    from dmml.store import FeatureStore

    shutil.rmtree(folder, ignore_errors=True)
    store = FeatureStore.create(folder, encoder.identity, {10: 1.0, 20: 0.5})
    clock, tiles = [], []

    def written(slide) -> None:
        clock.append(time.perf_counter())
        tiles.append(sum(len(bag.features) for bag in slide.bags.values()))
        slide.partial.remove()

    writer = SlideWriter(lambda: store, written)
    with ReaderPool(readers) as pool:
        # The reading processes are started before the clock, since this takes a second once per run.
        pool.lay_out(SlideRequest(slides[0], (10, 20))).result()
        with OtherLoad(*(reader.process.pid for reader in pool._readers if readers)) as other:
            requests = (SlideRequest(path, (10, 20)) for path in slides)
            for slide in encode_slides(requests, encoder, pool, partial_file_of=store.backend.partial_file):
                writer.write(slide)
            writer.finish()
    writer.close()
    steady = sum(tiles[1:-1]) / (clock[-2] - clock[0])
    return {"tiles": sum(tiles), "whole": sum(tiles) / other.seconds, "steady": steady, "others": other.cores}


def measure(name: str, slides: list[Path], folder: Path, readers: int, repeats: int, threads: int = 0) -> dict:
    """Both speeds, in turn; the encoder has `threads` threads, or all cores but one."""
    import torch

    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) - 1))
    encoder, pixels = encoder_of(name), tiles_in_memory(slides)
    alone(encoder, pixels, 1.0)
    by_itself, turns = [alone(encoder, pixels, ALONE_S)], []
    for _ in range(repeats):
        turns.append(end_to_end(encoder, slides, folder / "f.zarr", readers))
        by_itself.append(alone(encoder, pixels, ALONE_S))
    references = [(before + after) / 2 for before, after in itertools.pairwise(by_itself)]
    ratios = {
        what: [turn[what] / speed for turn, speed in zip(turns, references, strict=True)]
        for what in ("steady", "whole")
    }
    return {
        "encoder": name,
        "readers": readers,
        "slides": len(slides),
        "tiles": turns[0]["tiles"],
        "layout_s": layout_seconds(slides),
        "alone": statistics.median(by_itself),
        "end_to_end": statistics.median(turn["steady"] for turn in turns),
        "ratio": statistics.median(ratios["steady"]),
        "ratios": ratios["steady"],
        "ratio_whole": statistics.median(ratios["whole"]),
        "ratios_whole": ratios["whole"],
        "others": max(turn["others"] for turn in turns),
        "threads": torch.get_num_threads(),
    }


MEMORY = """
import sys
from extraction import cheap_encoder
from process_memory import kib
from dmml.slides.reading.reader_process import ReaderProcess
from dmml.slides.extraction.extract import extract

peaks, close = [], ReaderProcess.close

def closing(reader):
    peaks.append(kib("VmHWM", file=f"{reader.process.pid}/status"))
    close(reader)

ReaderProcess.close = closing
result = extract(sys.argv[2:], sys.argv[1], cheap_encoder(), readers=1)
print(len(result.written), result.tiles, kib("VmHWM") / 1024, max(peaks) / 1024)
"""


def memory(what: str, slides: list[Path], folder: Path) -> dict:
    """Largest resident memory in MiB of a process that extracts these slides, and of its reading process."""
    shutil.rmtree(folder / "m", ignore_errors=True)
    run = [sys.executable, "-c", MEMORY, str(folder / "m" / "f.zarr"), *map(str, slides)]
    printed = subprocess.run(run, capture_output=True, text=True, check=True, cwd=HERE).stdout.split()
    if int(printed[0]) != len(slides):
        raise SystemExit(f"{printed[0]} of {len(slides)} slides were written")
    return {
        "input": what,
        "slides": len(slides),
        "tiles": int(printed[1]),
        "main": float(printed[2]),
        "reader": float(printed[3]),
    }


def memory_by_count(slides: list[Path], folder: Path, counts: tuple[int, ...] = (4, 16, 64, 256)) -> list[dict]:
    """Memory for growing numbers of slides, which are the same files under several names."""
    rows = []
    for n in counts:
        many = folder / str(n)
        many.mkdir()
        for i in range(n):
            os.link(slides[i % len(slides)], many / f"slide-{i:03}.tif")
        rows.append(memory("rendered slides", sorted(many.iterdir()), folder))
    return rows


def memory_by_size(folder: Path, widths: tuple[int, ...] = (12_500, 25_000, 50_000, 100_000)) -> list[dict]:
    """Memory for one slide with the same tissue, 10 × 6 mm, and more and more glass; and the largest with four times the tissue."""
    from large_slide import write_sparse

    rows = []
    for width, tissue in (*((w, (5_000, 3_000)) for w in widths), (widths[-1], (10_000, 6_000))):
        size, path = (width, width * 4 // 5), folder / f"{width}-{tissue[0]}.tif"
        left, top = ((side - wide * 2) // 2 for side, wide in zip(size, tissue, strict=True))
        write_sparse(path, size, (left, top, left + tissue[0] * 2, top + tissue[1] * 2), mpp=0.5)
        rows.append(
            memory(f"{size[0]:,} × {size[1]:,} px, {tissue[0] * tissue[1] / 1e6:g} mm² of tissue", [path], folder)
        )
    return rows


def mosaics(slides: list[Path], folder: Path, count: int, side: int) -> list[Path]:
    """Write `count` larger slides, each beginning with another of the small ones."""
    from large_slide import write_mosaic

    paths = [folder / f"mosaic-{side}-{i}.tif" for i in range(count)]
    for i, path in enumerate(paths):
        write_mosaic(path, slides[i:] + slides[:i], side)
    return paths


def speed_of_default(slides: list[Path], folder: Path, repeats: int) -> list[dict]:
    large = mosaics(slides, folder, 6, 4)
    return [measure("lite0", large, folder, READERS, repeats, threads) for threads in (0, os.cpu_count() or 1)]


def speed_of_cheap(slides: list[Path], folder: Path, repeats: int) -> list[dict]:
    large = mosaics(slides, folder, 6, 5)
    return [
        *(measure(CHEAP, large, folder, readers, repeats) for readers in (READERS, 0)),
        measure(CHEAP, slides * 3, folder, READERS, repeats),
    ]


PARTS = {
    "lite0": speed_of_default,
    "cheap": speed_of_cheap,
    "count": lambda slides, folder, _: memory_by_count(slides, folder),
    "size": lambda _, folder, __: memory_by_size(folder),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--part", choices=PARTS, help="only this part")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--slides", type=Path, help="folder of rendered slides (default: some are rendered)")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    from dmml.__main__ import main as dmml

    results: dict = {}
    if args.out and (args.out / "extraction.json").is_file():
        results = json.loads((args.out / "extraction.json").read_text())
    with tempfile.TemporaryDirectory() as name:
        folder, source = Path(name), args.slides
        if source is None:
            dmml(["simulate", str(folder / "sim"), "--patients", "12", "--held-out", "1"])
            source = folder / "sim" / "development" / "slides"
        slides = sorted(source.glob("*.tif"))
        for part in [args.part] if args.part else PARTS:
            results[part] = PARTS[part](slides, folder, args.repeats)
    report(results, args.out)


def report(results: dict, out: Path | None) -> None:
    """Print and write the tables."""
    lines = ["# Extraction compared with the encoder alone", ""]
    if speeds := results.get("lite0", []) + results.get("cheap", []):
        lines += [
            "`python benchmarks/extraction.py --out docs/results`: the encoder has the same threads alone and end to "
            "end, "
            f"with reading in a separate process or thread, on a machine of {os.cpu_count()} cores. If it has all "
            "cores, reading competes with it. The median of the turns, with each turn in brackets. Steady state: "
            "from the first slide in the store to the last but one. Others: maximum number of cores used by other "
            "processes meanwhile. Every slide is flushed to the disk; small ones are flushed together.",
            "",
            "| encoder | its threads | reading in | slides | tiles a slide | alone, tiles/s | end to end, tiles/s | "
            "ratio at steady state | with start and end | others |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
    for row in speeds:
        reading = "a process" if row["readers"] else "a thread"
        ratios, whole = (", ".join(f"{x:.3f}" for x in row[key]) for key in ("ratios", "ratios_whole"))
        lines.append(
            f"| {row['encoder']} | {row['threads']} | {reading} | {row['slides']} | {row['tiles'] / row['slides']:.0f} | "
            f"{row['alone']:.1f} | {row['end_to_end']:.1f} | **{row['ratio']:.3f}** ({ratios}) | "
            f"{row['ratio_whole']:.3f} ({whole}) | {row['others']:.2f} |"
        )
    if timed := {(row["encoder"], row["tiles"]): row for row in speeds}.values():
        lines += ["", "Finding tissue and tiles of a slide, from opening it, before any tile is read:", ""]
        lines += [
            "| encoder | tiles a slide | seconds a slide | beside the encoding of its tiles |",
            "|---|---|---|---|",
        ]
    for row in timed:
        tiles = row["tiles"] / row["slides"]
        share = row["layout_s"] / (tiles / row["alone"])
        lines.append(f"| {row['encoder']} | {tiles:.0f} | {row['layout_s']:.3f} | {share:.1%} |")
    if memories := results.get("count", []) + results.get("size", []):
        lines += [
            "",
            "## Memory",
            "",
            f"Largest resident memory of a run of `extract` with {CHEAP}, of which the encoder's libraries take "
            "about 0.4 GiB before the first slide.",
            "",
            "| input | slides | tiles | main process, MiB | reading process, MiB |",
            "|---|---|---|---|---|",
        ]
    for row in memories:
        lines.append(
            f"| {row['input']} | {row['slides']} | {row['tiles']:,} | {row['main']:.0f} | {row['reader']:.0f} |"
        )
    text = "\n".join([*lines, ""])
    print(text)
    if out:
        (out / "extraction.md").write_text(text)
        (out / "extraction.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
