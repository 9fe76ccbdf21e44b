"""Baseline networks with which teacher and student are compared, trained on the same batches in the same way."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from dmml.cohort.magnifications import choose_magnifications
from dmml.data.fitting import fit_task
from dmml.errors import InputError
from dmml.nn.baselines import EarlyConcat, GatedABMIL, LateFusion, MeanPool, RNANetwork
from dmml.nn.standardised import set_feature_statistics
from dmml.tasks import Survival, Task
from dmml.training.checkpointing.checkpoint import class_config, hash_patients
from dmml.training.checkpointing.packing import pack, unpack
from dmml.training.logged_module import LoggedModule
from dmml.training.optimisation import adamw_with_cosine
from dmml.types import SUBSPACES, Batch, SubspaceOutput

TISSUE, RNA = {"histology_mean", "histology_abmil"}, {"rna_network"}
NETWORKS = ("histology_mean", "histology_abmil", "rna_network", "early_concat", "late_fusion")


def build_network(
    name: str, n_features: int, n_genes: dict[str, int], n_outputs: int, width: int, magnifications: tuple[int, ...]
) -> nn.Module:
    """Build one of `NETWORKS` so that the comparison is fair: as wide as the model, and regularised like it.

    Args:
        name: One of `NETWORKS`.
        n_features: D; may be 0 for networks that read no tissue.
        n_genes: {subspace: G}; may be empty for networks that read no RNA.
        n_outputs: C.
        width: d.
        magnifications: Magnifications that the network reads.
    """

    def slide() -> GatedABMIL:
        return GatedABMIL(n_features, n_outputs, width, width, magnifications, dropout=0.25)

    def rna() -> RNANetwork:
        return RNANetwork(n_genes, n_outputs, (width, width))

    if name == "histology_mean":
        return MeanPool(n_features, n_outputs, width, magnifications, dropout=0.25)
    if name == "histology_abmil":
        return slide()
    if name == "rna_network":
        return rna()
    if name == "early_concat":
        return EarlyConcat(n_features, n_genes, n_outputs, width, width, magnifications, dropout=0.25)
    return LateFusion(slide(), rna())


class BaselineNetwork(LoggedModule):
    """A baseline network with the task's loss; batches, optimiser and steps are those of the subspace models.

    Args:
        network: One of `NETWORKS`.
        n_features: D of the encoder; None = taken from the data at fit.
        genes: {"tumor": [...], "tme": [...]}; None = taken from the data at fit.
        task: Task that is predicted; None = survival.
        width: d.
        magnifications: As in `SubspaceTeacher`.
        lr: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        warmup: Share of the steps over which the learning rate rises; afterwards it falls along a cosine.
        fitted: Filled at fit and saved in the checkpoint; leave it empty.

    Raises:
        InputError: There is no such network, or the data lack the modality that it reads.
    """

    def __init__(
        self,
        network: str,
        n_features: int | None = None,
        genes: dict | None = None,
        task: Task | None = None,
        width: int = 128,
        magnifications: tuple[int, ...] | list[int] = (10, 20),
        lr: float = 2e-4,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        fitted: dict | None = None,
    ):
        super().__init__()
        if network not in NETWORKS:
            raise InputError(f"network: there is no baseline {network!r}; one of {', '.join(NETWORKS)}")
        task = task or Survival()
        self.save_hyperparameters(logger=False)
        self.kind, self.n_features, self.genes = network, n_features, unpack(genes)
        self.task = copy.deepcopy(task)  # it is fitted here, and the caller's object must not change
        self.width, self.magnifications = width, tuple(sorted(int(m) for m in magnifications))
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup
        self.fitted = unpack(fitted or {})
        self.network: nn.Module | None = None
        self._build_if_known()
        self._keep_hparams()

    def _build_if_known(self) -> None:
        if self.network is not None or None in (self.n_features, self.genes):
            return
        if getattr(self.task, "classes", ()) is None:
            return
        n_genes = {s: len(self.genes.get(s, [])) for s in SUBSPACES}
        if self.kind not in TISSUE and not sum(n_genes.values()):
            raise InputError(f"{self.kind} reads RNA, and the data name none; give data.expression, or leave it out")
        if self.kind not in RNA and not self.n_features:
            raise InputError(f"{self.kind} reads slides, and the data name none; give data.features, or leave it out")
        size = self.n_features, n_genes, self.task.n_outputs, self.width, self.magnifications
        self.network = build_network(self.kind, *size)
        self.validation_metrics = self.task.metrics().clone(prefix="val/")

    def setup(self, stage: str) -> None:
        """At fit, take missing arguments from the training patients; otherwise check that the cohort fits the model."""
        data = None if self._trainer is None else getattr(self._trainer, "datamodule", None)
        if stage == "fit" and data is not None:
            self.fit_to_data(data)
        elif data is not None and hasattr(data, "check"):
            data.check(self)
        self._build_if_known()
        if self.network is not None and stage == "fit":
            set_feature_statistics(self.network, self.fitted.get("feature_statistics") or {})
        if self.network is None:
            raise InputError("the network's dimensions are not known: give n_features, genes and the task's classes")
        self._keep_hparams()

    def fit_to_data(self, data: Any) -> None:
        """Fill in arguments that were not given from the training data, without building the network.

        Args:
            data: A `MultimodalDataModule` after `setup("fit")`.

        Raises:
            InputError: The data are not usable for a fit.
        """
        if self.network is None:
            self.magnifications = choose_magnifications(self.magnifications, data.magnifications)
        if self.n_features is None:
            self.n_features = 0 if self.kind in RNA else data.n_features
        if self.genes is None:
            sets = {} if self.kind in TISSUE else data.programs()
            self.genes = {s: sorted({g for genes in p.values() for g in genes}) for s, p in sets.items()}
        fit_task(self.task, data)
        self.fitted |= data.fitted(self.genes)
        self.fitted["patients"] = {part: hash_patients(data.patients(part)) for part in ("train", "val")}

    def _keep_hparams(self) -> None:
        lists = pack({"genes": self.genes, "fitted": self.fitted})
        size = {"n_features": self.n_features, "magnifications": list(self.magnifications)}
        self.hparams.update(**size, task=class_config(self.task), **lists)
        self.hparams.setdefault("_class_path", f"{type(self).__module__}.{type(self).__qualname__}")
        self.hparams.setdefault("_instantiator", "lightning.pytorch.cli.instantiate_module")

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits (B, C)."""
        return self.network(batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss over observed patients."""
        loss = self.task.loss(self(batch), batch.target).sum() / batch.target["observed"].sum().clamp_min(1)
        self.log_mean("train/loss", loss, len(batch.patient_id), prog_bar=True)
        return loss

    def validated_logits(self, batch: Batch) -> Tensor:
        """Return the logits (B, C) that are validated."""
        return self(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return the predictions that are written to `predictions.csv`."""
        return self.predict_step(batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return `{"predictions": {column: (B,)}, "outcome": {column: [...]}, "output": SubspaceOutput}`.

        The output holds nothing but logits, which are the same for every magnification.
        """
        logits = self(batch).float()
        outcome = self.task.decode(batch.target) if batch.target else {}
        output = SubspaceOutput(logits, dict.fromkeys(self.magnifications, logits), {}, {}, {}, {})
        return {"predictions": self.task.predictions(logits), "outcome": outcome, "output": output}

    def configure_optimizers(self) -> torch.optim.Optimizer | dict[str, Any]:
        """AdamW with warm-up and cosine, as for the subspace models."""
        return adamw_with_cosine(self, self.lr, self.weight_decay, self.warmup)
