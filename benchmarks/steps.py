"""One optimisation step as in training, which the benchmarks time and train with."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch import __version__ as lightning_version
from torch import nn

from dmml.callbacks.coordination import GradientCoordination
from dmml.networks.checkpoint_content import FORMAT, FORMAT_KEY
from dmml.tasks import Task
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher
from dmml.types import Batch

Step = Callable[[Batch], float]
"""Takes a step on a batch and returns its loss."""


def subspace_step(model: LightningModule, coordinated: bool = False) -> Step:
    """A step of teacher or student: `training_step`, backward, the real coordination callback if asked, AdamW.

    Without a running Trainer the modules log nothing and warn about it; the warning is silenced.
    """
    warnings.filterwarnings("ignore", message=".*self.log.*")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    coordination, optimizer = GradientCoordination(), model.configure_optimizers()
    model.train()

    def step(batch: Batch) -> float:
        optimizer.zero_grad()
        loss = model.training_step(batch, 0)
        loss.backward()
        if coordinated:
            coordination.on_before_optimizer_step(trainer, model, optimizer)
        optimizer.step()
        return float(loss.detach())

    return step


def network_step(network: nn.Module, task: Task, lr: float = 2e-4, weight_decay: float = 0.01) -> Step:
    """A step of a plain network from `Batch` to logits: the task's loss, backward, AdamW."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    network.train()

    def step(batch: Batch) -> float:
        optimizer.zero_grad()
        loss = task.loss(network(batch), batch.target).mean()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def distilled(build: Callable[[str], SubspaceStudent], teacher: SubspaceTeacher) -> SubspaceStudent:
    """A student whose teacher predicts every batch again; `build(path)` creates it from the teacher's checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "teacher.ckpt")
        checkpoint = {"state_dict": teacher.state_dict(), "hyper_parameters": dict(teacher.hparams)}
        torch.save(checkpoint | {"pytorch-lightning_version": lightning_version, FORMAT_KEY: FORMAT}, path)
        student = build(path)
        student.setup("fit")
    return student
