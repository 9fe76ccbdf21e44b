"""Base of every module that is fitted to a cohort: it owns the fitted values, and puts them into its checkpoints."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from dmml.cohort.magnifications import choose_magnifications
from dmml.data.fitting import fit_task
from dmml.errors import InputError
from dmml.networks.checkpoint import class_config
from dmml.networks.fitted_network import FittedNetwork
from dmml.networks.packing import pack
from dmml.training.checkpointing.seen_patients import hash_patients
from dmml.training.logged_module import LoggedModule
from dmml.training.optimisation import adamw, check_replaced, with_scheduler, with_warmup_and_cosine
from dmml.types import Batch, SubspaceOutput

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from dmml.data.fitted_model import FittedModel
    from dmml.data.module import MultimodalDataModule

CLASSES = ("task", "fusion", "expression_encoder", "aggregator", "backbone", "optimizer", "lr_scheduler")
"""Hyper-parameters that are objects or classes; a checkpoint stores their class paths and arguments"""


class FittedModule(FittedNetwork, LoggedModule):
    """Base of teacher, student and baselines: takes dimensions and statistics from the training patients.

    The module holds everything that was fitted on training patients (gene lists and statistics, the task's edges or
    classes, encoder identity, ...) as plain hyper-parameters; the data module reads them when it makes a loader.

    A subclass names a network as its last base class, passes the arguments that it does not state on as keywords
    (`**shared`), sets its own attributes, and ends its constructor with `_finish_init()`.

    Args:
        lr: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        warmup: Share of the steps over which the learning rate rises; afterwards it falls along a cosine.
        optimizer: Class of another optimiser, built as `optimizer(parameters)`; it replaces AdamW together with `lr` and
            `weight_decay`.
        lr_scheduler: Class of another learning-rate schedule, built as `lr_scheduler(optimizer)` and advanced once per
            epoch; it replaces the warm-up and the cosine.
        network: Arguments of the network.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
        **network: Any,
    ):
        super().__init__(**network)
        self.save_hyperparameters(logger=False)  # those of the subclasses' constructors as well
        # Lightning does not see the defaults of the network's constructor, which has ended by now.
        for parameter in inspect.signature(type(self)).parameters.values():
            if parameter.default is not parameter.empty:
                self.hparams.setdefault(parameter.name, parameter.default)
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup
        self._optimizer_class, self._scheduler_class = optimizer, lr_scheduler
        if optimizer is not None:
            self._check_replaced("optimizer", "lr", "weight_decay")
        if lr_scheduler is not None:
            self._check_replaced("lr_scheduler", "warmup")

    def _record_classes(self, **classes: Callable[..., object]) -> None:
        """Let a checkpoint name the default classes that were used where the constructor was given none.

        Signatures have None in place of a default class. jsonargparse would fill in those arguments of the default class
        that the class in a config has, too, with the values of the default class.
        """
        for name, kind in classes.items():
            if self.hparams.get(name) is None:
                self.hparams[name] = kind

    def _check_replaced(self, replacement: str, *names: str) -> None:
        values = {name: getattr(self, name) for name in names}
        parameters = inspect.signature(type(self)).parameters
        check_replaced(replacement, values, {name: parameters[name].default for name in names})

    def _finish_init(self) -> None:
        """End a subclass's constructor: build the network if possible, and make the hyper-parameters plain."""
        self._build_if_possible()
        self._keep_hparams()

    # ---- building, and fitting to the data -----------------------------------------------------------------------

    def _build_if_possible(self) -> None:
        """Build the network and its metrics as soon as possible: in the constructor, or in `setup("fit")`."""
        was_built = self._is_built
        super()._build_if_possible()
        if self._is_built and not was_built:
            self.validation_metrics = self.task.metrics().clone(prefix="val/")

    @property
    def _data_module(self) -> MultimodalDataModule | None:
        """The data module of the current run; None without one, as with plain loaders."""
        data = getattr(self._trainer, "datamodule", None)
        return data if hasattr(data, "train_patients_in_order") else None

    def setup(self, stage: str) -> None:
        """At fit, take missing arguments from the training data; otherwise check that the cohort fits the model."""
        data = self._data_module
        if stage == "fit":
            self.fit_to_data(data)
            self._build_if_possible()
        elif data is not None:
            data.check(cast("FittedModel", self))
        if not self._is_built:
            raise InputError(
                "the model's dimensions are not known: give n_features, genes and the task's classes, fit with a "
                "MultimodalDataModule, or load a checkpoint"
            )
        if stage == "fit":
            self._prepare_fit(data)
        self._keep_hparams()

    def fit_to_data(self, data: MultimodalDataModule | None) -> None:
        """Fill in arguments that were not given from the data, without building the network.

        Args:
            data: The data module after `setup("fit")`; None = nothing is fitted.

        Raises:
            InputError: The data are not usable for a fit.
        """
        if data is None:
            return
        if not self._is_built:
            self.magnifications = choose_magnifications(self.magnifications, data.magnifications)
        self._take_features(data)
        if self.genes is None:
            self._take_genes(data)
        fit_task(self.task, data)
        self.fitted |= data.fitted(self.genes or {})
        self.fitted["patients"] = {part: hash_patients(data.patients(part)) for part in ("train", "val")}

    def _take_features(self, data: MultimodalDataModule) -> None:
        if self.n_features is None:
            self.n_features = data.n_features
        elif data.n_features not in (0, self.n_features):
            raise InputError(
                f"the model reads {self.n_features} features per tile, and {data.features} contains {data.n_features}; use the "
                "encoder that it was trained with, or leave n_features out"
            )

    def _take_genes(self, data: MultimodalDataModule) -> None:
        self.genes = genes_of(data.programs())

    def _prepare_fit(self, data: MultimodalDataModule | None) -> None:
        """Prepare the built network for a fit."""

    def _keep_hparams(self) -> None:
        """Write the fitted values into the hyper-parameters, in a form that `weights_only=True` can load."""
        self.hparams.update(n_features=self.n_features, magnifications=list(self.magnifications))
        self.hparams.update(pack({name: getattr(self, name) for name in self._lists()}))
        self.hparams["task"] = self.task
        for name in CLASSES:
            if name in self.hparams:
                self.hparams[name] = class_config(self.hparams[name])
        self.hparams.setdefault("_class_path", f"{type(self).__module__}.{type(self).__qualname__}")
        self.hparams.setdefault("_instantiator", "lightning.pytorch.cli.instantiate_module")

    def _lists(self) -> tuple[str, ...]:
        """Return the names of the attributes that may be long and are fitted, and that are stored as packed text."""
        return "genes", "fitted"

    # ---- steps -------------------------------------------------------------------------------------------------

    def compute_output(self, batch: Batch) -> SubspaceOutput:
        """Compute the output of a batch, of which a baseline has nothing but logits."""
        raise NotImplementedError

    def validated_logits(self, batch: Batch) -> Tensor:
        """Return the logits (B, C), combined over magnifications."""
        return self.compute_output(batch).logits

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return the predictions that are written to `predictions.csv`, and the output."""
        return self.predict_step(batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return `{"predictions": {column: (B,)}, "outcome": {column: [...]}, "output": SubspaceOutput}`."""
        output = self.compute_output(batch)
        outcome = self.task.decode(batch.target) if batch.target else {}
        return {"predictions": self.task.predictions(output.logits), "outcome": outcome, "output": output}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build AdamW with warm-up and cosine, or what `optimizer` and `lr_scheduler` name instead."""
        optimizer: torch.optim.Optimizer
        if self._optimizer_class is None:
            optimizer = adamw(self, self.lr, self.weight_decay, self._decay_of_parts())
        else:
            optimizer = self._optimizer_class(self.parameters())
        if self._scheduler_class is None:
            return with_warmup_and_cosine(self, optimizer, self.warmup)
        return with_scheduler(optimizer, self._scheduler_class)

    def _decay_of_parts(self) -> dict[str, float]:
        """Return {part of the network: weight decay of AdamW} of the parts that `weight_decay` does not apply to."""
        return {}


def genes_of(programs: dict[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    """Return {subspace: its genes, sorted} of {subspace: {program: genes}}."""
    return {s: sorted({gene for genes in sets.values() for gene in genes}) for s, sets in programs.items()}
