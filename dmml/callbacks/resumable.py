"""Writes a checkpoint after every epoch and at a signal, from which a run can be resumed bit for bit."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EMAWeightAveraging, ModelCheckpoint

from dmml.callbacks.atomic_checkpoint import AtomicCheckpointIO
from dmml.callbacks.metrics_table import MetricsTable
from dmml.callbacks.nan_guard import NanGuard
from dmml.callbacks.processes import end_others, gather
from dmml.callbacks.random_state import random_state, seed_all, set_random_state
from dmml.callbacks.stop_signals import StopSignals, TrainingStopped, requeue
from dmml.errors import InputError

_PASSED = ("ready", "started", "processed", "completed")


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
        self._within: dict[str, Any] = {}  # random states and sums, for a checkpoint within an epoch
        self._resumed: dict[str, Any] = {}
        self._before_last: dict[str, Any] | None = None  # the checkpoint before the epoch's last step
        self._validated, self._shortest = 0, 0

    # ---- state -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the run's seed and the state within the epoch."""
        return {"seed": self._seed, "within": self._within}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self._seed, self._resumed = state_dict["seed"], dict(state_dict["within"])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save whether training is to stop, and the number of processes; no other state contains them."""
        checkpoint["dmml_stopping"] = bool(trainer.should_stop)
        checkpoint["dmml_processes"] = trainer.world_size

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume with other data or another number of processes; restore an earlier decision to stop."""
        fitted = checkpoint.get("hyper_parameters", {}).get("fitted") or {}
        before, now = fitted.get("hashes") or {}, (getattr(pl_module, "fitted", None) or {}).get("hashes") or {}
        changed = [name for name in before if before[name] != now.get(name)]
        if trainer.state.fn == "fit" and before and changed:
            raise InputError(
                f"{', '.join(changed)}: changed since the run began, so it cannot be resumed; bring the old data back, "
                "or give --overwrite to begin anew"
            )
        processes = checkpoint.get("dmml_processes", trainer.world_size)
        if trainer.state.fn == "fit" and processes != trainer.world_size:
            raise InputError(
                f"the run was begun by {processes} processes and cannot be resumed by {trainer.world_size}, which would "
                f"share out other batches; start {processes} again (trainer.devices, trainer.num_nodes, or the "
                "launcher's), or give --overwrite to begin anew"
            )
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
        if stage == "fit" and any(type(callback) is EMAWeightAveraging for callback in trainer.callbacks):
            raise InputError(
                "trainer.callbacks: EMAWeightAveraging copies the model before the data has told its size; name "
                "dmml.callbacks.weight_average.EMA, which is the same at the right time"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers, and restore the state of a resumed run."""
        self.signals.install()
        if self._seed is None:
            self._seed = torch.initial_seed() % 2**63
        loop = trainer.fit_loop
        if not loop.is_resuming:
            return
        for logger in trainer.loggers:
            if isinstance(logger, MetricsTable):
                logger.go_on_before(loop.epoch_loop._batches_that_stepped + bool(self._resumed))
        if self._resumed:
            set_random_state(self._resumed["random"][trainer.global_rank])
        else:
            loop.restarting = False  # the checkpoint is between epochs: the next one starts as usual
        # The loader was made, and its workers began to read, before Lightning had restored the progress of the run.
        done = loop.epoch_loop.batch_progress.current.ready if self._resumed else 0
        for loader in loop._combined_loader.flattened:
            if hasattr(loader.sampler, "resume"):
                loader.sampler.resume(loop.epoch_progress.current.processed, done)
        iter(loop._data_fetcher)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the finished epoch, and seed the generators for the next one."""
        if trainer.fit_loop.epoch_loop._batches_that_stepped:
            self._save(trainer)
            self._stop_if_asked(trainer)
        self._resumed, self._before_last = {}, None
        seed_all(f"{self._seed}:{trainer.current_epoch}:{trainer.global_rank}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Restore the epoch's sums as their metrics are logged; stop at a signal unless gradients are accumulating."""
        if self._resumed:
            _add_sums(trainer, self._resumed["sums"][trainer.global_rank])
        loop = trainer.fit_loop
        if loop._should_accumulate() or loop.epoch_loop.batch_progress.is_last_batch:
            return
        if self._is_before_last(trainer, batch_idx):
            self._stand_within(trainer)
            self._before_last = _on_cpu(trainer._checkpoint_connector.dump_checkpoint())
            self._within = {}
        if trainer.world_size > 1 and (batch_idx + 1) % self.every:
            return
        if signum := self.signals.anywhere(trainer):
            for callback in trainer.callbacks:
                if isinstance(callback, NanGuard):
                    callback.look(trainer)  # its check comes a step later, and a bad state would be saved
            self._stand_within(trainer)
            self._save(trainer)
            self._stop(trainer, signum)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before the validation at the end of an epoch, if there is a signal."""
        if self._ends_epoch(trainer):
            self._validated = 0
            self._shortest = min(gather(trainer, sum(trainer.num_val_batches)))
            self._stop_before_last(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop within that validation at a signal; processes exchange signals while all of them have batches."""
        if not self._ends_epoch(trainer):
            return
        self._validated += 1
        if trainer.world_size == 1 or (self._validated % self.every == 0 and self._validated <= self._shortest):
            self._stop_before_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last epoch."""
        self.signals.remove()
        self._before_last = None
        if trainer.fit_loop.epoch_loop._batches_that_stepped:
            self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the signal handlers, and end the other processes, which would wait for one that failed."""
        self.signals.remove()
        self._before_last = None
        if not isinstance(exception, TrainingStopped):  # which all processes raise
            end_others(trainer)

    # ---- writing -----------------------------------------------------------------------------------------------

    def path(self, trainer: Trainer) -> Path:
        """Return the path of `last.ckpt`."""
        return Path(self.folder or Path(trainer.default_root_dir) / "checkpoints") / "last.ckpt"

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:
            return
        for logger in trainer.loggers:
            logger.save()
        progress = trainer.fit_loop.epoch_progress
        kept = [dict(vars(part)) for part in (progress.total, progress.current)]
        if not self._within:  # between two epochs: count the next one as not started
            for part in (progress.total, progress.current):
                vars(part).update(dict.fromkeys(_PASSED, part.processed))
        try:
            trainer.save_checkpoint(self.path(trainer))
        finally:
            for part, values in zip((progress.total, progress.current), kept, strict=True):
                vars(part).update(values)
            self._within = {}

    def _stand_within(self, trainer: Trainer) -> None:
        """Collect the random states and sums of all processes within the epoch."""
        mine = {"random": random_state(), "sums": _sums(trainer)}
        states = gather(trainer, mine)
        self._within = {key: [state[key] for state in states] for key in mine}

    def _is_before_last(self, trainer: Trainer, batch_idx: int) -> bool:
        """Whether one optimiser step of the epoch is left, and a validation follows it."""
        last = trainer.num_training_batches - 1
        if trainer.fast_dev_run or not trainer.enable_validation or trainer.val_check_batch != last + 1:
            return False
        due = trainer.fit_loop.epoch_loop._should_check_val_epoch()
        return due and batch_idx + trainer.accumulate_grad_batches >= last

    def _ends_epoch(self, trainer: Trainer) -> bool:
        return self._before_last is not None and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch

    def _stop_before_last(self, trainer: Trainer) -> None:
        if signum := self.signals.anywhere(trainer):
            for logger in trainer.loggers:
                logger.save()
            trainer.strategy.save_checkpoint(self._before_last, self.path(trainer))
            trainer.strategy.barrier("Resumable")
            self._stop(trainer, signum)

    def _stop_if_asked(self, trainer: Trainer) -> None:
        if signum := self.signals.anywhere(trainer):
            self._stop(trainer, signum)

    def _stop(self, trainer: Trainer, signum: int) -> None:
        if trainer.is_global_zero and (job := requeue(signum)):
            print(f"job {job} was requeued")
        raise TrainingStopped(signum, str(self.path(trainer)))


def _on_cpu(part: Any) -> Any:
    """Return a copy in CPU memory that training does not modify."""
    if isinstance(part, torch.Tensor):
        return part.detach().to("cpu", copy=True)
    if isinstance(part, dict):
        copied = copy(part)  # keeps its type: OrderedDict and other subclasses of dict
        copied.update({key: _on_cpu(value) for key, value in part.items()})
        return copied
    if type(part) in (list, tuple):
        return type(part)(map(_on_cpu, part))
    return part


def _sums(trainer: Trainer) -> dict[str, list[torch.Tensor]]:
    """Return value and weight of every mean that is accumulated over the epoch."""
    results = trainer.fit_loop.epoch_loop._results
    found = {}
    for name, metric in results.items():
        if metric.meta.on_epoch and metric.is_tensor and metric.meta.is_mean_reduction:
            found[name] = [metric.value.detach().cpu().clone(), metric.cumulated_batch_size.detach().cpu().clone()]
    return found


def _add_sums(trainer: Trainer, kept: dict[str, list[torch.Tensor]]) -> None:
    """Add saved sums to the current ones and remove them from `kept`; metrics that are not logged yet stay in it."""
    results = trainer.fit_loop.epoch_loop._results
    for name in [name for name in kept if name in results]:
        metric, (value, weight) = results[name], kept.pop(name)
        metric.value = value.to(metric.value) + metric.value
        metric.cumulated_batch_size = weight.to(metric.value.device) + metric.cumulated_batch_size
