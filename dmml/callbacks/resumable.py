"""Writes a checkpoint after every epoch and at a signal, from which a run can be resumed bit for bit."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypedDict

import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.utilities.types import STEP_OUTPUT

from dmml.callbacks import fit_state
from dmml.callbacks.atomic_checkpoint import AtomicCheckpointIO
from dmml.callbacks.fit_state import Sums
from dmml.callbacks.metrics_table import MetricsTable
from dmml.callbacks.nan_guard import NanGuard
from dmml.callbacks.processes import end_others, gather
from dmml.callbacks.random_state import RandomState, random_state, seed_all, set_random_state
from dmml.callbacks.stop_signals import StopSignals, TrainingStopped, requeue
from dmml.errors import InputError
from dmml.types import Batch

_logger = logging.getLogger(__name__)


class _EpochState(TypedDict, total=False):
    """State within an epoch, one entry per process; {} between two epochs."""

    random: list[RandomState]
    sums: list[Sums]


class Resumable(Checkpoint):
    """Writes `last.ckpt` after each epoch and when a signal stops the run, and makes a resumed run identical.

    The random generators of every process are seeded again at the start of each epoch, from the run's seed, the epoch
    and the rank. The order of the patients also follows from the epoch (`dmml.data.samplers`). A run that is resumed at
    an epoch is therefore identical to an uninterrupted one.

    At a signal (SIGTERM, Ctrl-C, SIGUSR1, SIGUSR2) the current step is finished, the state of the generators and the
    sums of the epoch's metrics are saved with the checkpoint, and `TrainingStopped` is raised. The resumed run skips
    the batches that the epoch has already had. A signal in the validation at the end of an epoch stops the run without
    waiting for the validation to finish: the state before the epoch's last optimiser step is saved, and the resumed run
    repeats that step and the validation.

    Args:
        folder: Folder of `last.ckpt`; None = `<default_root_dir>/checkpoints`.
        every: With several processes, the number of batches between two exchanges of signals, each of which costs a
            round trip.
    """

    def __init__(self, folder: str | None = None, every: int = 10):
        if every < 1:
            raise ValueError(f"every must be at least 1; got {every}")
        self.folder, self.every = folder, every
        self.signals = StopSignals()
        self._seed: int | None = None
        self._epoch_state: _EpochState = {}  # to be saved with a checkpoint within an epoch
        self._resumed_state: _EpochState = {}
        self._before_last_step: dict[str, Any] | None = None  # the checkpoint before the epoch's last step
        self._n_validated, self._min_val_batches = 0, 0

    # ---- state -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the run's seed and the state within the epoch."""
        return {"seed": self._seed, "epoch_state": self._epoch_state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self._seed, self._resumed_state = state_dict["seed"], state_dict["epoch_state"].copy()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save whether training is to stop, and the number of processes; no other state contains them."""
        checkpoint["dmml_stopping"] = bool(trainer.should_stop)
        checkpoint["dmml_processes"] = trainer.world_size

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume with other data or another number of processes; restore an earlier decision to stop."""
        if trainer.state.fn == "fit":
            _check_same_data(pl_module, checkpoint)
            _check_same_processes(trainer, checkpoint)
        trainer.should_stop = trainer.should_stop or bool(checkpoint.get("dmml_stopping"))
        for callback in trainer.checkpoint_callbacks:
            # Lightning saves this score but does not load it, and later epochs only set it if they are better.
            state = (checkpoint.get("callbacks") or {}).get(callback.state_key)
            if trainer.state.fn == "fit" and isinstance(callback, ModelCheckpoint) and state:
                callback.current_score = state.get("current_score")

    # ---- the course of a run -----------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make all callbacks write checkpoints atomically, and keep Lightning from writing one at a signal."""
        environment = trainer._accelerator_connector.cluster_environment
        if stage == "fit" and isinstance(environment, SLURMEnvironment):
            environment.auto_requeue = False  # a fit without ckpt_path would resume from its hpc_ckpt_*.ckpt
        if stage == "fit" and type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        if stage == "fit" and any(type(callback) is EMAWeightAveraging for callback in fit_state.callbacks_of(trainer)):
            raise InputError(
                "trainer.callbacks: EMAWeightAveraging copies the model before its size is known from the data; use "
                "dmml.callbacks.weight_average.EMA instead, which copies it later"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers, and restore the state of a resumed run."""
        self.signals.install()
        if self._seed is None:
            self._seed = torch.initial_seed() % 2**63
        if not trainer.fit_loop.is_resuming:
            return
        is_within_epoch = bool(self._resumed_state)
        for logger in trainer.loggers:
            if isinstance(logger, MetricsTable):
                logger.load_rows_before(trainer.fit_loop.epoch_loop._batches_that_stepped + is_within_epoch)
        if is_within_epoch:
            set_random_state(self._resumed_state["random"][trainer.global_rank])
        fit_state.skip_finished(trainer, is_within_epoch)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the finished epoch, and seed the generators for the next one."""
        if fit_state.has_stepped(trainer):
            self._save(trainer)
            self._stop_at_signal(trainer)
        self._resumed_state, self._before_last_step = {}, None
        seed_all(f"{self._seed}:{trainer.current_epoch}:{trainer.global_rank}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Restore the epoch's sums as their metrics are logged; stop at a signal unless gradients are accumulating."""
        if self._resumed_state:
            fit_state.add_epoch_sums(trainer, self._resumed_state["sums"][trainer.global_rank])
        loop = trainer.fit_loop
        if loop._should_accumulate() or loop.epoch_loop.batch_progress.is_last_batch:
            return
        if fit_state.is_one_step_before_validation(trainer, batch_idx):
            self._collect_epoch_state(trainer)
            self._before_last_step = fit_state.checkpoint_in_memory(trainer)
            self._epoch_state = {}
        if trainer.world_size > 1 and (batch_idx + 1) % self.every:
            return
        if signum := self.signals.on_any_process(trainer):
            for callback in fit_state.callbacks_of(trainer):
                if isinstance(callback, NanGuard):
                    callback.check_last_loss(trainer)  # its check comes a step later, and a bad state would be saved
            self._collect_epoch_state(trainer)
            self._save(trainer)
            self._stop(trainer, signum)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before the validation at the end of an epoch, if there is a signal."""
        if self._ends_epoch(trainer):
            self._n_validated = 0
            self._min_val_batches = int(min(gather(trainer, sum(trainer.num_val_batches))))
            self._stop_before_last_step(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop within that validation at a signal; processes exchange signals while all of them have batches."""
        if not self._ends_epoch(trainer):
            return
        self._n_validated += 1
        all_have_batches = self._n_validated <= self._min_val_batches
        if trainer.world_size == 1 or (self._n_validated % self.every == 0 and all_have_batches):
            self._stop_before_last_step(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last epoch."""
        self.signals.remove()
        self._before_last_step = None
        if fit_state.has_stepped(trainer):
            self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the signal handlers, and end the other processes, which would wait for one that failed."""
        self.signals.remove()
        self._before_last_step = None
        if not isinstance(exception, TrainingStopped):  # which all processes raise
            end_others(trainer)

    # ---- writing -----------------------------------------------------------------------------------------------

    def path(self, trainer: Trainer) -> Path:
        """Return the path of `last.ckpt`."""
        return Path(self.folder or Path(trainer.default_root_dir) / "checkpoints") / "last.ckpt"

    def _save(self, trainer: Trainer) -> None:
        if fit_state.is_trial(trainer):
            return
        for logger in trainer.loggers:
            logger.save()
        try:
            with nullcontext() if self._epoch_state else fit_state.next_epoch_not_started(trainer):
                trainer.save_checkpoint(self.path(trainer))
        finally:
            self._epoch_state = {}

    def _collect_epoch_state(self, trainer: Trainer) -> None:
        """Collect the random states and sums of all processes within the epoch."""
        states = gather(trainer, (random_state(), fit_state.epoch_sums(trainer)))
        self._epoch_state = {"random": [random for random, _ in states], "sums": [sums for _, sums in states]}

    def _ends_epoch(self, trainer: Trainer) -> bool:
        return self._before_last_step is not None and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch

    def _stop_before_last_step(self, trainer: Trainer) -> None:
        """Save the state before the epoch's last step and stop, if there is a signal."""
        signum = self.signals.on_any_process(trainer)
        if signum and self._before_last_step is not None:
            for logger in trainer.loggers:
                logger.save()
            trainer.strategy.save_checkpoint(self._before_last_step, self.path(trainer))
            trainer.strategy.barrier("Resumable")
            self._stop(trainer, signum)

    def _stop_at_signal(self, trainer: Trainer) -> None:
        if signum := self.signals.on_any_process(trainer):
            self._stop(trainer, signum)

    def _stop(self, trainer: Trainer, signum: int) -> None:
        if trainer.is_global_zero and (job := requeue(signum)):
            _logger.info("job %s was requeued", job)
        raise TrainingStopped(signum, str(self.path(trainer)))


def _check_same_data(module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Refuse to resume with other data than the run began with."""
    fitted = checkpoint.get("hyper_parameters", {}).get("fitted") or {}
    before, now = fitted.get("hashes") or {}, (getattr(module, "fitted", None) or {}).get("hashes") or {}
    changed = [name for name in before if before[name] != now.get(name)]
    if changed:
        raise InputError(
            f"{', '.join(changed)}: changed since the run began, so it cannot be resumed; restore the old data, or give "
            "--overwrite to start again"
        )


def _check_same_processes(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Refuse to resume with another number of processes than the run began with."""
    processes = checkpoint.get("dmml_processes", trainer.world_size)
    if processes != trainer.world_size:
        raise InputError(
            f"the run was started with {processes} processes and cannot be resumed with {trainer.world_size}, because the "
            f"batches would be distributed differently; start {processes} again (trainer.devices, trainer.num_nodes, or "
            "the launcher's option), or give --overwrite to start again"
        )
