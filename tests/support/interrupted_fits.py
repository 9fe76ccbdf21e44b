"""A small fit that can be killed or sent a signal at any hook, and everything that it leaves."""

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
    """Nothing but the test catches it, as nothing catches SIGKILL."""


class Kill(Callback):
    """Dies, or is sent a signal, at the n-th time that a hook of some name is called."""

    def __init__(self, hook=None, at=0, signum=None):
        self.left, self.signum = at, signum
        if hook:
            setattr(self, hook, self._strike)

    def _strike(self, *args, **kwargs):
        self.left -= 1
        if self.left == 0:
            if self.signum is None:
                raise Killed
            os.kill(os.getpid(), self.signum)


class Noise(Callback):
    """Draws from every generator, so that its state shows in the weights."""

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
    """Everything that a run leaves, to be compared bit by bit."""
    kept = {"metrics": (folder / "metrics.csv").read_text().splitlines()}
    for name in ("best", "last"):
        checkpoint = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        kept[name] = [checkpoint[part] for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks")]
        kept[name].append((checkpoint["epoch"], checkpoint["global_step"]))
    return kept


def differences(a, b, where=""):
    """Places where two nested states are not bit by bit the same; paths of the two folders aside."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    if isinstance(a, dict):
        if set(a) != set(b):
            return [f"{where}: {sorted(map(str, set(a) ^ set(b)))}"]
        keys = [key for key in a if not str(key).endswith(("path", "dirpath", "best_k_models"))]
        return [place for key in keys for place in differences(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, list | tuple):
        pairs = zip(a, b, strict=True)
        return [place for i, (x, y) in enumerate(pairs) for place in differences(x, y, f"{where}.{i}")]
    return [] if a == b else [f"{where}: {a} or {b}"]
