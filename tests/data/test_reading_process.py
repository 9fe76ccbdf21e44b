"""Signals to all processes of a run stop it at a step that is saved, also where other processes read for it."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.utils.data import DataLoader

from dmml.data.reading_process import outlive_signals

RUN = """
import os, signal, sys, time
from importlib import import_module
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch, yaml
torch.set_num_threads(1)
import_module("dmml.cli")
from benchmarks.fit_kills import equal, result, start, wait, write_config

work = Path(sys.argv[2])
config = write_config(work, 12, 8)
section = yaml.safe_load(config.read_text())
section["data"]["init_args"]["num_workers"] = 1
section["trainer"]["callbacks"] += [
    {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"monitor": "val/loss", "patience": 99}}
]
config.write_text(yaml.safe_dump(section))
whole = start(config, work / "whole")
assert wait(whole) == 0
for signum in (signal.SIGTERM, signal.SIGINT):
    run = work / signum.name
    child = start(config, run)
    os.setpgid(child, child)
    while not (run / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.01)
    os.killpg(child, signum)
    begin = time.monotonic()
    ended, seconds = wait(child), time.monotonic() - begin
    resumed = wait(start(config, run, "--resume"))
    print(signum.name, ended, seconds < 20, resumed, equal(result(run), result(work / "whole")))
"""


class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 1000

    def __getitem__(self, i):
        time.sleep(0.05)
        return os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_reading_process_outlives_signals_of_others_and_ends_with_its_loader(signum):
    loader = DataLoader(Slow(), batch_size=None, num_workers=1, worker_init_fn=outlive_signals, persistent_workers=True)
    batches = iter(loader)
    reader = next(batches)
    subprocess.run(["kill", f"-{int(signum)}", str(reader)], check=True)
    assert [next(batches) for _ in range(5)] == [reader] * 5
    begin = time.monotonic()
    batches._workers[0].terminate() if signum == signal.SIGTERM else batches._shutdown_workers()
    batches._workers[0].join(4)
    assert batches._workers[0].exitcode == 0
    assert time.monotonic() - begin < 4
    batches._shutdown_workers()


@pytest.mark.slow
def test_a_signal_to_all_processes_of_a_run_loses_nothing(repository, tmp_path):
    argv = [sys.executable, "-c", RUN, str(repository), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(repository)}
    run = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert run.returncode == 0, run.stderr[-2000:]
    lines = [line for line in run.stdout.splitlines() if line.startswith("SIG")]
    assert lines == ["SIGTERM 143 True 0 True", "SIGINT 130 True 0 True"], run.stderr[-2000:]
