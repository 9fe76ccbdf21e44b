"""What an answer loses if only a share of the 10x tiles have their 20x tiles encoded, by how these are chosen.

In each world a teacher and a student are fitted with the defaults, on all tiles. The student then predicts 400 other
patients from all tiles, and from the 20x tiles of a quarter of the 10x tiles: every fourth tile in the order of what it
adds to the answer from 10x alone (as `dmml predict-slide --budget`), the tiles that add most in either direction, or
random ones. Patients have about eight times as many tiles as in the worlds of `worlds.py`, a tenth of a whole slide.
Differences of concordance are paired, with intervals by resampling patients. With --slide and --checkpoint, the answer
for a slide is timed with and without the budget, in turn.

    python benchmarks/encoding_budget.py [--worlds NAME …] [--seeds N …] [--share 0.25] [--out docs/results]
    python benchmarks/encoding_budget.py --slide LARGE.tif --checkpoint BEST.ckpt --out docs/results
"""

from __future__ import annotations

import os
import sys

if "--slide" not in sys.argv:  # the answer for a slide is timed on all cores
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from worlds_data import SCENES, Scene, Setup, WorldData, read_world
from worlds_networks import checkpoint_of, predict_network

from dmml.evaluation.bootstrap import paired_difference
from dmml.evaluation.metrics import concordance_index
from dmml.experiment.predict_slide.encoding.tile_budget import coarse_scores, every_nth
from dmml.training.student import SubspaceStudent
from dmml.types import Batch

WORLDS = ("shared", "tissue_only", "rare_tissue")
SEEDS = (100, 101)
_CELLS = (16, 20)
"""Minimum and maximum number of 10x grid cells along each side of the tissue"""
PATIENTS = 200
SETUP = Setup()
COARSE, FINE = 10, 20
Choose = Callable[[NDArray[np.float64], float, np.random.Generator], NDArray[np.int64]]


def strongest(scores: NDArray[np.float64], share: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """The tiles that add most in either direction."""
    return np.sort(np.argsort(-np.abs(scores), kind="stable")[: math.ceil(share * len(scores))])


def random_tiles(scores: NDArray[np.float64], share: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """Tiles without regard to the scores."""
    return np.sort(generator.permutation(len(scores))[: math.ceil(share * len(scores))])


CHOICES: dict[str, Choose] = {
    "along the contributions": lambda scores, share, generator: every_nth(scores, share),
    "strongest contributions": strongest,
    "at random": random_tiles,
}


def some_tokens(batch: Batch, rows: dict[int, NDArray[np.bool_]]) -> Batch:
    """Keep some tokens of a batch of one patient; parents are counted anew, and none may lose its parent."""
    bags = {}
    for m, bag in batch.bags.items():
        kept = torch.from_numpy(rows[m])
        bags[m] = replace(
            bag,
            features=bag.features[:, kept],
            position=bag.position[:, kept],
            mask=bag.mask[:, kept],
            slide=bag.slide[:, kept],
        )
    new_row = torch.cumsum(torch.from_numpy(rows[COARSE]), 0) - 1
    return replace(batch, bags=bags, parent=new_row[batch.parent[:, torch.from_numpy(rows[FINE])]])


def in_part(
    model: SubspaceStudent, batch: Batch, choose: Choose, share: float, generator: np.random.Generator
) -> Batch:
    """The batch with the fine tokens of chosen coarse ones, chosen slide by slide."""
    of_slide, parent = batch.bags[COARSE].slide[0].numpy(), batch.parent[0].numpy()
    is_chosen = np.zeros(len(of_slide), bool)
    for slide in np.unique(of_slide):
        of_this = of_slide == slide
        coarse_alone = some_tokens(batch, {COARSE: of_this, FINE: np.zeros(len(parent), bool)})
        rows = np.flatnonzero(of_this)
        is_chosen[rows[choose(coarse_scores(model, coarse_alone), share, generator)]] = True
    return some_tokens(batch, {COARSE: np.ones(len(of_slide), bool), FINE: is_chosen[parent]})


@torch.inference_mode()
def risks(
    model: SubspaceStudent, world: WorldData, share: float, seed: int
) -> tuple[dict[str, NDArray[np.float64]], float]:
    """{choice: (n_test,) risk}, from all tiles under "all"; and the median number of coarse tiles."""
    by_choice: dict[str, dict[str, float]] = {name: {} for name in ("all", *CHOICES)}
    n_tokens = []
    for batch in world.testing.test_dataloader():
        for one in single_patients(batch):
            patient = one.patient_id[0]
            n_tokens.append(one.bags[COARSE].mask.shape[1])
            by_choice["all"][patient] = risk_of(model, one)
            for name, choose in CHOICES.items():
                generator = np.random.default_rng([seed, len(n_tokens)])
                by_choice[name][patient] = risk_of(model, in_part(model, one, choose, share, generator))
    in_order = {name: np.array([risk[patient] for patient in world.test]) for name, risk in by_choice.items()}
    return in_order, float(np.median(n_tokens))


def single_patients(batch: Batch) -> list[Batch]:
    """A batch of each patient alone, without padding."""
    single = []
    for i, patient in enumerate(batch.patient_id):
        real = {m: bag.mask[i].numpy() for m, bag in batch.bags.items()}
        bags = {
            m: replace(bag, **{k: getattr(bag, k)[i : i + 1] for k in ("features", "position", "mask", "slide")})
            for m, bag in batch.bags.items()
        }
        one = replace(
            batch,
            patient_id=[patient],
            bags=bags,
            parent=batch.parent[i : i + 1],
            expression={s: values[i : i + 1] for s, values in batch.expression.items()},
            has_expression=batch.has_expression[i : i + 1],
            target={k: values[i : i + 1] for k, values in batch.target.items()},
        )
        single.append(some_tokens(one, real))
    return single


def risk_of(model: SubspaceStudent, batch: Batch) -> float:
    return float(model.task.predictions(model(batch).logits)["risk"][0])


def measure(name: str, seed: int, share: float) -> dict:
    """Concordance from all tiles, and paired differences of the choices from it."""
    scene = f"{name} with many tiles"
    SCENES[scene] = Scene(name, cells=_CELLS)
    with tempfile.TemporaryDirectory() as folder:
        world = read_world(scene, PATIENTS, seed, SETUP, Path(folder))
        for network in ("teacher", "student"):
            predict_network(network, world, seed, SETUP, Path(folder) / "checkpoints")
        path = checkpoint_of("student", Path(folder) / "checkpoints")
        model = SubspaceStudent.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
        predicted, n_tiles = risks(model, world, share, seed)
        days, event = (world.truth[column].to_numpy(float) for column in ("time", "event"))
    row: dict = {"world": name, "seed": seed, "share": share, "patients": len(days), "tiles_10x": n_tiles}
    row["concordance"] = concordance_index(days, event, predicted["all"])
    row["differences"] = {}
    for choice in CHOICES:
        difference = paired_difference(
            concordance_index, predicted[choice], predicted["all"], days, event, strata=event
        )
        row["differences"][choice] = difference._asdict()
    print(json.dumps(row), flush=True)
    return row


def timed(slide: Path, checkpoint: Path, share: float, rounds: int) -> dict:
    """Seconds from an open model to the features of a slide, with and without the budget, in turn."""
    from functools import partial

    from dmml.experiment.load_model import load_encoder_of, load_model
    from dmml.experiment.predict_slide.encoding.encoded_ahead import encode_case
    from dmml.experiment.predict_slide.encoding.tile_choice import choose_tiles
    from dmml.experiment.predict_slide.input import Case

    model = load_model(checkpoint)
    encoder = load_encoder_of(model)
    case = Case((slide,), slide.parent / "unwritten")
    seconds: dict[str, list[float]] = {"all": [], "budget": []}
    tiles: dict[str, int] = {}
    for _ in range(rounds):
        for name, budget in (("all", None), ("budget", share)):
            choice = choose_tiles(checkpoint, model.module.fitted.get("extraction"), budget=budget)
            start = time.perf_counter()
            encode = partial(encode_case, model=model, encoder=encoder, tiles=choice, stains=None, mpp=None)
            encoded = encode(case, lambda *progress: None)
            seconds[name].append(time.perf_counter() - start)
            tiles[name] = sum(len(bag.features) for bags in encoded.bags.values() for bag in bags.values())
    best = {name: min(values) for name, values in seconds.items()}
    return {"share": share, "tiles": tiles, "seconds": best, "ratio": best["all"] / best["budget"]}


def page(results: dict) -> str:
    """Markdown of the results."""
    lines = [
        "# Encoding the 20x tiles of a share of the 10x tiles",
        "",
        "`python benchmarks/encoding_budget.py --out docs/results`: concordance of the student from all tiles, and the paired "
        "difference if the 20x tiles of a share of the 10x tiles are read, with its 95 % interval over patients. *Along the "
        "contributions* is what `dmml predict-slide --budget` does: tiles at equal distances in the order of what each adds "
        "to the answer from 10x alone.",
        "",
        "| world | seed | patients | 10x tiles a patient | share | all tiles | " + " | ".join(CHOICES) + " |",
        "|---" * (6 + len(CHOICES)) + "|",
    ]
    for row in results.get("rows", []):
        cells = [
            f"{each['estimate']:+.4f} [{each['low']:+.4f}, {each['high']:+.4f}]" for each in row["differences"].values()
        ]
        lines.append(
            f"| {row['world']} | {row['seed']} | {row['patients']} | {row['tiles_10x']:.0f} | {row['share']:g} | "
            f"{row['concordance']:.3f} | " + " | ".join(cells) + " |"
        )
    if speed := results.get("speed"):
        lines += [
            "",
            f"On a slide of {speed['tiles']['all']:,} tiles, laying out, reading and encoding took "
            f"{speed['seconds']['all']:.1f} s for all tiles and {speed['seconds']['budget']:.1f} s for the "
            f"{speed['tiles']['budget']:,} within a budget of {speed['share']:g}: **{speed['ratio']:.2f} times faster** "
            "(default encoder, the fastest of the turns).",
        ]
    return "\n".join([*lines, ""])


def main(argv: list[str] | None = None) -> None:
    """Measure, and write the page after every cell."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), metavar="N")
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--slide", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    kept = args.out / "encoding_budget.json" if args.out else None
    results = json.loads(kept.read_text()) if kept and kept.is_file() else {}
    if args.slide:
        results["speed"] = timed(args.slide, args.checkpoint, args.share, args.rounds)
        _keep(results, kept)
    for world, seed in [] if args.slide else [(world, seed) for world in args.worlds for seed in args.seeds]:
        row = measure(world, seed, args.share)
        others = [each for each in results.get("rows", []) if (each["world"], each["seed"]) != (world, seed)]
        results["rows"] = sorted([*others, row], key=lambda each: (each["world"], each["seed"]))
        _keep(results, kept)
    print(page(results))


def _keep(results: dict, kept: Path | None) -> None:
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(results, indent=1) + "\n")
        kept.with_suffix(".md").write_text(page(results))


if __name__ == "__main__":
    main()
