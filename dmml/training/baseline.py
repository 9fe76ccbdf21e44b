"""Baseline networks with which teacher and student are compared, trained on the same batches in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from dmml.errors import InputError
from dmml.nn.baselines.registry import RNA, SLIDES, NetworkSize, find_baseline
from dmml.nn.standardised import set_feature_statistics
from dmml.training.fitted_module import FittedModule
from dmml.types import SUBSPACES, Batch, SubspaceOutput

if TYPE_CHECKING:
    from dmml.data.module import MultimodalDataModule


class BaselineNetwork(FittedModule):
    """A baseline network with the task's loss; batches, optimiser and steps are those of the subspace models.

    Args:
        network: Short name of one of `dmml.nn.baselines.registry.BASELINES`, or the path of a class of your own.
        lr: As in `FittedModule`.
        shared: Arguments of `FittedModule`. `n_features` and `genes` have no effect on a network that does not read
            slides or RNA.

    Raises:
        InputError: There is no such network, or the data lack what it reads.
    """

    network: nn.Module

    def __init__(self, network: str, lr: float = 2e-4, **shared: Any):
        super().__init__(lr=lr, **shared)
        self.network_name, self._baseline = network, find_baseline(network)
        self._finish_init()

    def _build(self) -> None:
        genes, n_features = self.genes or {}, self.n_features or 0
        n_genes = {s: len(genes.get(s, [])) for s in SUBSPACES}
        if RNA in self._baseline.reads and not sum(n_genes.values()):
            raise InputError(
                f"{self.network_name} reads RNA, and the data names none; give data.expression, or leave it out"
            )
        if SLIDES in self._baseline.reads and not n_features:
            raise InputError(
                f"{self.network_name} reads slides, and the data names none; give data.features, or leave it out"
            )
        size = NetworkSize(n_features, n_genes, self.task.n_outputs, self.width, self.magnifications)
        self.network = self._baseline.build(size)

    def _take_features(self, data: MultimodalDataModule) -> None:
        if SLIDES in self._baseline.reads:
            super()._take_features(data)
        elif self.n_features is None:
            self.n_features = 0

    def _take_genes(self, data: MultimodalDataModule) -> None:
        if RNA in self._baseline.reads:
            super()._take_genes(data)
        else:
            self.genes = {}

    def _prepare_fit(self, data: MultimodalDataModule | None) -> None:
        set_feature_statistics(self.network, self.fitted.get("feature_statistics") or {})

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits (B, C)."""
        return self.network(batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean loss over observed patients."""
        loss = self.task.loss(self(batch), batch.target).sum() / batch.target["observed"].sum().clamp_min(1)
        self.log_mean("train/loss", loss, len(batch.patient_id), prog_bar=True)
        return loss

    def compute_output(self, batch: Batch) -> SubspaceOutput:
        """Return an output that holds nothing but logits, which are the same for every magnification."""
        logits = self(batch).float()
        return SubspaceOutput(logits, dict.fromkeys(self.magnifications, logits), {}, {}, {}, {})
