"""A small fit that can be killed or sent a signal at any hook, and everything that it writes."""

from __future__ import annotations

import os
import random

import numpy as np
import torch
from cohorts import data_of
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from dmml.callbacks.coordination import GradientCoordination
from dmml.callbacks.metrics_table import MetricsTable
from dmml.callbacks.resumable import Resumable
from dmml.training.teacher import SubspaceTeacher

EPOCHS = 4


class Killed(BaseException):
    """Stands for SIGKILL: only the test catches it."""


class Kill(Callback):
    """Raises `Killed`, or sends a signal to this process, when a hook is called for the n-th time."""

    def __init__(self, hook=None, at=0, signum=None):
        self.calls_left, self.signum = at, signum
        if hook:
            setattr(self, hook, self._act)

    def _act(self, *args, **kwargs):
        self.calls_left -= 1
        if self.calls_left == 0:
            if self.signum is None:
                raise Killed
            os.kill(os.getpid(), self.signum)


class Noise(Callback):
    """Draws from every generator, so that the weights depend on their states."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        drawn = random.random() + np.random.random() + torch.rand(()).item()  # noqa: NPY002
        batch.bags[10].features += 1e-3 * drawn


def run(cohort, folder, kill=None, resume=False, kind=SubspaceTeacher, epochs=EPOCHS, extra=(), data=None, **more):
    torch.manual_seed(7)
    model = kind(width=16, lr=5e-3)
    callbacks = [
        Noise(),
        GradientCoordination(scope="shared"),
        EarlyStopping("val/loss", patience=EPOCHS),
        ModelCheckpoint(folder / "checkpoints", "best", monitor="val/loss", enable_version_counter=False),
        Resumable(),
        *extra,
        *([kill] if kill else []),
    ]
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=callbacks,
        default_root_dir=folder,
        accelerator="cpu",
        logger=MetricsTable(folder / "metrics.csv"),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **more,
    )
    last = folder / "checkpoints" / "last.ckpt"
    trainer.fit(model, data_of(cohort, **(data or {})), ckpt_path=last if resume else None)
    return trainer


def outcome(folder):
    """Everything that a run writes, to be compared bit by bit."""
    state = {"metrics": (folder / "metrics.csv").read_text().splitlines()}
    for name in ("best", "last"):
        checkpoint = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        state[name] = [checkpoint[part] for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks")]
        state[name].append((checkpoint["epoch"], checkpoint["global_step"]))
    return state


def differences(a, b, where=""):
    """Paths of the values in which two nested states differ by any bit, except for the paths of the two folders."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    if isinstance(a, dict):
        if set(a) != set(b):
            return [f"{where}: {sorted(map(str, set(a) ^ set(b)))}"]
        keys = [key for key in a if not str(key).endswith(("path", "dirpath", "best_k_models"))]
        return [path for key in keys for path in differences(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, list | tuple):
        pairs = zip(a, b, strict=True)
        return [path for i, (x, y) in enumerate(pairs) for path in differences(x, y, f"{where}.{i}")]
    return [] if a == b else [f"{where}: {a} or {b}"]
