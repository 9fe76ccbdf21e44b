"""Does training wait for data, does its memory grow, and what does packing save?

    python benchmarks/training_throughput.py [--patients 200] [--tokens 10000] [--workers 1] [--out docs/results]

Writes patients with `tokens` tiles at 20x and a quarter as many at 10x to a store, trains a teacher for some epochs, and
reports the fraction of time that the loop waits for a batch, peak memory over time, and the padding of batches with and
without packing.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import argparse
import contextlib
import json
import tempfile
import threading
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.profilers import SimpleProfiler
from process_memory import kib

from dmml.data.collate import Collate
from dmml.data.data_config import Loading
from dmml.data.dataset import PatientReader
from dmml.data.loaders import make_loader
from dmml.data.samplers import PatientBatches
from dmml.store import FeatureStore, SlideFeatures
from dmml.tasks import Survival
from dmml.training.teacher import SubspaceTeacher

GENES = {"tumor": [f"T{i}" for i in range(200)], "tme": [f"E{i}" for i in range(200)]}


BLOCK = 25
"""Number of patients for which one peak is reported"""


class Watch(Callback):
    """Measures the time in and between steps, and the peak memory of every `BLOCK` patients.

    A thread samples memory every 50 ms, about ten times per step, so that memory freed within a step is seen, too.
    Mapped files do not count, since the system takes their pages back when it needs them.
    """

    def __init__(self) -> None:
        self.between, self.worked, self._then = 0.0, 0.0, None
        self.peaks: list[float] = []
        self.readers = 0.0
        self._seen, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._sample_memory, daemon=True)

    def _sample_memory(self) -> None:
        n_samples = 0
        while not self._over.wait(0.05):
            if not self._seen:
                continue  # no reading process yet
            block = (self._seen - 1) // BLOCK
            self.peaks += [0.0] * (block + 1 - len(self.peaks))
            self.peaks[block] = max(self.peaks[block], kib("RssAnon", "RssShmem") / 1024)
            n_samples += 1
            if n_samples % 20 == 0:
                children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
                with contextlib.suppress(OSError, KeyError):  # the reading process has ended meanwhile
                    total = sum(kib("Pss_Anon", file=f"{child}/smaps_rollup") for child in children)
                    self.readers = max(self.readers, total / 1024)

    def on_train_epoch_start(self, trainer: Trainer, module: Any) -> None:
        """Start the epoch's measurements."""
        self._then = None  # the first batch of an epoch always takes a wait
        if not self._thread.is_alive():
            self._thread.start()

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """End the wait for a batch."""
        now = time.perf_counter()
        if self._then is not None:
            self.between += now - self._then
        self._start = now
        self._seen += len(batch.patient_id)

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Start the wait for the next batch."""
        self._then = time.perf_counter()
        self.worked += self._then - self._start

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        """Stop sampling memory."""
        self._over.set()
        self._thread.join()


def write_store(folder: Path, patients: int, tokens: int, dim: int) -> FeatureStore:
    """Write one slide per patient: tiles on a nested grid with random features."""
    generator = np.random.default_rng(0)
    store = FeatureStore.create(folder / "f.zarr", {"name": "random", "dim": dim}, {10: 1.0, 20: 0.5})
    block = generator.standard_normal((tokens, dim)).astype(np.float16)
    for i in range(patients):
        side = int((tokens // 4) ** 0.5) + 1
        parent = np.repeat(np.arange(tokens // 4), 4).astype(np.int32)
        at = np.stack([parent % side, parent // side], 1).astype(np.float32) * 224
        coarse = SlideFeatures(np.roll(block, i, 0)[: tokens // 4], at[::4])
        store.write(f"P{i}", {10: coarse, 20: SlideFeatures(np.roll(block, i, 1)[: len(parent)], at, parent)}, {})
    return store


def measure(patients: int, tokens: int, dim: int, workers: int, epochs: int) -> dict[str, Any]:
    """Train and measure."""
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder), patients, tokens, dim)
        names = [f"P{i}" for i in range(patients)]
        reader = PatientReader(store, {name: [name] for name in names}, (10, 20), cache_gib=0)
        all_true = torch.ones(patients, dtype=torch.bool)
        target = {
            "time": torch.rand(patients) * 2000 + 1,
            "event": (torch.rand(patients) < 0.5).float(),
            "observed": all_true,
        }
        expression = {s: torch.randn(patients, len(genes)) for s, genes in GENES.items()}
        collate = Collate((10, 20), names, expression, all_true, target)
        place = types.SimpleNamespace(global_rank=0, world_size=1)
        loading = Loading(batch_size=1, num_workers=workers)
        loader = make_loader(loading, reader, names, collate, place, training=True)
        watch, profiler = Watch(), SimpleProfiler()
        model = SubspaceTeacher(n_features=dim, genes=GENES, task=Survival(edges=[365.0, 730.0, 1460.0], end=3000.0))
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="auto",
            devices=1,
            callbacks=[watch],
            profiler=profiler,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, loader)
    total = watch.between + watch.worked
    fetched = profiler.recorded_durations["[_TrainingEpochLoop].train_dataloader_next"]
    first = [len(loader) * epoch for epoch in range(epochs)]  # the first batch of each epoch, which always takes a wait
    return {
        "waiting": sum(seconds for i, seconds in enumerate(fetched) if i not in first) / total,
        "between_steps": watch.between / total,
        "patients_per_second": patients * epochs / total,
        "peak_mib": [round(value) for value in watch.peaks],
        "block": BLOCK,
        "readers_mib": round(watch.readers),
    }


def padding() -> list[tuple[str, float, int]]:
    """(way, fraction of padding, number of batches) for 2,000 patients with realistic numbers of tokens."""
    fine = np.random.default_rng(0).lognormal(8.8, 0.8, 2000).astype(int) + 16  # median 6,600, a tenth above 18,000
    sizes = np.stack([fine // 4, fine], 1)
    ways = {
        "batches of 8": {"pack": 1},
        "batches of 8, `pack: 8`": {"pack": 8},
        "batches of 8, `pack: 32`": {"pack": 32},
        "`token_budget: 100000`": {"pack": 1, "token_budget": 100_000},
        "`token_budget: 100000`, `pack: 32`": {"pack": 32, "token_budget": 100_000},
    }
    samplers = {way: PatientBatches(sizes, 8, 0, True, **options) for way, options in ways.items()}
    return [(way, sampler.padding(), len(sampler)) for way, sampler in samplers.items()]


def page(record: dict[str, Any], rows: list[tuple[str, float, int]], args: argparse.Namespace) -> str:
    """The page of docs/results."""
    command = f"python benchmarks/training_throughput.py --patients {args.patients} --tokens {args.tokens} --workers {args.workers}"
    peaks = record["peak_mib"]
    later = peaks[1:] or peaks  # the first block includes the optimiser's first step
    lines = [f"| {way} | {share:.0%} | {batches:,} |" for way, share, batches in rows]
    return "\n".join(
        [
            "# Training throughput",
            "",
            f"`{command}`",
            "",
            f"{args.patients} patients of {args.tokens:,} tiles at 20x and {args.tokens // 4:,} at 10x ({args.dim} "
            "features), one a "
            f"batch, {args.workers} reading process(es), width 128: the loop waits for a batch "
            f"{record['waiting']:.1%} of the time "
            f"(all that passes between two steps, including Lightning's work, is {record['between_steps']:.1%}) and "
            f"does {record['patients_per_second']:.2f} patients a second.",
            "",
            f"Peak memory of the process without mapped files, sampled every 50 ms, for every {record['block']} "
            "patients of "
            f"{args.epochs} epochs: {', '.join(f'{value:,}' for value in peaks)} MiB. From the second value on it "
            "varies by "
            f"{(max(later) - min(later)) / min(later):.1%}. The reading process has {record['readers_mib']:,} MiB at "
            "most.",
            "",
            "Padding of an epoch's batches, 2,000 patients with 40 to about 100,000 tiles:",
            "",
            "| way | padding | batches |",
            "|---|---|---|",
            *lines,
            "",
        ]
    )


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    record = measure(args.patients, args.tokens, args.dim, args.workers, args.epochs)
    rows = padding()
    text = page(record, rows, args)
    print(text)
    if args.out:
        ways = [{"way": way, "padding": share, "batches": batches} for way, share, batches in rows]
        options = {name: getattr(args, name) for name in ("patients", "tokens", "dim", "workers", "epochs")}
        result = {"torch": torch.__version__, **options, **record, "padding": ways}
        (args.out / "training_throughput.json").write_text(json.dumps(result, indent=1) + "\n")
        (args.out / "training_throughput.md").write_text(text)


if __name__ == "__main__":
    run()
