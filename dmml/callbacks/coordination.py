"""Confidence-guided gradient coordination as a callback."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from dmml.errors import InputError
from dmml.functional.coordination import RULES, coordinate
from dmml.types import HasSubspaces

SCOPES = ("classifier", "shared")
CONFIDENCES = ("likelihood", "probability")


class GradientCoordination(Callback):
    """Where the gradients of the two subspaces conflict, changes that of the less confident subspace.

    By default, the confidence of a subspace is exp(mean log-likelihood of the observed outcomes under its logits alone),
    computed from sums over the micro-batches and ranks of a step. It is a proper score that respects censoring.

    `scope: classifier, rule: project, confidence: probability` is eq. 6 of the paper: the subspace with the smaller sum,
    over the mini-batch, of the probability of the true label under its half of the classifier yields, and equal sums
    change nothing. (The mean over the mini-batch, which is compared here, has the same order.) With a backbone, the
    logits of a subspace include the backbone's part. For survival the probability is that of the observed outcome; the
    paper says nothing of it, and its released code takes a softmax over the hazard logits.

    In the "classifier" scope, the callback acts after all-reduce, accumulation and unscaling, and before clipping. It
    therefore edits exactly the gradient that is applied, in the same way on every rank. Departs from the released code,
    where each rank uses the confidences of its own batch.

    Args:
        scope: "classifier" (where the paper's figure has the gradients) compares, row by row of each head's weight, the
            gradient of the tumor columns with that of the TME columns, at `on_before_optimizer_step`; the rows are the
            released code's. "shared" compares the gradients at the tokens
            that both subspaces read, patient by patient, within the backward pass and with the confidences of the
            previous optimiser step; the first step is not changed.
        rule: "project" (the paper's), or "reflect" (the rule of the released code).
        confidence: "likelihood", or "probability" (the paper's, the mean probability of the observed outcomes).

    It logs, as means over the steps of an epoch, `coordination/conflict` (share of rows in conflict),
    `coordination/cosine` (mean cosine of all compared rows), `coordination/confidence_tumor` and
    `coordination/confidence_tme`.

    It refuses models without `HasSubspaces`, manual optimisation, strategies that shard gradients (FSDP, DeepSpeed,
    model parallel), a fused optimiser with 16-mixed precision (callbacks see gradients that are still scaled), and
    scope "shared" for a model without tissue.
    """

    def __init__(self, scope: str = "classifier", rule: str = "project", confidence: str = "likelihood"):
        for name, value, accepted in (
            ("scope", scope, SCOPES),
            ("rule", rule, RULES),
            ("confidence", confidence, CONFIDENCES),
        ):
            if value not in accepted:
                raise ValueError(f"{name} must be one of {', '.join(accepted)}; got {value!r}")
        self.scope, self.rule, self.confidence = scope, rule, confidence
        self._previous: Tensor | None = None
        self._conflicts: list[Tensor] = []  # conflict and cosine of every comparison of the epoch

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse models and strategies that are not supported."""
        if stage != "fit":
            return
        _with_subspaces(pl_module)
        if not pl_module.automatic_optimization:
            raise InputError("GradientCoordination does not support manual optimisation")
        strategy = type(trainer.strategy).__name__
        if any(word in strategy.lower() for word in ("fsdp", "deepspeed", "modelparallel")):
            raise InputError(
                f"GradientCoordination does not support {strategy}, which shards gradients; use strategy=ddp"
            )

    def state_dict(self) -> dict[str, list[float]]:
        """Return the confidences that the shared scope uses at the next step, so that a resumed run is identical."""
        return {} if self._previous is None else {"previous": self._previous.tolist()}

    def load_state_dict(self, state_dict: dict[str, list[float]]) -> None:
        """Restore the confidences from `state_dict`."""
        if "previous" in state_dict:
            self._previous = torch.tensor(state_dict["previous"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse optimisers whose gradients are still scaled, and install the rule of the shared scope."""
        fused = any(group.get("fused") for optimizer in trainer.optimizers for group in optimizer.param_groups)
        if trainer.precision == "16-mixed" and fused:
            raise InputError(
                "GradientCoordination does not support a fused optimiser with 16-mixed precision; use fused=False or bf16-mixed"
            )
        model = _with_subspaces(pl_module)
        model.take_confidence()
        if self.scope == "shared":
            if getattr(pl_module, "n_features", None) == 0:
                raise InputError(
                    "GradientCoordination: scope shared acts where both subspaces read the same tissue, and this model "
                    "reads none; use scope: classifier"
                )
            model.set_shared_rule(self._coordinate_shared)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the rule of the shared scope from the model."""
        _with_subspaces(pl_module).set_shared_rule(None)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Compute the confidences of the step, and edit the heads' gradients in the classifier scope."""
        model = _with_subspaces(pl_module)
        sums = model.take_confidence().to(pl_module.device)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)  # the strategy's `reduce` first waits at a barrier
        else:
            sums = trainer.strategy.reduce(sums, reduce_op="sum")
        confidences = self._confidences(sums)  # (heads, 2)
        if self.scope == "classifier":
            for (weight, tumor, tme), confidence in zip(model.subspace_heads(), confidences, strict=True):
                if weight.grad is not None:
                    self._coordinate_head(weight.grad, tumor, tme, confidence)
        overall = self._confidences(sums.sum(0, keepdim=True))[0]
        if self._previous is None:
            self._previous = torch.ones_like(overall)  # equal confidences: no gradient is changed
        self._previous = torch.where(sums[:, 4].sum() > 0, overall, self._previous.to(overall))
        self._log(pl_module, overall)

    def _confidences(self, sums: Tensor) -> Tensor:
        """Convert sums (rows, 5) to confidences (rows, 2) of tumor and TME."""
        count = sums[:, 4:].clamp_min(1)
        return (sums[:, :2] / count).exp() if self.confidence == "likelihood" else sums[:, 2:4] / count

    def _coordinate_head(self, grad: Tensor, tumor: slice, tme: slice, confidence: Tensor) -> None:
        new_tumor, new_tme, conflict = coordinate(grad[:, tumor], grad[:, tme], confidence[0], confidence[1], self.rule)
        self._record(grad[:, tumor], grad[:, tme], conflict)
        # Written in place, because the gradient under DDP is a view into a bucket.
        grad[:, tumor].copy_(new_tumor)
        grad[:, tme].copy_(new_tme)

    def _coordinate_shared(self, grad_tumor: Tensor, grad_tme: Tensor) -> tuple[Tensor, Tensor]:
        if self._previous is None:
            return grad_tumor, grad_tme
        tumor, tme = grad_tumor.flatten(1), grad_tme.flatten(1)  # (B, N·d): one row per patient
        new_tumor, new_tme, conflict = coordinate(tumor, tme, self._previous[0], self._previous[1], self.rule)
        self._record(tumor, tme, conflict)
        return new_tumor.view_as(grad_tumor), new_tme.view_as(grad_tme)

    def _record(self, a: Tensor, b: Tensor, conflict: Tensor) -> None:
        cosine = torch.nn.functional.cosine_similarity(a.float(), b.float(), dim=1)
        self._conflicts.append(torch.stack([conflict.float().mean(), cosine.mean()]).detach())

    def _log(self, pl_module: LightningModule, confidence: Tensor) -> None:
        values = {"coordination/confidence_tumor": confidence[0], "coordination/confidence_tme": confidence[1]}
        if self._conflicts:
            conflict, cosine = torch.stack(self._conflicts).mean(0)
            values |= {"coordination/conflict": conflict, "coordination/cosine": cosine}
        self._conflicts = []
        pl_module.log_dict(values, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)


def _with_subspaces(module: LightningModule) -> HasSubspaces:
    """Return the module if it has subspaces, and refuse it otherwise."""
    if not isinstance(module, HasSubspaces):
        raise InputError(
            "GradientCoordination needs a model with subspaces (dmml.types.HasSubspaces); "
            f"{type(module).__name__} has none"
        )
    return module
