"""Base of modules with a deep part on a backbone: fits and saves the backbone, and chooses the deep part's share."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from dmml.backbone.backbone import Backbone, BackboneLayout, BackboneOutput
from dmml.backbone.fit_backbone import CrossFitted, fit_backbone
from dmml.backbone.slide_statistics import SlideStatistics
from dmml.networks.backbone_network import BackboneNetwork
from dmml.networks.packing import unpack
from dmml.networks.parts.programs import ProgramScores
from dmml.training.backbone_data import patients_of_fit, training_patients
from dmml.training.cross_fitted_lookup import CrossFittedLookup
from dmml.training.deep_share import SHARES, ShareScores, ShareSums
from dmml.training.fitted_module import FittedModule
from dmml.types import Bag, Batch, SubspaceOutput

if TYPE_CHECKING:
    from dmml.data.module import MultimodalDataModule


class BackboneModule(FittedModule, BackboneNetwork):
    """Module with a deep part on a backbone.

    The deep part is trained on what the backbone leaves unexplained: during a fit, the backbone's output for the
    patients of its fit is replaced by its cross-fitted predictions. After each epoch the inner validation
    patients decide by which share the deep part is multiplied, separately for the logits and for the programs
    (`ShareScores.choose`). The shares are saved with the weights of that epoch.

    Args:
        shared: Arguments of `FittedModule` and of the network.
    """

    scores: ProgramScores

    def __init__(self, **shared: Any):
        super().__init__(**shared)
        self._cross_fitted: CrossFittedLookup | None = None  # for the patients of the current fit; never saved
        self._share_sums: dict[str, ShareSums] = {}
        self._validated_logits: list[tuple[Tensor, dict[str, Tensor]]] = []

    @property
    def _is_fitting(self) -> bool:
        # `state.fn` is still "fit" after a fit has ended, so the status is checked as well.
        state = None if self._trainer is None else self.trainer.state
        return self.has_backbone and state is not None and state.fn == "fit" and state.status == "running"

    def _reads_rna(self) -> bool:
        """Whether the backbone's model of the outcome reads RNA."""
        raise NotImplementedError

    def _start_backbone(self, data: MultimodalDataModule | None) -> None:
        """Fit the backbone to the patients of the data module; plain loaders name no patients."""
        if self.backbone is None:
            return
        if data is not None:
            self.fit_backbone(data)
        elif not self.has_backbone:
            rank_zero_warn(
                "this fit has no MultimodalDataModule to whose patients a backbone could be fitted, so the model learns "
                "without a backbone; backbone=None removes it and this message"
            )

    def fit_backbone(self, data: MultimodalDataModule) -> None:
        """Fit the backbone to the training and inner validation patients of a data module.

        Args:
            data: The data module after `setup("fit")`.
        """
        scores = self.scores if any(self.scores.sizes.values()) and self._predicts_programs() else None
        backbone = self._require_backbone()
        self._cross_fit(data, backbone, self._reads_rna(), scores)
        self.fitted["backbone"] = backbone.layout

    def _cross_fit(
        self, data: MultimodalDataModule, backbone: Backbone, with_rna: bool, scores: ProgramScores | None = None
    ) -> None:
        """Fit a backbone, and keep each patient's cross-fitted prediction until the fit ends."""
        patients = training_patients(
            data, self.task, self.fitted, self.magnifications, backbone.max_tokens, scores, with_rna
        )
        with torch.no_grad():
            cross_fitted = fit_backbone(backbone, patients, self.task)
        self.use_cross_fitted(patients_of_fit(data), cross_fitted)

    def use_cross_fitted(self, patients: Sequence[str], cross_fitted: CrossFitted) -> None:
        """Use cross-fitted predictions instead of the backbone's output for these patients, until `on_fit_end`.

        A fit calls this itself for its training and inner validation patients.

        Args:
            patients: Patients to whom the backbone was fitted, in the order of the predictions.
            cross_fitted: Return value of `dmml.backbone.fit_backbone.fit_backbone`.
        """
        self._cross_fitted = CrossFittedLookup(patients, cross_fitted)

    def share_cross_fitted(self, other: BackboneModule) -> None:
        """Use another module's cross-fitted predictions until `on_fit_end`, as a teacher does in a student's fit."""
        self._cross_fitted = other._cross_fitted

    def _predicts_programs(self) -> bool:
        """Whether the backbone is to predict measured programs from tissue."""
        raise NotImplementedError

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the buffers of the checkpoint's backbone; their sizes depend on the patients of its fit."""
        super().on_load_checkpoint(checkpoint)
        layout = unpack((checkpoint["hyper_parameters"].get("fitted") or {}).get("backbone"))
        if self.backbone is not None and layout and layout != self.backbone.layout:
            self.backbone.build(cast(BackboneLayout, layout))
            self.fitted["backbone"] = layout

    # ---- forward -----------------------------------------------------------------------------------------------

    def _uses_cross_fitted(self, batch: Batch) -> bool:
        """Whether cross-fitted predictions replace the backbone's output, so that it need not read the batch."""
        # `on_fit_end` is not called after an exception in a fit, and a later test must not use that fit's predictions.
        if self._trainer is not None and self.trainer.state.fn not in (None, "fit"):
            return False
        return self._cross_fitted is not None and self._cross_fitted.has_all(batch.patient_id)

    def _backbone_statistics(self, batch: Batch) -> dict[str, SlideStatistics]:
        """Return {"10x": statistics module of that magnification, …}; {} if the backbone need not read this batch."""
        return {} if self._uses_cross_fitted(batch) else super()._backbone_statistics(batch)

    def _backbone_output(
        self, batch: Batch, bags: Mapping[int, Bag], reads_rna: Tensor, statistics: Mapping[int, dict[str, Tensor]]
    ) -> BackboneOutput | None:
        """As in the base class, but in a fit the cross-fitted output."""
        if not self.has_backbone or self._cross_fitted is None or not self._uses_cross_fitted(batch):
            return super()._backbone_output(batch, bags, reads_rna, statistics)
        parts, programs = self._cross_fitted.rows(batch.patient_id, reads_rna)
        return self._require_backbone().output(parts, reads_rna, programs)

    def _share(self, name: str) -> Tensor | float:
        """As in the base class, but in a fit 1, because it trains the whole deep part and chooses in validation."""
        return 1.0 if self._is_fitting else super()._share(name)

    # ---- validation --------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Discard the sums of the previous validation."""
        super().on_validation_epoch_start()
        self._share_sums, self._validated_logits = {}, []

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """As in the base class, but a fit with a backbone collects the logits at every share."""
        if not self._is_fitting:
            return super().validation_step(batch, batch_idx)
        output, observed = self(batch), batch.target["observed"]
        logits = torch.stack([self._logits_at(share, output, batch) for share in SHARES])  # (S, B, C)
        for name, (scores, rows) in self._share_scores(batch, output, logits).items():
            self._share_sums.setdefault(name, ShareSums()).add(scores, rows)
        self._validated_logits.append((logits[:, observed], {k: v[observed] for k, v in batch.target.items()}))
        return -self.task.log_likelihood(output.logits, batch.target).sum() / observed.sum().clamp_min(1)

    def _share_scores(self, batch: Batch, output: SubspaceOutput, logits: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Return {name: (scores (S, B), higher = better, by which shares are compared; (B,) bool, who counts)}.

        Args:
            batch: Batch of validation patients.
            output: Output that contains the whole deep part, i.e. at share 1.
            logits: (S, B, C), the logits at each share.
        """
        likelihood = torch.stack([self.task.calibration_log_likelihood(each, batch.target) for each in logits])
        scores = {"likelihood": (likelihood, batch.target["observed"])}
        if output.backbone_programs:
            measured = self.scores(batch.expression, batch.has_expression)
            errors = torch.stack([_program_error(share, output, measured) for share in SHARES])
            scores["programs"] = (-errors, batch.has_expression & self._available(batch).any(0))
        return scores

    def _logits_at(self, share: float, output: SubspaceOutput, batch: Batch) -> Tensor:
        """Return the logits (B, C) that an output would have at another share of its deep part."""
        base = output.backbone_logits
        if base is None:
            raise RuntimeError("a model without a backbone has no share of a deep part")
        by_magnification = [base + share * (x - base) for x in output.logits_by_magnification.values()]
        return self.task.combine(torch.stack(by_magnification), self._available(batch))

    def on_validation_epoch_end(self) -> None:
        """Choose the shares before the metrics of the epoch are logged."""
        if self._share_sums:
            share_scores = {name: sums.scores(self._over_processes) for name, sums in self._share_sums.items()}
            index = self._choose_share(share_scores)
            self.deep_share.fill_(SHARES[index])
            if "programs" in share_scores:
                self.program_share.fill_(SHARES[share_scores["programs"].choose()])
            for logits, target in self._validated_logits:
                if logits.shape[1]:
                    self.validation_metrics.update(logits[index], target)
            # The loss is already the mean over all processes, so each process adds it with the same weight.
            loss = self._validation_loss(share_scores, index)
            self._validated = [torch.stack([loss, torch.ones_like(loss)])]
            self.log("val/deep_share", self.deep_share.clone(), reduce_fx="max", sync_dist=True)
        super().on_validation_epoch_end()

    def _over_processes(self, values: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(values, reduce_op="sum")

    def _choose_share(self, share_scores: dict[str, ShareScores]) -> int:
        """Return the index of the share by which the deep part is multiplied."""
        return share_scores["likelihood"].choose()

    def _validation_loss(self, share_scores: dict[str, ShareScores], index: int) -> Tensor:
        """Return the loss () by which epochs are compared: the mean negative log-likelihood at the chosen share."""
        return -share_scores["likelihood"].mean[index]

    def on_fit_end(self) -> None:
        """Drop the cross-fitted predictions; after a fit the backbone reads every batch."""
        self._cross_fitted = None

    @contextmanager
    def backbone_without_validation(self, data: MultimodalDataModule) -> Iterator[None]:
        """Predict, within this context, with a backbone that was fitted to the training patients alone.

        The final backbone was fitted to the inner validation patients as well. Cross-fitted predictions do not replace it
        here, because their columns and variances were chosen with all patients, which new patients are not among.

        Args:
            data: The data module of the fit.
        """
        final = self.backbone
        if self.has_backbone:
            self.backbone = self._backbone_of_training(data).to(self.deep_share.device)
        try:
            yield
        finally:
            self.backbone = final

    def _backbone_of_training(self, data: MultimodalDataModule) -> Backbone:
        """Return a copy of the backbone, on the CPU, that is fitted to the training patients alone."""
        return self._refit(data, self._require_backbone(), self._reads_rna(), self.scores, self._predicts_programs())

    def _refit(
        self, data: MultimodalDataModule, backbone: Backbone, with_rna: bool, scores: ProgramScores, programs: bool
    ) -> Backbone:
        """Return a copy of a backbone, on the CPU, that is fitted to the training patients alone."""
        copied = copy.deepcopy(backbone).cpu()
        scores = copy.deepcopy(scores).cpu()
        patients = training_patients(
            data,
            self.task,
            self.fitted,
            self.magnifications,
            copied.max_tokens,
            scores if programs and any(scores.sizes.values()) else None,
            with_rna,
            patients=data.patients("train"),
        )
        with torch.no_grad():
            fit_backbone(copied, patients, self.task)
        return copied


def _program_error(share: float, output: SubspaceOutput, measured: dict[str, Tensor]) -> Tensor:
    """Return the mean squared error (B,) of the predicted programs at another share of the deep part."""
    errors = []
    for key, base in output.backbone_programs.items():
        predicted = base + share * (output.programs[key] - base)
        errors.append((predicted - measured[key[1]]).square().sum(1))
    width = sum(base.shape[1] for base in output.backbone_programs.values())
    return torch.stack(errors).sum(0) / max(1, width)
