"""How much disk, memory and time do so many patients need? From rates that you measured, or those of the pages here.

    python benchmarks/sizing.py [--tokens 2500 10000 40000] [--dim 1024] [--patients-per-second 3] [--tiles-per-second 40]

Rates of a training step are of `benchmarks/training_throughput.py`, those of an extraction with the default encoder of
`benchmarks/extraction.py`. Nothing is measured here: the table is arithmetic, so that an owner of other hardware can
give its rates; `dmml extract --dry-run` tells the hours of your slides.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

PATIENTS = (100, 1_000, 10_000, 100_000)
TOKENS = (2_500, 10_000, 40_000)
MEASURED = 10_000
"""Tokens of a patient at which a rate of training counts; time is taken as proportional to tokens, which model_speed.md
shows from 10,000 on: below that a patient takes longer than its share"""
BYTES_A_NUMBER = 2  # float16
BYTES_BESIDE = 8 + 4 + 8  # of a token: position, parent; and its index of a slide in memory
COPIES = 3  # of a batch of features in memory: read, padded, as 32-bit numbers while it is projected (twice as wide)


class Size(NamedTuple):
    """What a cohort needs."""

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
    """Arithmetic.

    Args:
        patients: Of one slide each.
        tokens: Tiles at 20x; a quarter as many at 10x are added.
        dim: Features of a tile.
        batch: Patients a batch.
        epochs: Of a fit.
        patients_per_second: In training, of `MEASURED` tokens; validation not counted.
        tiles_per_second: In extraction, of both magnifications.
    """
    both = tokens + tokens // 4
    disk = patients * both * (dim * BYTES_A_NUMBER + BYTES_BESIDE) / 2**30
    memory = batch * both * dim * BYTES_A_NUMBER * (COPIES + 1) / 2**30
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
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS, help="of a slide at 20x")
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=30)
    for name, rate in (("--patients-per-second", patients), ("--tiles-per-second", tiles)):
        parser.add_argument(name, type=float, default=rate, help=f"default: as measured here, {rate:.2f}")
    args = parser.parse_args()
    own = vars(args)
    every = own.pop("tokens")
    if min(*every, *own.values()) <= 0:
        parser.error("every number must be above 0")
    print("\n".join(table([size(patients, tokens, **own) for patients in PATIENTS for tokens in every])))


if __name__ == "__main__":
    run()
