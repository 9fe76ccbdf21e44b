"""What an answer loses if only a share of the 10x tiles have their 20x tiles encoded, by how these are chosen.

In each world a teacher and a student are fitted with the defaults, on all tiles. The student then predicts 400 other
patients from all tiles, and from the 20x tiles of a quarter of the 10x tiles: every fourth tile in the order of what it
adds to the answer from 10x alone (as `dmml predict-slide --budget`), the tiles that add most in either direction, or
random ones. Differences of concordance are paired, with intervals by resampling patients.

    python benchmarks/encoding_budget.py [--worlds NAME …] [--seeds N …] [--share 0.25] [--out docs/results]
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import argparse
import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from worlds_data import Setup, WorldData, read_world
from worlds_networks import checkpoint_of, predict_network

from dmml.evaluation.metrics import concordance_index
from dmml.experiment.predict_slide.tile_budget import coarse_scores, every_nth
from dmml.training.student import SubspaceStudent
from dmml.types import Batch

WORLDS = ("shared", "tissue_only", "rare_tissue", "many_tokens")
SEEDS = (100, 101)
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
    "every n-th by contribution": lambda scores, share, generator: every_nth(scores, share),
    "strongest contributions": strongest,
    "random": random_tiles,
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
def risks(model: SubspaceStudent, world: WorldData, share: float, seed: int) -> dict[str, NDArray[np.float64]]:
    """{choice: (n_test,) risk}, and from all tiles under "all"."""
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
    print(f"  median of {np.median(n_tokens):.0f} tokens at {COARSE}x", flush=True)
    return {name: np.array([risk[patient] for patient in world.test]) for name, risk in by_choice.items()}


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
    print(f"{name}, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        world = read_world(name, PATIENTS, seed, SETUP, Path(folder))
        for network in ("teacher", "student"):
            predict_network(network, world, seed, SETUP, Path(folder) / "checkpoints")
        path = checkpoint_of("student", Path(folder) / "checkpoints")
        model = SubspaceStudent.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
        predicted = risks(model, world, share, seed)
        time, event = (world.truth[column].to_numpy(float) for column in ("time", "event"))
    row: dict = {"world": name, "seed": seed, "share": share}
    row["all"] = concordance_index(time, event, predicted["all"])
    for choice in CHOICES:

        def metric(rows: NDArray, risk: NDArray) -> float:
            return concordance_index(time[rows], event[rows], risk)

        row[choice] = {"predicted": predicted[choice].tolist()}
    row["predicted"], row["time"], row["event"] = predicted["all"].tolist(), time.tolist(), event.tolist()
    print(
        {c: round(concordance_index(time, event, np.array(row[c]["predicted"])) - row["all"], 4) for c in CHOICES},
        round(row["all"], 3),
        flush=True,
    )
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--share", type=float, default=0.25)
    args = parser.parse_args()
    for w in args.worlds:
        for s in args.seeds:
            measure(w, s, args.share)
