"""Extraction end to end against the encoder alone: tiles a second on the same threads, with tiles in memory.

Slides are rendered pyramids of the simulated cohort. `alone` encodes tiles of theirs that are already in memory, in
batches of the same size; `end to end` is `dmml extract` on the slides, from opening them to the store on the disk,
without the loading of the encoder. Both are measured by turns and the middle of three is given. The second encoder is
about ten times cheaper, so that reading has a tenth of the time. Memory is the largest of the main process.

    python benchmarks/extraction.py [--out docs/results]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TILES = 64
READERS = 1


def cheap_encoder():
    """A convolutional network of about a tenth of the default encoder's work."""
    import timm
    import torch

    from dmml.slides.encoders import Encoder

    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    return Encoder("lite0-64px", model, {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 64}, device="cpu")


def encoder_of(name: str):
    from dmml.slides.encoders import load_encoder

    return load_encoder(device="cpu") if name == "lite0" else cheap_encoder()


def tiles_in_memory(slides: list[Path]) -> np.ndarray:
    """The first tiles of a slide."""
    from dmml.slides.layout import SlideRequest
    from dmml.slides.tile_reading import SlideSource, units_of

    source, request = SlideSource(), SlideRequest(slides[0], (10, 20))
    pixels = [source.read(request, unit).pixels for unit in units_of(source.plan(request).tiles)]
    source.close()
    return np.resize(np.concatenate(pixels), (TILES, 224, 224, 3))


def alone(encoder, tiles: np.ndarray, seconds: float) -> float:
    """Tiles a second of the encoder with tiles in memory, batch by batch."""
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        first = done % len(tiles)
        encoder(tiles[first : first + encoder.batch_size])
        done += encoder.batch_size
    return done / (time.perf_counter() - start)


def end_to_end(encoder, slides: list[Path], folder: Path, readers: int) -> tuple[float, int]:
    """Tiles a second of whole slides into a store, from the first tile to the last slide on the disk."""
    from dmml.slides.layout import SlideRequest
    from dmml.slides.readers import Readers
    from dmml.slides.slide_writer import SlideWriter
    from dmml.slides.stream import encode_slides
    from dmml.store import FeatureStore

    shutil.rmtree(folder, ignore_errors=True)
    store = FeatureStore.create(folder, encoder.identity, {10: 1.0, 20: 0.5})
    writer, tiles = SlideWriter(lambda: store, lambda slide: None), 0
    with Readers(readers) as pool:
        # Steady state: the reading processes are up, as they are a second after the beginning of a run of days.
        pool.submit("plan", SlideRequest(slides[0], (10, 20))).result()
        start = time.perf_counter()
        for slide in encode_slides((SlideRequest(path, (10, 20)) for path in slides), encoder, pool):
            tiles += sum(len(bag.features) for bag in slide.bags.values())
            writer.write(slide)
        writer.finish()
        seconds = time.perf_counter() - start
    writer.close()
    return tiles / seconds, tiles


def measure(name: str, slides: list[Path], folder: Path, readers: int, repeats: int = 3) -> dict:
    """Both speeds, by turns."""
    encoder, tiles = encoder_of(name), tiles_in_memory(slides)
    alone(encoder, tiles, 1.0)
    rows = []
    for _ in range(repeats):
        speed, n = end_to_end(encoder, slides, folder / "f.zarr", readers)
        rows.append((alone(encoder, tiles, min(10.0, n / speed)), speed))
    ratios = [b / a for a, b in rows]
    middle = {"alone": statistics.median(a for a, _ in rows), "end_to_end": statistics.median(b for _, b in rows)}
    return {
        "encoder": name,
        "readers": readers,
        "tiles": n,
        **middle,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


MEMORY = """
import sys, resource
from pathlib import Path
from extraction import cheap_encoder, end_to_end
encoder = cheap_encoder()
slides = [Path(p) for p in sys.argv[2:]]
end_to_end(encoder, slides, Path(sys.argv[1]) / "m.zarr", 0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def memory(slides: list[Path], folder: Path) -> float:
    """Largest resident memory of a process that extracts these slides, MiB."""
    run = [sys.executable, "-c", MEMORY, str(folder), *map(str, slides)]
    here = Path(__file__).parent
    return float(subprocess.run(run, capture_output=True, text=True, check=True, cwd=here).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--slides", type=Path, help="folder of slides (default: some are rendered)")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    from dmml.__main__ import main as dmml

    with tempfile.TemporaryDirectory() as name:
        folder, source = Path(name), args.slides
        if source is None:
            dmml(["simulate", str(folder / "sim"), "--patients", "12", "--held-out", "1"])
            source = folder / "sim" / "development" / "slides"
        slides = sorted(source.glob("*.tif"))
        rows = [
            measure("lite0", slides[:6], folder, READERS, args.repeats),
            measure("lite0 at 64 px", slides * 2, folder, READERS, args.repeats),
            measure("lite0 at 64 px", slides * 2, folder, 0, args.repeats),
        ]
        used = {n: memory((slides * 3)[:n], folder) for n in (3, 12, 36)}
    report(rows, used, args.out)


def report(rows: list[dict], used: dict[int, float], out: Path | None) -> None:
    """Print the tables, and write them."""
    import torch

    lines = [
        "# Extraction against the encoder alone",
        "",
        f"`python {' '.join(['benchmarks/extraction.py', *sys.argv[1:]])}`, {torch.get_num_threads()} thread(s) for the encoder, reading beside it.",
        "",
        "| encoder | reading | tiles | alone, tiles/s | end to end, tiles/s | ratio (each turn) |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        reading = f"{row['readers']} process" if row["readers"] else "thread"
        turns = ", ".join(f"{ratio:.2f}" for ratio in row["ratios"])
        lines.append(
            f"| {row['encoder']} | {reading} | {row['tiles']} | {row['alone']:.1f} | {row['end_to_end']:.1f} | **{row['ratio']:.2f}** ({turns}) |"
        )
    lines += [
        "",
        "Largest memory of the main process by number of slides: "
        + ", ".join(f"{n} slides {mib:.0f} MiB" for n, mib in used.items())
        + ".",
        "",
    ]
    print("\n".join(lines))
    if out:
        (out / "extraction.md").write_text("\n".join(lines))
        (out / "extraction.json").write_text(json.dumps({"rows": rows, "memory_mib": used}, indent=1) + "\n")


if __name__ == "__main__":
    main()
