"""Does training in half precision give the same concordance as in single precision? Teachers on simulated features.

    python benchmarks/precision.py [--patients 200] [--held-out 300] [--seeds 0 1 2] [--out docs/results]

For each seed, one cohort is drawn, and a teacher is fitted in each precision from the same initialisation and tested on
the same held-out patients in the precision of its training. The page gives the difference of their concordance with a
paired bootstrap over patients within seeds.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import argparse
import json
import logging
import platform
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.precision import MixedPrecision

from dmml.callbacks.collection import CollectPredictions
from dmml.callbacks.coordination import GradientCoordination
from dmml.data.module import MultimodalDataModule
from dmml.functional.survival import concordance_index
from dmml.simulate.settings import SimulationSettings
from dmml.simulate.simulation import simulate
from dmml.training.teacher import SubspaceTeacher

SINGLE = "32-true"
HALF = ("bf16-mixed", "16-mixed")


def data_of(folder: Path) -> MultimodalDataModule:
    """Data module of a simulated cohort."""
    return MultimodalDataModule(
        clinical=str(folder / "clinical.csv"),
        outcome={"time": "os_days", "event": "os_event", "unit": "days"},
        expression=str(folder / "expression.parquet"),
        features=str(folder / "features.zarr"),
    )


def fitted(cohort: Path, seed: int, precision: str, epochs: int, device: str) -> tuple[np.ndarray, float]:
    """Time, event and risk of the held-out patients (n, 3), and the seconds of the fit."""
    seed_everything(seed, workers=True, verbose=False)
    plugins: list[Any] = []
    if precision == "16-mixed" and device == "cpu":  # Lightning has a gradient scaler for GPUs alone
        plugins = [MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))]
    with tempfile.TemporaryDirectory() as folder:
        best = ModelCheckpoint(folder, "best", monitor="val/loss")
        collect = CollectPredictions(attention_mib=0)
        trainer = Trainer(
            max_epochs=epochs,
            accelerator=device,
            devices=1,
            precision=None if plugins else precision,
            plugins=plugins or None,
            callbacks=[GradientCoordination(), EarlyStopping("val/loss", patience=12), best, collect],
            gradient_clip_val=1.0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        model, begin = SubspaceTeacher(width=64), time.perf_counter()
        trainer.fit(model, data_of(cohort / "development"))
        seconds = time.perf_counter() - begin
        trainer.test(
            model, data_of(cohort / "held_out"), ckpt_path=best.best_model_path, weights_only=True, verbose=False
        )
    rows = sorted(collect.rows, key=lambda row: row["patient_id"])
    return np.array([[row["time"], row["event"], row["risk"]] for row in rows], dtype=float), seconds


def paired(single: list[np.ndarray], half: list[np.ndarray], draws: int) -> dict[str, float]:
    """Mean over seeds of the difference of concordance (half − single), with a 95 % interval over patients."""
    generator = np.random.default_rng(0)

    def difference(rows: list[np.ndarray]) -> float:
        pairs = zip(single, half, rows, strict=True)
        return float(np.mean([concordance_index(*b[r].T) - concordance_index(*a[r].T) for a, b, r in pairs]))

    sizes = [len(table) for table in single]
    drawn = [difference([generator.integers(n, size=n) for n in sizes]) for _ in range(draws)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"difference": difference([np.arange(n) for n in sizes]), "low": float(low), "high": float(high)}


def measure(
    patients: int, held_out: int, seeds: list[int], epochs: int, draws: int, device: str
) -> list[dict[str, Any]]:
    """One row per precision."""
    tables_of: dict[str, list[np.ndarray]] = {name: [] for name in (SINGLE, *HALF)}
    seconds = dict.fromkeys(tables_of, 0.0)
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            cohort = Path(folder)
            simulate(
                SimulationSettings(
                    out=cohort, patients=patients, held_out=held_out, features_only=True, dim=64, seed=seed
                )
            )
            for name in tables_of:
                table, took = fitted(cohort, seed, name, epochs, device)
                tables_of[name].append(table)
                seconds[name] += took
                print(f"seed {seed}, {name}: concordance {concordance_index(*table.T):.4f}, {took:.0f} s", flush=True)
    rows = []
    for name, tables in tables_of.items():
        concordances = [concordance_index(*table.T) for table in tables]
        row = {
            "precision": name,
            "concordance": float(np.mean(concordances)),
            "by_seed": concordances,
            "seconds": seconds[name],
        }
        rows.append(row if name == SINGLE else row | paired(tables_of[SINGLE], tables, draws))
    return rows


def page(rows: list[dict[str, Any]], args: argparse.Namespace, command: str) -> str:
    """The page of docs/results."""
    lines = [
        "| precision | concordance, mean of the seeds | by seed | difference from 32-bit | 95 % interval | seconds "
        "of a fit |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        difference = (
            f"{row['difference']:+.4f} | {row['low']:+.4f} to {row['high']:+.4f}" if "difference" in row else "– | –"
        )
        seeds = ", ".join(f"{value:.4f}" for value in row["by_seed"])
        seconds = row["seconds"] / len(row["by_seed"])
        lines.append(f"| {row['precision']} | {row['concordance']:.4f} | {seeds} | {difference} | {seconds:.0f} |")
    within = all(-0.02 <= row["low"] and row["high"] <= 0.02 for row in rows if "difference" in row)
    return "\n".join(
        [
            "# Half precision",
            "",
            f"`{command}`",
            "",
            f"Teachers (width 64) with gradient coordination on simulated features: {args.patients} training patients, "
            f"{args.held_out} held-out patients, {len(args.seeds)} seeds, each with a separate cohort and "
            f"initialisation, which the precisions of a seed share. Device: {args.device}. The interval is a "
            "bootstrap over held-out patients with the same draws for both precisions.",
            "",
            *lines,
            "",
            f"Every interval lies {'within' if within else 'not within'} ±0.02. Losses and coordination are computed in "
            "32 bits in every precision (`tests/training/test_precision.py`).",
            "",
        ]
    )


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    rows = measure(args.patients, args.held_out, args.seeds, args.epochs, args.draws, args.device)
    command = f"python benchmarks/precision.py --patients {args.patients} --held-out {args.held_out}"
    text = page(rows, args, command)
    print(text)
    if args.out:
        result = {"command": command, "torch": torch.__version__, "device": args.device, "seeds": args.seeds}
        result |= {"processor": platform.processor(), "epochs": args.epochs, "draws": args.draws, "rows": rows}
        (args.out / "precision.json").write_text(json.dumps(result, indent=1) + "\n")
        (args.out / "precision.md").write_text(text)


if __name__ == "__main__":
    run()
