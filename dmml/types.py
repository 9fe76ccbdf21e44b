"""Data structures shared by the data, the models and the callbacks.

Letters used in shapes throughout: B patients, N tokens (padded within the batch), D encoder dim, d model width,
G genes, P programs, C outputs (classes, or survival intervals).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor
from torch.nn import Parameter

SUBSPACES = ("tumor", "tme")
"""The two subspaces in their fixed order, which is also the order of their columns in a head's weight."""


@dataclass
class Bag:
    """Tokens of one magnification. Masked tokens are padding and must not influence any output."""

    features: Tensor
    """(B, N, D) floating point"""
    position: Tensor
    """(B, N, 2) µm, centre of the tile relative to its slide's origin"""
    mask: Tensor
    """(B, N) bool, True = real token"""
    slide: Tensor
    """(B, N) int64, index of the slide within the patient; positions on different slides are unrelated"""
    n_slides: int | None = None
    """Largest number of slides of any patient; None = counted on demand, for which the host waits for a GPU"""

    def count_slides(self) -> int:
        """Return `n_slides`, at least 1; count the slides if it is None."""
        if self.n_slides is not None:
            return max(1, self.n_slides)
        return int(self.slide.masked_fill(~self.mask, 0).max()) + 1 if self.slide.numel() else 1

    def pin_memory(self) -> Bag:
        """Pin every tensor, because PyTorch does not look inside dataclasses."""
        features, position = self.features.pin_memory(), self.position.pin_memory()
        return Bag(features, position, self.mask.pin_memory(), self.slide.pin_memory(), self.n_slides)


@dataclass
class Batch:
    """A batch of patients, with the data that are available for each."""

    patient_id: list[str]
    bags: dict[int, Bag]
    """{10: Bag, 20: Bag}; a magnification may be absent, and a patient's mask may be all False"""
    parent: Tensor
    """(B, N20) int64, row of each 20x tile's parent in the 10x bag, -1 = no parent"""
    expression: dict[str, Tensor]
    """{"tumor": (B, G_t), "tme": (B, G_e)} standardised; rows of patients without RNA are 0 and ignored"""
    has_expression: Tensor
    """(B,) bool, whether the patient has RNA"""
    target: dict[str, Tensor] = field(default_factory=dict)
    """survival: time (days), event (0/1); classification: label (int64); both: observed (B,) bool. {} for prediction"""

    def pin_memory(self) -> Batch:
        """Pin every tensor, because PyTorch does not look inside dataclasses."""
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
    """A model's output for a batch. Keys (magnification, subspace) cover every magnification of the model."""

    logits: Tensor
    """(B, C), combined over the magnifications"""
    logits_by_magnification: dict[int, Tensor]
    """{m: (B, C)}, sum of the subspaces' parts and the tissue-specific part"""
    subspace_logits: dict[tuple[int, str], Tensor]
    """{(m, s): (B, C)}, each subspace's part; both parts and `tissue_logits` sum to the magnification's logits"""
    embeddings: dict[tuple[int, str], Tensor]
    """{(m, s): (B, d)}"""
    attention: dict[tuple[int, str], Tensor]
    """{(m, s): (B, N_m)}, sums to 1 over a patient's real tokens; all 0 for a patient without tokens"""
    programs: dict[tuple[int, str], Tensor]
    """{(m, s): (B, P_s)}, program scores predicted from the tissue alone; 0 (the training mean) without tissue"""
    guided_programs: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    """{(m, s): (B, P_s)}, program scores from a teacher's RNA-guided fusion; {} = the model has none"""
    tissue_logits: dict[int, Tensor] = field(default_factory=dict)
    """{m: (B, C)}, the tissue-specific part, which belongs to neither subspace; 0 without tissue; {} = none"""
    tissue_attention: dict[int, Tensor] = field(default_factory=dict)
    """{m: (B, N_m)}, attention of the tissue-specific part, normalised like `attention`; {} = none"""
    backbone_logits: Tensor | None = None
    """(B, C), sum of the backbone's parts, included in the logits of every magnification; None without a backbone"""
    backbone_programs: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    """{(m, s): (B, P_s)}, the backbone's part of `programs`"""
    gene_attention: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    """{(m, s): (B, D)}, a teacher's attention of the genes to the tissue, flattened; D is the same at every magnification;
    {} = the fusion has no such map"""
    prototypes: dict[int, Tensor] = field(default_factory=dict)
    """{m: (B, N_m) int64}, index into `SUBSPACES` of the prototype (cluster) to which a token belongs; −1 = none, as for
    masked tokens; {} = the model has no prototypes"""


@dataclass
class LossTerms:
    """A loss and its components: `total` is minimised, and `parts` are logged under their names."""

    total: Tensor
    parts: dict[str, Tensor]


GradientRule = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps (grad_tumor, grad_tme), each (B, N, d), to the two gradients that are propagated further back."""


@runtime_checkable
class HasSubspaces(Protocol):
    """The interface through which gradient callbacks access a model."""

    def subspace_heads(self) -> Iterable[tuple[Parameter, slice, slice]]:
        """Yield, per magnification, the head's weight (C, 2d) and the slices of its tumor and TME columns."""
        ...

    def take_confidence(self) -> Tensor:
        """Return the (heads, 5) sums since the last call and reset them; only `training_step` adds to them.

        Columns: summed log-likelihood of the observed outcomes under the tumor logits alone, the same under the TME
        logits, summed likelihood under the tumor logits, the same under the TME logits, number of observed patients.
        """
        ...

    def set_shared_rule(self, rule: GradientRule | None) -> None:
        """Set the rule for the two gradients that meet at the tokens shared by both subspaces; None removes it."""
        ...
