"""Does all that is claimed of several devices hold on yours? One command, some minutes, no data.

    python benchmarks/verify_gpus.py [--accelerator gpu] [--devices 2] [--out FOLDER]

Compared are one process and several with the same patients in each step (weights, validation figures), the weights of
the processes among each other, fits in half precision and with `torch.compile`, and a `dmml fit` on several devices
that was stopped by a signal and resumed with one that was left alone. `--accelerator cpu` runs it by gloo.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import argparse
import math
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from fit_kills import equal, result, write_config

STEPS = 3
# Drawn differently on every process, and what compares the patients of one process with each other:
OFF = {"expression_dropout": 0.0, "decorrelation_weight": 0.0}
SIGNALS = (signal.SIGTERM, signal.SIGINT)


# ---- in each process -----------------------------------------------------------------------------------------------


def fit(case: str, world: int, accelerator: str, work: Path) -> None:
    """Fit as a case asks, and write what this process ends with to `<work>/<case>_<world>_<rank>.pt`."""
    from lightning.pytorch import Callback, Trainer, seed_everything

    from dmml.callbacks.coordination import GradientCoordination
    from dmml.data.module import MultimodalDataModule
    from dmml.training.teacher import SubspaceTeacher
    from dmml.training.weighting import PatientWeightedLoss

    same = case in ("weights", "validation")

    class Keep(Callback):
        """What a process saw and learned."""

        def __init__(self) -> None:
            self.validated: list[str] = []

        def on_fit_start(self, trainer: Any, module: Any) -> None:
            for part in module.modules():
                if same and isinstance(part, torch.nn.Dropout | torch.nn.AlphaDropout):
                    part.p = 0.0

        def on_validation_batch_start(self, trainer: Any, module: Any, batch: Any, *place: Any) -> None:
            self.validated += batch.patient_id

        def on_train_end(self, trainer: Any, module: Any) -> None:
            figures = {name: value.item() for name, value in trainer.callback_metrics.items()}
            weights = {name: value.detach().cpu() for name, value in module.state_dict().items()}
            kept = {"weights": weights, "figures": figures, "validated": self.validated}
            torch.save(kept, work / f"{case}_{world}_{trainer.global_rank}.pt")

    seed_everything(11, verbose=False)
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    section = yaml.safe_load((work / "fit.yaml").read_text())["data"]["init_args"] | {"max_tokens": None, "pack": 1}
    most = int(os.environ["VERIFY_PROCESSES"])  # a step is of twice so many patients, however many processes share it
    model = SubspaceTeacher(width=16, compile=case == "compile", **(OFF if same else {}))
    if same:  # Adam would make a whole step of a gradient that is nothing but rounding
        rate = 0.05 if case == "weights" else 0.0
        model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=rate)
    trainer = Trainer(
        **({"max_steps": STEPS} if case == "weights" else {"max_epochs": 1}),
        accelerator=accelerator,
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        precision=case if case.endswith("mixed") else "32-true",
        callbacks=[GradientCoordination(scope="shared"), PatientWeightedLoss(), Keep()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=work / case,
    )
    section["batch_size"] = 2 * most // world if case == "weights" else 2
    trainer.fit(model, MultimodalDataModule(**section))


# ---- the checks ----------------------------------------------------------------------------------------------------


class Bench:
    """Runs the processes of a check, and reads what they left.

    Args:
        work: Scratch folder with a cohort and `fit.yaml`.
        accelerator: As Lightning's.
        devices: Processes.
    """

    def __init__(self, work: Path, accelerator: str, devices: int):
        self.work, self.accelerator, self.devices = work, accelerator, devices

    def fit(self, case: str, world: int) -> list[dict[str, Any]]:
        """What each process of a case ended with."""
        given = ["--case", case, "--processes", str(world), "--work", str(self.work)]
        argv = [sys.executable, __file__, "--accelerator", self.accelerator, *given]
        run = subprocess.run(
            argv,
            env=os.environ | {"VERIFY_PROCESSES": str(self.devices)},
            capture_output=True,
            text=True,
            timeout=1800,  # a compiler may be slow
            check=False,
        )
        if run.returncode:
            raise RuntimeError(run.stderr.strip().splitlines()[-1] if run.stderr.strip() else f"exit {run.returncode}")
        paths = [self.work / f"{case}_{world}_{rank}.pt" for rank in range(world)]
        return [torch.load(path, weights_only=True) for path in paths]

    def weights(self) -> tuple[bool, str]:
        """Weights after three steps, of one process and of several, and of these among each other."""
        one, several = self.fit("weights", 1)[0]["weights"], self.fit("weights", self.devices)
        alike = all(equal(end["weights"], several[0]["weights"]) for end in several)
        gap = max((one[name] - value).abs().max().item() for name, value in several[0]["weights"].items())
        limit = 1e-6 if self.accelerator == "cpu" else 1e-5  # a GPU adds up in another order
        told = f"largest difference from one process {gap:.1e} (at most {limit:.0e}); among the processes "
        return alike and gap <= limit, told + ("none" if alike else "SOME")

    def validation(self) -> tuple[bool, str]:
        """Figures of a validation that several processes share, and who was validated."""
        (one,), several = self.fit("validation", 1), self.fit("validation", self.devices)
        figures = [{k: v for k, v in end["figures"].items() if k.startswith("val/")} for end in (one, *several)]
        apart = max(abs(figures[0][name] - other[name]) for other in figures for name in figures[0])
        patients = sorted(patient for end in several for patient in end["validated"])
        once = patients == sorted(one["validated"]) and len(set(patients)) == len(patients)
        limit = 0.0 if self.accelerator == "cpu" else 1e-6
        told = f"{', '.join(sorted(figures[0]))}: largest difference {apart:.1e}; {len(patients)} patients, "
        return apart <= limit and once, told + ("each once" if once else "NOT each once")

    def finite(self, case: str) -> tuple[bool, str]:
        """A fit of one epoch ends with numbers, the same on every process."""
        several = self.fit(case, self.devices)
        alike = all(equal(end["weights"], several[0]["weights"]) for end in several)
        loss = several[0]["figures"]["train/loss"]
        return alike and math.isfinite(loss), f"loss {loss:.4f}; weights {'alike' if alike else 'NOT alike'}"

    def compiled(self) -> tuple[bool, str]:
        """As `finite`; and the names of the weights are those of a model that is not compiled."""
        good, told = self.finite("compile")
        kept = torch.load(self.work / f"compile_{self.devices}_0.pt", weights_only=True)["weights"]
        wrapped = sum("_orig_mod" in name for name in kept)
        return good and not wrapped, f"{told}; {wrapped} wrapped names"

    def command(self, run: Path) -> list[str]:
        """`dmml fit` on all devices."""
        argv = [sys.executable, "-m", "dmml", "fit", "--config", str(self.work / "fit.yaml"), "--resume"]
        argv += ["--trainer.default_root_dir", str(run), "--trainer.accelerator", self.accelerator]
        argv += ["--trainer.devices", str(self.devices), "--trainer.strategy", "ddp", "--data.batch_size", "2"]
        return [*argv, "--trainer.deterministic", "true"]

    def whole(self) -> Path:
        """A run on all devices that nobody disturbs."""
        run = self.work / "whole"
        if not run.exists():
            done = subprocess.run(self.command(run), capture_output=True, text=True, timeout=600, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return run

    def stopped(self, signum: int) -> tuple[bool, str]:
        """A run that is told to stop in its second epoch, and resumed, is the undisturbed one bit for bit."""
        whole, run = self.whole(), self.work / f"stopped_{signum}"
        with (self.work / f"stopped_{signum}.log").open("w") as log:
            child = subprocess.Popen(self.command(run), stdout=log, stderr=log, start_new_session=True)
            begin = time.monotonic()
            while not (run / "checkpoints" / "last.ckpt").is_file() and child.poll() is None:
                if time.monotonic() - begin > 300:
                    os.killpg(child.pid, signal.SIGKILL)
                    raise RuntimeError("no epoch was over after five minutes")
                time.sleep(0.01)
            if signum == signal.SIGINT:
                os.killpg(child.pid, signum)  # Ctrl-C reaches every process of the terminal
            else:
                child.send_signal(signum)  # `kill` reaches the one that was started
            try:
                code = child.wait(120)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                return False, "hangs at the signal"
        again = subprocess.run(self.command(run), capture_output=True, text=True, timeout=600, check=False)
        if again.returncode:
            return False, f"stopped with exit {code}; resumed: {again.stderr.strip().splitlines()[-1]}"
        before, after = result(whole), result(run)
        apart = [part for part in before if not equal(before[part], after[part])]
        good = code == 128 + signum and not apart
        return good, f"exit {code}; resumed, {'no bit differs' if not apart else 'differs: ' + ', '.join(apart)}"


def verify(accelerator: str, devices: int) -> list[tuple[str, bool, str]]:
    """(what was checked, whether it holds, in words)."""
    work = Path(tempfile.mkdtemp(prefix="verify_gpus_"))
    try:
        write_config(work, max(40, 12 * devices), epochs=3)
        bench = Bench(work, accelerator, devices)
        half = ("bf16-mixed",) if accelerator == "cpu" else ("bf16-mixed", "16-mixed")
        checks = [
            (f"weights after {STEPS} steps with coordination", bench.weights),
            ("sharded validation", bench.validation),
            *((precision, lambda name=precision: bench.finite(name)) for precision in half),
            *((f"{signal.Signals(s).name} and `--resume`", lambda signum=s: bench.stopped(signum)) for s in SIGNALS),
            ("`compile: true`", bench.compiled),
        ]
        rows = []
        for name, check in checks:
            try:
                good, told = check()
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                good, told = False, str(error)[:300]
            rows.append((name, good, told))
            print(f"{'holds' if good else 'FAILS'}: {name}: {told}", flush=True)
        return rows
    finally:
        shutil.rmtree(work, ignore_errors=True)


def page(rows: list[tuple[str, bool, str]], accelerator: str, devices: int) -> str:
    """The result page."""
    name = torch.cuda.get_device_name() if accelerator == "gpu" else platform.machine()
    lines = [f"| {what} | {'holds' if good else '**fails**'} | {told} |" for what, good, told in rows]
    command = f"python benchmarks/verify_gpus.py --accelerator {accelerator} --devices {devices}"
    head = ["# Several devices", "", f"`{command}`", "", f"{devices} × {name}, torch {torch.__version__}", ""]
    return "\n".join([*head, "| checked | | |", "|---|---|---|", *lines, ""])


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accelerator", default="gpu", choices=["gpu", "cpu"])
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        fit(args.case, args.processes, args.accelerator, args.work)
        return
    if args.devices < 2 or (args.accelerator == "gpu" and torch.cuda.device_count() < args.devices):
        parser.error(f"{torch.cuda.device_count()} GPUs here; at least two devices are needed (or --accelerator cpu)")
    rows = verify(args.accelerator, args.devices)
    if args.out:
        (args.out / "verify_gpus.md").write_text(page(rows, args.accelerator, args.devices))
    sys.exit(not all(good for _, good, _ in rows))


if __name__ == "__main__":
    run()
