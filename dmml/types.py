"""The words of the house: what travels between the data, the models and the callbacks.

Letters used in shapes everywhere: B patients, N tokens (padded within the batch), D encoder dim, d model width,
G genes, P programs, C outputs (classes, or survival intervals).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor
from torch.nn import Parameter

SUBSPACES = ("tumor", "tme")
"""The two subspaces in their fixed order; the order of the columns of a head's weight."""


@dataclass
class Bag:
    """Tokens of one magnification. Masked tokens are padding: nothing in them may reach an output."""

    features: Tensor
    """(B, N, D) floating point"""
    position: Tensor
    """(B, N, 2) µm, centre of the tile from its slide's origin"""
    mask: Tensor
    """(B, N) bool, True = real token"""
    slide: Tensor
    """(B, N) int64, index of the slide within the patient; each slide is its own frame of coordinates"""
    n_slides: int | None = None
    """Slides of the patient who has the most; None = counted when asked, for which the host waits for a GPU"""

    def count_slides(self) -> int:
        """`n_slides`, at least 1."""
        if self.n_slides is not None:
            return max(1, self.n_slides)
        return int(self.slide.masked_fill(~self.mask, 0).max()) + 1 if self.slide.numel() else 1

    def pin_memory(self) -> Bag:
        """Pin every tensor; PyTorch's own pinning passes dataclasses by."""
        tensors = (getattr(self, name).pin_memory() for name in ("features", "position", "mask", "slide"))
        return Bag(*tensors, n_slides=self.n_slides)


@dataclass
class Batch:
    """Patients side by side, with whatever is known of each."""

    patient_id: list[str]
    bags: dict[int, Bag]
    """{10: Bag, 20: Bag}; a key may be absent, a patient may have an all-False mask"""
    parent: Tensor
    """(B, N20) int64, row of the 20x tile's parent in the 10x bag, -1 = none"""
    expression: dict[str, Tensor]
    """{"tumor": (B, G_t), "tme": (B, G_e)} standardised; rows of patients without RNA are 0 and ignored"""
    has_expression: Tensor
    """(B,) bool"""
    target: dict[str, Tensor] = field(default_factory=dict)
    """survival: time (days), event (0/1); classification: label (int64); both: observed (B,) bool. Empty in predict"""

    def pin_memory(self) -> Batch:
        """Pin every tensor; PyTorch's own pinning passes dataclasses by."""
        return Batch(
            patient_id=self.patient_id,
            bags={magnification: bag.pin_memory() for magnification, bag in self.bags.items()},
            parent=self.parent.pin_memory(),
            expression={subspace: values.pin_memory() for subspace, values in self.expression.items()},
            has_expression=self.has_expression.pin_memory(),
            target={name: values.pin_memory() for name, values in self.target.items()},
        )


@dataclass
class SubspaceOutput:
    """What a model says of a batch. Keys are (magnification, subspace) with every magnification of the model."""

    logits: Tensor
    """(B, C), the magnifications combined"""
    logits_by_magnification: dict[int, Tensor]
    """{m: (B, C)}"""
    subspace_logits: dict[tuple[int, str], Tensor]
    """{(m, s): (B, C)}, the part that a subspace contributes; with `tissue_logits`, the two sum to the magnification's"""
    embeddings: dict[tuple[int, str], Tensor]
    """{(m, s): (B, d)}"""
    attention: dict[tuple[int, str], Tensor]
    """{(m, s): (B, N_m)}, sums to 1 over a patient's real tokens, 0 where there are none"""
    programs: dict[tuple[int, str], Tensor]
    """{(m, s): (B, P_s)}, expression scores predicted from the tissue alone; 0 (the training mean) without tissue"""
    guided_programs: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    """{(m, s): (B, P_s)}, the same as a fusion reads them whose attention RNA guides; a teacher's inner step"""
    tissue_logits: dict[int, Tensor] = field(default_factory=dict)
    """{m: (B, C)}, the tissue-specific part, which belongs to neither subspace; 0 without tissue; {} = the model has none"""
    tissue_attention: dict[int, Tensor] = field(default_factory=dict)
    """{m: (B, N_m)}, as `attention`, of the tissue-specific part; {} = the model has none"""
    backbone_logits: Tensor | None = None
    """(B, C), the backbone's sum, which the logits of every magnification contain; None without a backbone"""
    backbone_programs: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    """{(m, s): (B, P_s)}, the backbone's part of the programs"""


@dataclass
class LossTerms:
    """A loss and what it is made of: `total` is what is minimised, `parts` are logged under their names."""

    total: Tensor
    parts: dict[str, Tensor]


GradientRule = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(grad_tumor, grad_tme), each (B, N, d) → the two that go on backwards."""


@runtime_checkable
class HasSubspaces(Protocol):
    """All that a gradient callback may know of a model."""

    def subspace_heads(self) -> Iterable[tuple[Parameter, slice, slice]]:
        """One a magnification: the head's weight (C, 2d), its tumor columns and its TME columns."""
        ...

    def take_confidence(self) -> Tensor:
        """(heads, 5) since last taken, then zeroed; filled by `training_step` only.

        Columns: summed log-likelihood of what was observed under the tumor logits alone, the same for TME, summed
        likelihood under tumor, under TME, number of observed patients.
        """
        ...

    def set_shared_rule(self, rule: GradientRule | None) -> None:
        """Install (or remove) a rule on the two gradients that meet at the tokens which both subspaces read."""
        ...
