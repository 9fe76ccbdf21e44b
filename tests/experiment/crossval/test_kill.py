"""A cross-validation that is killed at any point and run again ends with the same bytes and repeats no finished fit."""

import signal

import pytest
from crossvals import FEW, run, write_config

from dmml.experiment.crossval import run as crossval_run
from dmml.experiment.crossval import summary as crossval_summary
from dmml.training.subspace_module import SubspaceModule

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _interrupts_stay_possible():
    """Restore the handler of SIGINT, which Lightning ignores after an interruption."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


class Clock:
    """Interrupts at the n-th time that anything of interest happens: a training step, a file written, a folder moved."""

    def __init__(self, at):
        self.left = at

    def tick(self):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def wind(monkeypatch, clock):
    step, write = SubspaceModule.training_step, crossval_run.write_table

    def training_step(self, *args):
        clock.tick()
        return step(self, *args)

    def write_table(*args):
        clock.tick()
        write(*args)
        clock.tick()

    def summary_json(*args):
        clock.tick()
        return json(*args)

    json = crossval_summary.write_json
    monkeypatch.setattr(SubspaceModule, "training_step", training_step)
    monkeypatch.setattr(crossval_run, "write_table", write_table)
    monkeypatch.setattr(crossval_summary, "write_json", summary_json)


def test_a_cross_validation_killed_at_any_point_and_resumed_ends_with_the_same_files(cohort, tmp_path):
    config = write_config(tmp_path / "t.yaml", cohort)
    args = ("--config", config, "--models", FEW)
    clock = Clock(0)
    with pytest.MonkeyPatch.context() as patch:
        wind(patch, clock)
        run(*args, "--out", "whole")
    ticks = -clock.left
    assert ticks > 30

    killed, finished = 0, {}
    for at in (1, 7, 2, 12, 4, ticks):
        clock = Clock(at)
        with pytest.MonkeyPatch.context() as patch:
            wind(patch, clock)
            try:
                run(*args, "--out", "killed")
            except KeyboardInterrupt:
                killed += 1
        files = {
            path: path.stat().st_mtime_ns
            for path in (tmp_path / "killed").rglob("done.json")
            if ".part" not in str(path)
        }
        assert finished.items() <= files.items()  # what was finished is not done again
        finished = files
    assert killed >= 4
    run(*args, "--out", "killed")
    for name in ("crossval.json", "oof_predictions.csv", "fold_0/student/inner.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not [path for path in (tmp_path / "killed").rglob(".*")]
