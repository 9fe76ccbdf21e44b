"""A run that was killed or stopped at any point and then resumed is identical to an uninterrupted run."""

from __future__ import annotations

import random
import signal

import pytest
import torch
from interrupted_fits import EPOCHS, Kill, Killed, differences, outcome, run
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, StochasticWeightAveraging

from dmml.callbacks.atomic_checkpoint import AtomicCheckpointIO
from dmml.callbacks.nan_guard import NanGuard
from dmml.callbacks.stop_signals import TrainingStopped
from dmml.callbacks.weight_average import EMA
from dmml.errors import InputError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(cohort, tmp_path_factory):
    """Everything that an uninterrupted run writes."""
    folder = tmp_path_factory.mktemp("whole")
    trainer = run(cohort, folder)
    assert trainer.current_epoch == EPOCHS
    assert trainer.num_training_batches == 3  # on which the interruptions below rely
    return outcome(folder)


KILLS = [
    ("on_train_batch_end", 5),
    ("on_validation_end", 2),
    ("on_train_epoch_start", 3),
    ("on_train_end", 1),
]


@pytest.mark.parametrize(("hook", "at"), KILLS)
def test_a_killed_run_is_resumed_exactly(cohort, tmp_path, whole, hook, at):
    with pytest.raises(Killed):
        run(cohort, tmp_path, Kill(hook, at))
    run(cohort, tmp_path, resume=True)
    assert differences(outcome(tmp_path), whole) == []


@pytest.mark.parametrize(
    ("hook", "at", "accumulate"),
    [("on_train_batch_start", 2, 1), ("on_train_batch_end", 6, 1), ("on_train_batch_end", 6, 2)],
)
def test_a_run_stopped_by_a_signal_is_resumed_exactly(cohort, tmp_path, whole, hook, at, accumulate):
    """The signal comes within an epoch, at its last batch, or while gradients are accumulated."""
    if accumulate > 1:
        run(cohort, tmp_path / "whole", accumulate_grad_batches=accumulate, data={"batch_size": 4})
        whole = outcome(tmp_path / "whole")
    more = {"accumulate_grad_batches": accumulate, "data": {"batch_size": 4 if accumulate > 1 else 6}}
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingStopped) as stopped:
        run(cohort, tmp_path, Kill(hook, at, signal.SIGTERM), **more)
    assert stopped.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == handler
    run(cohort, tmp_path, resume=True, **more)
    assert differences(outcome(tmp_path), whole) == []


def test_a_run_ended_by_early_stopping_is_not_continued(cohort, tmp_path):
    class StopAfterTwoEpochs(EarlyStopping):
        """Stops after the second epoch."""

        def _evaluate_stopping_criteria(self, current):
            self.calls = getattr(self, "calls", 0) + 1
            return self.calls == 2, None

    run(cohort, tmp_path, extra=[StopAfterTwoEpochs("val/loss")])
    before = outcome(tmp_path)
    assert before["last"][-1] == (2, 6)
    trainer = run(cohort, tmp_path, resume=True, extra=[StopAfterTwoEpochs("val/loss")])
    assert trainer.global_step == 6
    assert differences(outcome(tmp_path), before) == []


@pytest.mark.parametrize(
    "averaging",
    [
        lambda: EMA(decay=0.7),
        lambda: StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=1, annealing_epochs=1),
    ],
    ids=["EMA", "SWA"],
)
def test_averages_of_weights_are_resumed_exactly(cohort, tmp_path, averaging):
    plain = run(cohort, tmp_path / "plain", epochs=3)
    run(cohort, tmp_path / "whole", epochs=3, extra=[averaging()])
    with pytest.raises(Killed):
        run(cohort, tmp_path / "killed", Kill("on_train_batch_end", 8), epochs=3, extra=[averaging()])
    trainer = run(cohort, tmp_path / "killed", resume=True, epochs=3, extra=[averaging()])
    whole, killed = (outcome(tmp_path / name)["last"][0] for name in ("whole", "killed"))
    assert differences(killed, whole) == []
    name = next(name for name, _ in trainer.lightning_module.named_parameters())
    assert not torch.equal(whole[name], plain.lightning_module.state_dict()[name])


def test_lightnings_ema_which_would_average_nothing_is_refused(cohort, tmp_path):
    with pytest.raises(InputError, match=r"weight_average\.EMA"):
        run(cohort, tmp_path, extra=[EMAWeightAveraging(decay=0.7)])


def test_a_run_cannot_be_resumed_with_other_data(cohort, tmp_path):
    with pytest.raises(Killed):
        run(cohort, tmp_path, Kill("on_train_batch_end", 4))
    with pytest.raises(InputError, match="partition: changed since the run began"):
        run(cohort, tmp_path, resume=True, data={"split": {"folds": 3, "seed": 1}})


def test_an_interrupted_write_leaves_the_old_checkpoint(cohort, tmp_path, monkeypatch):
    run(cohort, tmp_path, epochs=1)
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()

    def half(content, path):
        path.write_bytes(b"half a check")
        raise Killed

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(Killed):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "checkpoints" / "last.ckpt")
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before


def test_temporary_files_of_killed_processes_are_removed_by_the_next_write(tmp_path):
    for name in (".last.17.part.ckpt", ".best.17.part.ckpt"):
        (tmp_path / name).write_bytes(b"half a check")
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".best.17.part.ckpt", "last.ckpt"]


def test_runs_with_one_seed_are_identical_and_epochs_differ(cohort, tmp_path):
    """Two runs with the same seed draw the same numbers; two epochs draw different ones."""
    drawn = []

    class Record(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            drawn.append((torch.rand(()).item(), random.random(), tuple(batch.patient_id)))

    for name in "ab":
        run(cohort, tmp_path / name, epochs=2, extra=[Record()])
    assert drawn[:6] == drawn[6:]
    assert len({row[0] for row in drawn}) == 6
    assert {p for row in drawn[:3] for p in row[2]} == {p for row in drawn[3:6] for p in row[2]}
    assert drawn[0][2] != drawn[3][2]


@pytest.mark.parametrize(("hook", "at"), [("on_validation_start", 2), ("on_validation_batch_end", 2)])
def test_a_signal_does_not_wait_for_a_validation(cohort, tmp_path, whole, hook, at):
    """The epoch's last step and the whole validation are repeated when the run is resumed."""
    validated = []

    class Record(Callback):
        def on_validation_batch_end(self, trainer, *args, **kwargs):
            validated.append(trainer.current_epoch)

    with pytest.raises(TrainingStopped) as stopped:
        run(cohort, tmp_path, Kill(hook, at, signal.SIGUSR1), extra=[Record()])
    assert stopped.value.signum == signal.SIGUSR1
    assert validated == ([0] if hook == "on_validation_start" else [0, 1])
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert (checkpoint["epoch"], checkpoint["global_step"]) == (1, 5)
    run(cohort, tmp_path, resume=True)
    assert differences(outcome(tmp_path), whole) == []


def test_a_run_cannot_be_resumed_with_another_number_of_processes(cohort, tmp_path):
    with pytest.raises(Killed):
        run(cohort, tmp_path, Kill("on_train_batch_end", 4))
    last = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["dmml_processes"] == 1
    torch.save(checkpoint | {"dmml_processes": 2}, last)
    with pytest.raises(InputError, match=r"started with 2 processes and cannot be resumed with 1"):
        run(cohort, tmp_path, resume=True)


def test_lightning_does_not_handle_slurms_signals_itself(cohort, tmp_path, monkeypatch):
    for name in ("PROCID", "LOCALID", "NODEID"):
        monkeypatch.setenv(f"SLURM_{name}", "0")
    handlers = []

    class Record(Callback):
        def on_train_start(self, trainer, module):  # Lightning's handlers are installed, those of `Resumable` not yet
            handlers.append(signal.getsignal(signal.SIGUSR1))

    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # Lightning does not replace an existing handler
    try:
        run(cohort, tmp_path, extra=[Record()], epochs=1, plugins=[SLURMEnvironment(requeue_signal=signal.SIGUSR1)])
    finally:
        signal.signal(signal.SIGUSR1, before or signal.SIG_DFL)
    assert handlers == [signal.SIG_DFL]


def test_a_bad_loss_of_the_step_interrupted_by_a_signal_is_not_saved(cohort, tmp_path):
    class Poison(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.global_step == 4:
                batch.bags[20].features[0, 0, 0] = torch.nan

    with pytest.raises(InputError, match="the loss of this batch is nan"):
        run(cohort, tmp_path, Kill("on_train_batch_end", 5, signal.SIGTERM), extra=[Poison(), NanGuard()])
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values() if value.is_floating_point())
