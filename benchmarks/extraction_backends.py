"""Extraction end to end with PyTorch and with ONNX Runtime, in turn, on the same threads and slides.

Both backends do what `dmml extract` does with the slides, from opening them to the finished store, with one reading
process, without loading the encoder. The encoder has one thread, so that the other core reads, or all cores, so that
reading competes with it. Large slides are mosaics of rendered ones; small ones have about 30 tiles. `alone` is the same
encoder on the same threads with tiles in memory. ResNet-50 has random weights, which changes no speed.

    python benchmarks/extraction_backends.py [--encoders NAME …] [--settings NAME …] [--slides DIR] [--out docs/results]

With --out, what is left out keeps the results of earlier runs.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from encoder_backends import graph_of, network_of
from extraction import READERS, alone, end_to_end, mosaics, tiles_in_memory

ENCODERS = ("tf_efficientnet_lite0", "resnet50")
BACKENDS = ("torch", "onnxruntime")
SETTINGS = {"one thread": (1, True), "all cores": (0, True), "all cores, small slides": (0, False)}
"""{setting: (threads of the encoder, 0 for all cores; whether slides are large)}"""
ALONE_S = 4.0


def encoder_in(backend: str, name: str, threads: int):
    import torch

    from dmml.slides.encoders.onnx_encoder import OnnxEncoder

    torch.set_num_threads(threads)
    network = network_of(name)
    network.batch_size = 8 * threads
    return network if backend == "torch" else OnnxEncoder(network.identity, graph_of(network), threads)


def measure(name: str, setting: str, slides: list[Path], folder: Path, repeats: int) -> dict:
    """Tiles per second of both backends, alone and end to end; the fastest of the turns counts."""
    threads = SETTINGS[setting][0] or os.cpu_count() or 1
    encoders = {backend: encoder_in(backend, name, threads) for backend in BACKENDS}
    pixels = tiles_in_memory(slides)
    row: dict = {"encoder": name, "setting": setting, "threads": threads, "slides": len(slides), "others": 0.0}
    rates: dict[str, dict[str, float]] = {backend: {"alone": 0.0, "end_to_end": 0.0} for backend in BACKENDS}
    for _ in range(repeats):
        for backend, encoder in encoders.items():
            alone(encoder, pixels, 0.5)
            turn = end_to_end(encoder, slides, folder / "f.zarr", READERS)
            best = rates[backend]
            best["alone"] = max(best["alone"], alone(encoder, pixels, ALONE_S))
            best["end_to_end"] = max(best["end_to_end"], turn["whole"])
            row |= {"tiles": turn["tiles"], "others": max(row["others"], turn["others"])}
    row |= rates
    print(row, flush=True)
    return row


def page(rows: list[dict]) -> str:
    lines = [
        "# Extraction with PyTorch and with ONNX Runtime",
        "",
        "`python benchmarks/extraction_backends.py --out docs/results`: tiles per second from opening the first slide to the "
        "finished store, with one reading process, both backends in turn in one run on a machine of "
        f"{os.cpu_count()} cores. The ratio is ONNX Runtime end to end beside PyTorch end to end; of the encoder alone, "
        "beside the same encoder on the same threads with tiles in memory. Rates differ between machines; the ratios "
        "count. Others: maximum number of cores that other processes used meanwhile. "
        "If that is much of a core, ratios with several threads favour ONNX Runtime, "
        "because PyTorch's threads wait for each other after every layer.",
        "",
        "| encoder | its threads | slides | tiles a slide | PyTorch | ONNX Runtime | ratio | ONNX Runtime alone | of the encoder alone | others |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        torch, onnx = row["torch"], row["onnxruntime"]
        lines.append(
            f"| {row['encoder']} | {row['threads']} | {row['slides']} | {row['tiles'] / row['slides']:.0f} | "
            f"{torch['end_to_end']:.1f} | {onnx['end_to_end']:.1f} | **{onnx['end_to_end'] / torch['end_to_end']:.2f}** | "
            f"{onnx['alone']:.1f} | {onnx['end_to_end'] / onnx['alone']:.2f} | {row['others']:.2f} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), metavar="NAME")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--slides", type=Path, help="folder of rendered slides (default: some are rendered)")
    parser.add_argument("--large", nargs=2, type=int, default=(4, 4), metavar=("N", "SIDE"), help="number of large slides, and rendered ones along a side")  # fmt: skip
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows: list[dict] = []
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    if args.out and (args.out / "extraction_backends.json").is_file():
        rows = json.loads((args.out / "extraction_backends.json").read_text())
    with tempfile.TemporaryDirectory() as name:
        folder, source = Path(name), args.slides
        if source is None:
            from dmml.__main__ import main as dmml

            dmml(["simulate", str(folder / "sim"), "--patients", "12", "--held-out", "1"])
            source = folder / "sim" / "development" / "slides"
        small = sorted(source.glob("*.tif"))
        large = mosaics(small, folder, *args.large)
        for encoder in args.encoders:
            for setting in args.settings:
                row = measure(encoder, setting, large if SETTINGS[setting][1] else small, folder, args.repeats)
                rows = [r for r in rows if (r["encoder"], r["setting"]) != (encoder, setting)] + [row]
                rows.sort(key=lambda r: (ENCODERS.index(r["encoder"]), list(SETTINGS).index(r["setting"])))
                if args.out:
                    (args.out / "extraction_backends.json").write_text(json.dumps(rows, indent=1) + "\n")
                    (args.out / "extraction_backends.md").write_text(page(rows))
    print(page(rows))


if __name__ == "__main__":
    main()
