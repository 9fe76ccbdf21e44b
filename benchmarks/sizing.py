"""How much disk, memory and time does a cohort need? Computed from rates that you measured, or those of docs/results.

    python benchmarks/sizing.py [--tokens 2500 10000 40000] [--dim 1024] [--patients-per-second 3] [--tiles-per-second 40]

The default rates are those of training in `benchmarks/training_throughput.py` and of extraction with the default encoder
in `benchmarks/extraction.py`. Nothing is measured here, so that you can give the rates of your hardware;
`dmml extract --dry-run` estimates the hours for your slides.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

PATIENTS = (100, 1_000, 10_000, 100_000)
TOKENS = (2_500, 10_000, 40_000)
MEASURED = 10_000
"""Tokens per patient to which a rate of training refers; time is taken as proportional to tokens, which model_speed.md
shows from 10,000 on: with fewer tokens, a patient takes longer than in proportion"""
BYTES_PER_NUMBER = 2  # float16
OTHER_BYTES_PER_TOKEN = 8 + 4 + 8  # per token: position, parent, and in memory the index of its slide
COPIES = 3  # of a batch's features in memory: as read, padded, and in float32 while they are projected (twice the size)


class Size(NamedTuple):
    """Resources that a cohort needs."""

    patients: int
    tokens: int
    disk_gib: float
    batch_gib: float
    extraction_hours: float
    fit_hours: float


def size(
    patients: int,
    tokens: int,
    dim: int,
    batch: int,
    epochs: int,
    patients_per_second: float,
    tiles_per_second: float,
) -> Size:
    """Compute the resources of a cohort.

    Args:
        patients: Number of patients with one slide each.
        tokens: Tiles per slide at 20x; a quarter as many at 10x are added.
        dim: Features per tile.
        batch: Patients per batch.
        epochs: Epochs of a fit.
        patients_per_second: Patients with `MEASURED` tokens per second of training, without validation.
        tiles_per_second: Tiles of both magnifications per second of extraction.
    """
    both = tokens + tokens // 4
    disk = patients * both * (dim * BYTES_PER_NUMBER + OTHER_BYTES_PER_TOKEN) / 2**30
    memory = batch * both * dim * BYTES_PER_NUMBER * (COPIES + 1) / 2**30
    return Size(
        patients,
        tokens,
        disk,
        memory,
        patients * both / tiles_per_second / 3600,
        patients * epochs * tokens / MEASURED / patients_per_second / 3600,
    )


def table(rows: list[Size]) -> list[str]:
    """Lines of Markdown."""
    lines = [
        "| slides | tiles at 20x | store, GiB | a batch in memory, GiB | extraction, hours | fit, hours |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        numbers = (f"{x:,.1f}" if x < 100 else f"{x:,.0f}" for x in row[2:])
        lines.append(f"| {row.patients:,} | {row.tokens:,} | {' | '.join(numbers)} |")
    return lines


def run() -> None:
    results = Path(__file__).resolve().parents[1] / "docs" / "results"
    patients = json.loads((results / "training_throughput.json").read_text())["patients_per_second"]
    tiles = json.loads((results / "extraction.json").read_text())["lite0"][0]["end_to_end"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS, help="tokens per slide at 20x")
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=30)
    for name, rate in (("--patients-per-second", patients), ("--tiles-per-second", tiles)):
        parser.add_argument(name, type=float, default=rate, help=f"default: {rate:.2f}, as measured in docs/results")
    args = parser.parse_args()
    options = vars(args)
    all_tokens = options.pop("tokens")
    if min(*all_tokens, *options.values()) <= 0:
        parser.error("all numbers must be above 0")
    print("\n".join(table([size(patients, tokens, **options) for patients in PATIENTS for tokens in all_tokens])))


if __name__ == "__main__":
    run()
