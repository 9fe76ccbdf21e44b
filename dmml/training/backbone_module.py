"""A deep part on a backbone: fitting and saving the backbone, and choosing how much the deep part counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from dmml.backbone.backbone import Backbone, BackboneOutput
from dmml.backbone.fit_backbone import CrossFitted, fit_backbone
from dmml.backbone.slide_statistics import SlideStatistics
from dmml.training.backbone_data import patients_of_fit, training_patients
from dmml.training.deep_share import SHARES, ShareScores, ShareSums
from dmml.training.logged_module import LoggedModule
from dmml.training.packing import unpack
from dmml.training.programs import ProgramScores
from dmml.types import Bag, Batch, SubspaceOutput


class _Remembered:
    """Cross-fitted predictions, looked up by patient."""

    def __init__(self, patients: Sequence[str], cross_fitted: CrossFitted):
        self._row = {patient: row for row, patient in enumerate(patients)}
        self._parts, self._programs = cross_fitted.parts, cross_fitted.programs

    def knows(self, patients: Sequence[str]) -> bool:
        """Whether there is a prediction for every one of the patients."""
        return all(patient in self._row for patient in patients)

    def rows(self, patients: Sequence[str], known: Tensor) -> tuple[Tensor, dict[tuple[int, str], Tensor]]:
        """Parts (B, 3, q) and programs {(m, s): (B, P)} of some patients.

        Args:
            patients: B of them.
            known: (B,) bool, whose RNA is read.
        """
        if self._parts.device != known.device:
            self._parts = self._parts.to(known.device)
            self._programs = {key: values.to(known.device) for key, values in self._programs.items()}
        index = torch.tensor([self._row[patient] for patient in patients], device=known.device)
        parts = self._parts[(~known).long(), index]
        return parts, {key: values[index] for key, values in self._programs.items()}


class BackboneModule(LoggedModule):
    """A deep part on a backbone.

    In training the deep part learns what the backbone leaves unexplained: for the patients to whom the backbone was fitted,
    its cross-fitted predictions stand in for it. After each epoch the inner validation patients decide which share of the
    deep part counts, separately for the logits and for the programs (`ShareScores.choose`). The shares are saved with the
    weights of that epoch.

    Attributes:
        backbone: None for a model without one.
        deep_share, program_share: () buffers; 1 without a backbone.
    """

    backbone: Backbone | None
    magnifications: tuple[int, ...]
    fitted: dict[str, Any]
    scores: ProgramScores

    def _take_backbone(self, factory: Callable[[], Backbone] | None) -> None:
        """Build the backbone, with the buffers that a checkpoint fills."""
        self.backbone = None if factory is None else factory()
        if self.backbone is not None:
            self.register_buffer("deep_share", torch.ones(()))
            self.register_buffer("program_share", torch.ones(()))
            if self.fitted.get("backbone"):
                self.backbone.build(self.fitted["backbone"])
        self._cross_fitted: _Remembered | None = None  # of the patients of this fit; nothing of it is saved
        self._share_sums: dict[str, ShareSums] = {}
        self._validated_logits: list[tuple[Tensor, dict[str, Tensor]]] = []

    @property
    def has_backbone(self) -> bool:
        """Whether the model has a backbone that was fitted."""
        return self.backbone is not None and self.backbone.is_fitted

    @property
    def _is_fitting(self) -> bool:
        # The Trainer's state still names "fit" after a fit has ended.
        state = None if self._trainer is None else self.trainer.state
        return self.has_backbone and state is not None and state.fn == "fit" and state.status == "running"

    def _reads_rna(self) -> bool:
        """Whether RNA takes part in the backbone's model of the outcome."""
        raise NotImplementedError

    def _start_backbone(self, data: Any | None) -> None:
        """Fit the backbone to data that knows its patients; plain loaders do not."""
        if self.backbone is None:
            return
        if hasattr(data, "patients"):
            self.fit_backbone(data)
        elif not self.has_backbone:
            rank_zero_warn(
                "a backbone is fitted to the patients of a MultimodalDataModule, and this fit has none: the model learns "
                "without one; backbone=None says so and silences this"
            )

    def fit_backbone(self, data: Any) -> None:
        """Fit the backbone to the training patients of a data module, inner validation included.

        Args:
            data: A `MultimodalDataModule` after `setup("fit")`.
        """
        scores = self.scores if any(self.scores.sizes.values()) and self._predicts_programs() else None
        self._cross_fit(data, self.backbone, self._reads_rna(), scores)
        self.fitted["backbone"] = self.backbone.layout

    def _cross_fit(self, data: Any, backbone: Backbone, with_rna: bool, scores: ProgramScores | None = None) -> None:
        """Fit a backbone, and keep each patient's cross-fitted prediction for the time of the fit."""
        patients = training_patients(
            data, self.task, self.fitted, self.magnifications, backbone.max_tokens, scores, with_rna
        )
        with torch.no_grad():
            cross_fitted = fit_backbone(backbone, patients, self.task)
        self.remember_backbone(patients_of_fit(data), cross_fitted)

    def remember_backbone(self, patients: Sequence[str], cross_fitted: CrossFitted) -> None:
        """Answer for these patients with the backbone's cross-fitted predictions, until `on_fit_end`.

        A fit does so by itself with its training patients, those of the inner validation included.

        Args:
            patients: Those to whom the backbone was fitted, in the order of the predictions.
            cross_fitted: What `dmml.backbone.fit_backbone.fit_backbone` returned.
        """
        self._cross_fitted = _Remembered(patients, cross_fitted)

    def cross_fit_as(self, other: BackboneModule) -> None:
        """Answer with another module's cross-fitted predictions, until `on_fit_end`: a teacher in a student's fit."""
        self._cross_fitted = other._cross_fitted

    def _predicts_programs(self) -> bool:
        """Whether measured programs are to be predicted from tissue."""
        raise NotImplementedError

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the buffers of the checkpoint's backbone, whose sizes depend on the patients to whom it was fitted."""
        layout = unpack((checkpoint["hyper_parameters"].get("fitted") or {}).get("backbone"))
        if self.backbone is not None and layout and layout != self.backbone.layout:
            self.backbone.build(layout)
            self.fitted["backbone"] = layout

    # ---- forward -----------------------------------------------------------------------------------------------

    def _remembers(self, batch: Batch) -> bool:
        """Whether cross-fitted predictions stand in for the backbone, so that it need not read the batch."""
        # A fit that ended in an exception has no `on_fit_end`; a test after it must not read that fit's predictions.
        if self._trainer is not None and self.trainer.state.fn not in (None, "fit"):
            return False
        return self._cross_fitted is not None and self._cross_fitted.knows(batch.patient_id)

    def _backbone_statistics(self, batch: Batch) -> dict[str, SlideStatistics]:
        """{"10x": module of that magnification's statistics, …}; {} where the backbone need not read this batch."""
        return dict(self.backbone.statistics.items()) if self.has_backbone and not self._remembers(batch) else {}

    def _backbone_output(
        self, batch: Batch, bags: Mapping[int, Bag], known: Tensor, statistics: Mapping[int, dict[str, Tensor]]
    ) -> BackboneOutput | None:
        """The backbone's part of a batch's output; in a fit the cross-fitted one.

        Args:
            batch: Of the bags.
            bags: {m: Bag}.
            known: (B,) bool, whose RNA is read.
            statistics: {m: {statistic: (B, columns)}} from the modules of `_backbone_statistics`.
        """
        if not self.has_backbone:
            return None
        if not self._remembers(batch):
            return self.backbone.answer(statistics, bags, batch.expression, known)
        parts, programs = self._cross_fitted.rows(batch.patient_id, known)
        return self.backbone.output(parts, known, programs)

    def _total_programs(
        self, deep: dict[tuple[int, str], Tensor], backbone: BackboneOutput | None
    ) -> dict[tuple[int, str], Tensor]:
        """{(m, s): (B, P)} the backbone's programs, plus those of the deep part times their share."""
        base = {} if backbone is None else backbone.programs
        share = self._share("program_share") if base else 1.0
        return {key: base[key] + share * value if key in base else value for key, value in deep.items()}

    def _share(self, name: str) -> Tensor | float:
        """() the chosen share of the deep part; 1 in a fit, whose steps train the whole deep part and whose validation chooses."""
        return getattr(self, name) if self.has_backbone and not self._is_fitting else 1.0

    # ---- validation --------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Discard the sums of the previous validation."""
        super().on_validation_epoch_start()
        self._share_sums, self._validated_logits = {}, []

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """As in the base; in a fit with a backbone, logits at every share are collected."""
        if not self._is_fitting:
            return super().validation_step(batch, batch_idx)
        output, observed = self(batch), batch.target["observed"]
        logits = torch.stack([self._logits_at(share, output, batch) for share in SHARES])  # (S, B, C)
        for name, (scores, rows) in self._share_scores(batch, output, logits).items():
            self._share_sums.setdefault(name, ShareSums()).add(scores, rows)
        self._validated_logits.append((logits[:, observed], {k: v[observed] for k, v in batch.target.items()}))
        return -self.task.log_likelihood(output.logits, batch.target).sum() / observed.sum().clamp_min(1)

    def _share_scores(self, batch: Batch, output: SubspaceOutput, logits: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """{name: scores (S, B) by which shares are compared, higher = better, and the patients (B,) who count}.

        Args:
            batch: Of validation patients.
            output: With the whole deep part.
            logits: (S, B, C) at each share.
        """
        likelihood = torch.stack([self.task.calibration_log_likelihood(each, batch.target) for each in logits])
        scores = {"likelihood": (likelihood, batch.target["observed"])}
        if output.backbone_programs:
            measured = self.scores(batch.expression, batch.has_expression)
            errors = torch.stack([_program_error(share, output, measured) for share in SHARES])
            scores["programs"] = (-errors, batch.has_expression & self._available(batch).any(0))
        return scores

    def _logits_at(self, share: float, output: SubspaceOutput, batch: Batch) -> Tensor:
        """(B, C) logits of an output at another share of its deep part."""
        base = output.backbone_logits
        by_magnification = [base + share * (x - base) for x in output.logits_by_magnification.values()]
        return self.task.combine(torch.stack(by_magnification), self._available(batch))

    def on_validation_epoch_end(self) -> None:
        """Choose the shares before the figures of the epoch are logged."""
        if self._share_sums:
            share_scores = {name: sums.scores(self._over_processes) for name, sums in self._share_sums.items()}
            chosen = self._choose_share(share_scores)
            self.deep_share.fill_(SHARES[chosen])
            if "programs" in share_scores:
                self.program_share.fill_(SHARES[share_scores["programs"].choose()])
            for logits, target in self._validated_logits:
                if logits.shape[1]:
                    self.validation_metrics.update(logits[chosen], target)
            # This is the mean over all processes already; each adds it with the same weight.
            loss = self._validation_loss(share_scores, chosen)
            self._validated = [torch.stack([loss, torch.ones_like(loss)])]
            self.log("val/deep_share", self.deep_share.clone(), reduce_fx="max", sync_dist=True)
        super().on_validation_epoch_end()

    def _over_processes(self, values: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(values, reduce_op="sum")

    def _choose_share(self, share_scores: dict[str, ShareScores]) -> int:
        """Index of the share of the deep part that counts."""
        return share_scores["likelihood"].choose()

    def _validation_loss(self, share_scores: dict[str, ShareScores], chosen: int) -> Tensor:
        """() by which epochs are compared: the mean negative log-likelihood at the chosen share."""
        return -share_scores["likelihood"].mean[chosen]

    def on_fit_end(self) -> None:
        """Drop the cross-fitted predictions: after a fit the backbone reads every batch itself."""
        self._cross_fitted = None


def _program_error(share: float, output: SubspaceOutput, measured: dict[str, Tensor]) -> Tensor:
    """(B,) mean squared error of the predicted programs at another share."""
    errors = []
    for key, base in output.backbone_programs.items():
        predicted = base + share * (output.programs[key] - base)
        errors.append((predicted - measured[key[1]]).square().sum(1))
    width = sum(base.shape[1] for base in output.backbone_programs.values())
    return torch.stack(errors).sum(0) / max(1, width)
