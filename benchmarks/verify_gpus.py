"""Does training on several devices work on yours? One command, some minutes, no data; exit 1 if a check fails.

    python benchmarks/verify_gpus.py [--accelerator gpu] [--devices 2] [--out FOLDER]

The checks compare one process with several that have the same patients in each step (weights, validation metrics), the
processes with each other (half precision, the Cox likelihood, `torch.compile`), and runs of `dmml fit` on several
devices: started by Lightning, by torchrun and as tasks of SLURM, stopped by a signal and resumed, and uninterrupted.
`--accelerator cpu` uses gloo.
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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from fit_kills import equal, result, write_config

HERE = Path(__file__).resolve().parent
ALONE = ("shared", "accumulated", "lacking", "student", "validated")
"""Cases of `many_processes.py` in which several processes must give the result of one"""
WORDS = {
    "shared": "weights after 3 steps, coordination in the shared scope",
    "accumulated": "the same, classifier scope, gradients accumulated over 2 batches",
    "lacking": "the same, RNA, tissue, outcomes and events missing on one process alone",
    "student": "the same, student with a teacher",
}
SIGNALS = (signal.SIGTERM, signal.SIGINT)
Verdict = tuple[bool, str]


class Bench:
    """Runs the processes of a check, and reads what they have written.

    Args:
        work: Scratch folder.
        accelerator: Lightning's name of the accelerator.
        devices: Number of processes.
    """

    def __init__(self, work: Path, accelerator: str, devices: int):
        self.work, self.accelerator, self.devices = work, accelerator, devices
        self.exact = accelerator == "cpu"  # a GPU sums in another order each time
        self.half = ("bf16-mixed",) if self.exact else ("bf16-mixed", "16-mixed")
        self.errors: dict[str, str] = {}
        config = write_config(work, max(40, 20 * devices), epochs=3)
        section = yaml.safe_load(config.read_text())["data"]["init_args"] | {"max_tokens": None, "pack": 1}
        (work / "data.yaml").write_text(yaml.safe_dump(section))

    def run(self, argv: list[str], seconds: float) -> str:
        """Run a command to its end; return the last line of its stderr, or an empty text if it succeeded."""
        done = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=seconds, check=False)
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        return lines[-1] if done.returncode else ""

    def fit(self, processes: int, *cases: str) -> None:
        """Run cases of `many_processes.py`; if a case fails, its files are missing, and so its check fails."""
        argv = [sys.executable, str(HERE / "many_processes.py"), "--accelerator", self.accelerator]
        argv += ["--processes", str(processes), "--of", str(self.devices), "--cases", ",".join(cases)]
        argv += ["--data", str(self.work / "data.yaml"), "--out", str(self.work)]
        try:
            error = self.run(argv, 1800)  # a compiler may be slow
        except subprocess.TimeoutExpired:
            error = "not finished after half an hour"
        self.errors |= dict.fromkeys((f"{case}_{processes}" for case in cases), error)

    def ends(self, case: str, processes: int) -> list[dict[str, Any]]:
        """Final state of each process of a case."""
        paths = [self.work / f"{case}_{processes}_{rank}.pt" for rank in range(processes)]
        if missing := [path.name for path in paths if not path.is_file()]:
            raise RuntimeError(f"{', '.join(missing)} was not written: {self.errors.get(f'{case}_{processes}', '')}")
        return [torch.load(path, weights_only=True) for path in paths]

    # ---- checks ---------------------------------------------------------------------------------------

    def weights(self, case: str) -> Verdict:
        """Compare the weights of one process with those of several, and these with each other."""
        (one,), several = self.ends(case, 1), self.ends(case, self.devices)
        gap, limit = distance(one["weights"], several[0]["weights"]), 1e-6 if self.exact else 1e-5
        good, description = self.alike(several)
        learned = {patient for end in several for batch in end["learned"] for patient in batch}
        same = learned == {patient for batch in one["learned"] for patient in batch}
        description = f"largest difference from one process {gap:.1e} (at most {limit:.0e}); {description}"
        return good and same and gap <= limit, description + ("" if same else "; NOT the same patients")

    def alike(self, several: list[dict[str, Any]]) -> Verdict:
        """Whether every process has the weights of the first, and all are finite."""
        first = several[0]["weights"]
        good = all(equal(end["weights"], first) for end in several)
        finite = all(bool(value.isfinite().all()) for value in first.values())
        description = "no bit differs among processes" if good else "processes DIFFER"
        return good and finite, description + ("" if finite else "; NOT all weights are numbers")

    def validation(self) -> Verdict:
        """Compare the metrics of a validation shared by several processes, and its patients."""
        (one,), several = self.ends("validated", 1), self.ends("validated", self.devices)
        figures = [{k: v for k, v in end["figures"].items() if k.startswith("val/")} for end in (one, *several)]
        apart = max(abs(figures[0][name] - other[name]) for other in figures for name in figures[0])
        patients = sorted(patient for end in several for batch in end["validated"] for patient in batch)
        once = patients == sorted(patient for batch in one["validated"] for patient in batch)
        once = once and len(set(patients)) == len(patients)
        description = f"{', '.join(sorted(figures[0]))}: largest difference {apart:.1e}; {len(patients)} patients, "
        return apart <= (0.0 if self.exact else 1e-6) and once, description + ("each once" if once else "NOT each once")

    def among(self, case: str) -> Verdict:
        """Check a case that one process cannot run: all processes agree, and values are finite."""
        several = self.ends(case, self.devices)
        loss = several[0]["figures"]["train/loss"]
        good, description = self.alike(several)
        wrapped = [name for name in several[0]["weights"] if "_orig_mod" in name]
        return good and math.isfinite(loss) and not wrapped, f"loss {loss:.4f}; {description}"

    def poisoned(self) -> Verdict:
        """A loss that is NaN on one process ends all processes with one message."""
        first, *others = self.ends("poisoned", self.devices)
        good = first.get("ended") == "InputError" and all(end.get("ended") == "SystemExit" for end in others)
        return good, f"{first.get('ended')}: {first.get('message', '')[:60]}…"

    def command(self, run: Path, by: str = "lightning") -> list[str]:
        """Command of `dmml fit` on all devices."""
        start = [sys.executable]
        if by == "torchrun":
            start += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={self.devices}"]
        argv = ["-m", "dmml", "fit", "--config", str(self.work / "fit.yaml"), "--resume", "--data.batch_size", "2"]
        argv += ["--trainer.default_root_dir", str(run), "--trainer.accelerator", self.accelerator]
        argv += ["--trainer.devices", str(self.devices), "--trainer.strategy", "ddp"]
        # `true` is refused by torch on a GPU, because the default fusion uses grid_sample.
        return [*start, *argv, "--trainer.deterministic", "true" if self.exact else "warn"]

    def whole(self, by: str = "lightning") -> Path:
        """An uninterrupted run on all devices."""
        run = self.work / f"whole_{by}"
        if not run.exists() and (error := self.run(self.command(run, by), 600)):
            raise RuntimeError(error)
        return run

    def torchrun(self) -> Verdict:
        """A run started by torchrun equals one started by Lightning."""
        return self.same_run(self.whole(), self.whole("torchrun"))

    def stopped(self, signum: int) -> Verdict:
        """A run that is stopped in its second epoch and resumed equals the uninterrupted one."""
        whole, run = self.whole(), self.work / f"stopped_{signum}"
        code = self.stop(run, signum)
        if description := self.run(self.command(run), 600):
            return False, f"stopped with exit {code}; resumed: {description}"
        good, description = self.same_run(whole, run)
        return good and code == 128 + signum, f"exit {code}; {description}"

    def slurm(self) -> Verdict:
        """Tasks with SLURM's variables requeue their job once when warned of the time limit, with a fake `scontrol`."""
        whole, run, requests = self.whole(), self.work / "slurm", self.work / "asked"
        program = self.work / "bin" / "scontrol"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\necho "$@" >> {requests}\n')
        program.chmod(0o755)
        tasks = self.tasks(run, program.parent)
        begin = time.monotonic()
        while not (run / "checkpoints" / "last.ckpt").is_file() and tasks[0].poll() is None:
            if time.monotonic() - begin > 300:
                break
            time.sleep(0.01)
        for task in tasks:
            task.send_signal(signal.SIGUSR1)
        codes = ended(tasks)
        request = requests.read_text().strip() if requests.exists() else "nothing"
        again = ended(self.tasks(run, program.parent))
        if any(again):
            return False, f"exits {codes}; scontrol was asked: {request}; resumed: exits {again}"
        good, words = self.same_run(whole, run)
        right = set(codes) == {128 + signal.SIGUSR1} and request == "requeue 4712"
        return good and right, f"exits {codes}; scontrol was asked: {request}; {words}"

    def tasks(self, run: Path, programs: Path) -> list[subprocess.Popen]:
        """Start `dmml fit` as srun would, one process per task."""
        job = {"JOB_ID": 4712, "JOB_NAME": "train", "NTASKS": self.devices, "NTASKS_PER_NODE": self.devices}
        job |= {"NODEID": 0, "NODELIST": "localhost", "NNODES": 1}
        begun = []
        for rank in range(self.devices):
            variables = {
                f"SLURM_{name}": str(value) for name, value in (job | {"PROCID": rank, "LOCALID": rank}).items()
            }
            variables |= {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
            with (self.work / f"slurm_{rank}.log").open("a") as log:
                begun.append(subprocess.Popen(self.command(run), stdout=log, stderr=log, env=environment() | variables))
        return begun

    def stop(self, run: Path, signum: int) -> int:
        """Start a run, send a signal after the first epoch, wait for its end, and return the exit status."""
        with (self.work / f"stopped_{signum}.log").open("w") as log:
            child = subprocess.Popen(
                self.command(run), stdout=log, stderr=log, env=environment(), start_new_session=True
            )
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
            return child.wait(120)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise RuntimeError("hangs at the signal") from None

    def same_run(self, a: Path, b: Path) -> Verdict:
        """Whether two runs have the same result; on a GPU, up to ten times the difference of two uninterrupted runs."""
        before, after = result(a), result(b)
        apart = [part for part in before if not equal(before[part], after[part])]
        if self.exact or not apart:
            return not apart, "no bit differs" if not apart else f"DIFFERS: {', '.join(apart)}"
        gap = distance(before["last.state_dict"], after["last.state_dict"])
        usual = distance(*(result(self.whole(by))["last.state_dict"] for by in ("lightning", "torchrun")))
        limit = max(1e-4, 10 * usual)
        return gap <= limit, f"last weights differ by {gap:.1e} (two undisturbed runs by {usual:.1e})"


def environment() -> dict[str, str]:
    """Environment of a process that uses this checkout and does not belong to a job of a cluster."""
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return outside | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def ended(processes: list[subprocess.Popen]) -> list[int]:
    """Wait for processes and return their exit statuses; those that do not end are killed."""
    try:
        return [process.wait(300) for process in processes]
    except subprocess.TimeoutExpired:
        for process in processes:
            process.kill()
        raise


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Largest difference between two sets of weights."""
    return max(((x.float() - b[name].float()).abs().max().item() for name, x in a.items() if x.numel()), default=0.0)


def verify(accelerator: str, devices: int) -> list[tuple[str, bool, str]]:
    """Run all checks; return (name, whether it holds, description) for each."""
    work = Path(tempfile.mkdtemp(prefix="verify_gpus_"))
    rows = []
    try:
        bench = Bench(work, accelerator, devices)
        bench.fit(1, *ALONE)
        bench.fit(devices, *ALONE, "cox", *bench.half, "poisoned")
        checks: list[tuple[str, Callable[[], Verdict]]] = [
            *((words, partial(bench.weights, case)) for case, words in WORDS.items()),
            ("sharded validation", bench.validation),
            ("Cox likelihood, a process without events", partial(bench.among, "cox")),
            *((precision, partial(bench.among, precision)) for precision in bench.half),
            ("a loss on one process that is no number", bench.poisoned),
            ("`dmml fit` begun by torchrun", bench.torchrun),
            *((f"{signal.Signals(s).name} and `--resume`", partial(bench.stopped, s)) for s in SIGNALS),
            ("as tasks of SLURM: SIGUSR1 and `--resume`", bench.slurm),
            ("`compile: true`", lambda: (bench.fit(devices, "compiled"), bench.among("compiled"))[1]),
        ]
        for name, check in checks:
            try:
                good, description = check()
            except (RuntimeError, OSError, KeyError, subprocess.TimeoutExpired) as error:
                good, description = False, str(error)[:300]
            rows.append((name, good, description))
            print(f"{'holds' if good else 'FAILS'}: {name}: {description}", flush=True)
        return rows
    finally:
        shutil.rmtree(work, ignore_errors=True)


def page(rows: list[tuple[str, bool, str]], accelerator: str, devices: int, minutes: float) -> str:
    """The page of docs/results."""
    name = torch.cuda.get_device_name() if accelerator == "gpu" else f"process on a CPU ({platform.machine()}), gloo"
    lines = [f"| {what} | {'holds' if good else '**fails**'} | {description} |" for what, good, description in rows]
    command = f"python benchmarks/verify_gpus.py --accelerator {accelerator} --devices {devices}"
    held = sum(good for _, good, _ in rows)
    head = f"{devices} × {name}, torch {torch.__version__}, {minutes:.0f} minutes. **{held} of {len(rows)} hold.**"
    return "\n".join(
        ["# Several devices", "", f"`{command}`", "", head, "", "| checked | | |", "|---|---|---|", *lines, ""]
    )


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accelerator", default="gpu", choices=["gpu", "cpu"])
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.devices < 2 or (args.accelerator == "gpu" and torch.cuda.device_count() < args.devices):
        parser.error(f"{torch.cuda.device_count()} GPUs here; at least two devices are needed (or --accelerator cpu)")
    begin = time.monotonic()
    rows = verify(args.accelerator, args.devices)
    text = page(rows, args.accelerator, args.devices, (time.monotonic() - begin) / 60)
    print(f"\n{text}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"several_devices_{args.accelerator}.md").write_text(text)
    sys.exit(not all(good for _, good, _ in rows))


if __name__ == "__main__":
    run()
