"""Consistency between magnifications, which must carry the same transcriptomic signal, and overlap of subspaces."""

from __future__ import annotations

import torch
from torch import Tensor

from dmml.functional.precision import at_least_float32


def expression_consistency(
    predicted_10: Tensor, predicted_20: Tensor, measured: Tensor | None = None, has_expression: Tensor | None = None
) -> Tensor:
    """Measure how far the expression predicted at two magnifications differs, and differs from measured expression.

    mean_p (p_10 − p_20)² + [has RNA] · mean over both magnifications of mean_p (p_m − measured)². Two equal constants
    would minimise the first term alone; the second term rules them out.

    Args:
        predicted_10: (B, P) program scores.
        predicted_20: (B, P).
        measured: (B, P), or None; rows of patients without RNA are ignored.
        has_expression: (B,) bool, whether a patient has RNA; None = all have.

    Returns:
        (B,), at least float32; zeros if P = 0.

    Source: the paper's aim that magnifications carry the same transcriptomic signal, applied to predicted expression.
    The paper itself compares attention maps (`attention_agreement_variance`), by a loss that any constant minimises.
    """
    predicted_10, predicted_20 = at_least_float32(predicted_10), at_least_float32(predicted_20)
    if predicted_10.shape[1] == 0:
        return predicted_10.new_zeros(len(predicted_10))
    loss = (predicted_10 - predicted_20).square().mean(1)
    if measured is None:
        return loss
    measured = at_least_float32(measured)
    has_rna = torch.ones_like(loss, dtype=torch.bool) if has_expression is None else has_expression.bool()
    # Ignored rows are zeroed before the subtraction, so that a NaN in them cannot reach the gradient.
    measured = torch.where(has_rna[:, None], measured, 0.0)
    anchored = ((predicted_10 - measured).square().mean(1) + (predicted_20 - measured).square().mean(1)) / 2
    return loss + anchored * has_rna


def attention_consistency(attention_10: Tensor, attention_20: Tensor, parent: Tensor, mask_10: Tensor) -> Tensor:
    """Compute the Jensen–Shannon divergence between the attention of two magnifications.

    The attention of 20x tiles is summed by parent (tiles without a parent are left out), renormalised, and compared
    with the 10x attention.

    Args:
        attention_10: (B, N10).
        attention_20: (B, N20).
        parent: (B, N20) row of the parent in the 10x bag, −1 = none.
        mask_10: (B, N10) bool.

    Returns:
        (B,) nats, between 0 and ln 2; 0 if either magnification has no attention left.
    """
    attention_10, attention_20 = at_least_float32(attention_10), at_least_float32(attention_20)
    if attention_10.shape[1] == 0 or attention_20.shape[1] == 0:
        return attention_10.new_zeros(len(attention_10))
    has_parent = (parent >= 0) & (parent < attention_10.shape[1])
    summed = torch.zeros_like(attention_10).scatter_add(
        1, parent.clamp(0, attention_10.shape[1] - 1), attention_20 * has_parent
    )
    p, q = attention_10 * mask_10, summed * mask_10
    mass_p, mass_q = p.sum(1, keepdim=True), q.sum(1, keepdim=True)
    have_attention = ((mass_p > 0) & (mass_q > 0)).squeeze(1)
    p, q = p / mass_p.clamp_min(1e-12), q / mass_q.clamp_min(1e-12)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return divergence.clamp_min(0) * have_attention


def _relative_entropy(p: Tensor, q: Tensor) -> Tensor:
    """Compute Σ p log(p / q) with 0 log 0 = 0 and a finite gradient at 0. (B, N), (B, N) → (B,)."""
    tiny = torch.finfo(p.dtype).tiny
    return (p * (p.clamp_min(tiny).log() - q.clamp_min(tiny).log())).sum(1)


def attention_agreement_variance(attention_10: Tensor, attention_20: Tensor) -> Tensor:
    """Compute the paper's consistency loss (DEV) of one subspace, without its weight λ.

    C = A_10 A_20ᵀ, of which C_ii = Σ_d A_10[i, d] A_20[i, d] is the agreement between the magnifications of patient i.
    The loss is (1/B) Σ_i (C_ii − (1/B) Σ_j C_jj)², the biased variance of the agreement; C is not normalised.

    It asks that the magnifications agree equally well for all patients, not that they agree: any common value of C_ii,
    such as that of uniform attention, gives 0. So does a single patient.

    Args:
        attention_10: (B, D) gene-to-tissue attention of each patient at one magnification.
        attention_20: (B, D) the same at the other magnification.

    Returns:
        Scalar, at least float32; 0 for B = 0.

    Source: eq. 7 of the paper, which gives no value of λ.
    """
    attention_10, attention_20 = at_least_float32(attention_10), at_least_float32(attention_20)
    agreement = (attention_10 * attention_20).sum(1)  # (B,)
    if len(agreement) == 0:
        return agreement.sum()
    return (agreement - agreement.mean()).square().mean()


def batch_similarity_variance(a: Tensor, b: Tensor) -> Tensor:
    """Compute the released code's consistency loss: 10⁴ · unbiased variance of the diagonal of the row-normalised a bᵀ.

    The factor, the unit length of the rows and the unbiased variance are the code's; the paper has none of them
    (`attention_agreement_variance`).

    Args:
        a: (B, F) features of one magnification, e.g. its gene-to-tissue attention.
        b: (B, F) features of the other magnification.

    Returns:
        Scalar; 0 for B < 2, where the released code gives NaN.

    Source: `OmicDomainScaleLoss` of the released code.
    """
    a, b = at_least_float32(a), at_least_float32(b)
    if len(a) < 2:
        return (a.sum() + b.sum()) * 0
    with torch.autocast(a.device.type, enabled=False):  # the factor 10⁴ amplifies rounding errors
        similarity = torch.nn.functional.normalize(a @ b.T, dim=1)  # (B, B), rows to unit length
    return 1e4 * similarity.diagonal().var(unbiased=True)


def decorrelation(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared correlation, over a batch, between the coordinates of two embeddings: what the subspaces share.

    Args:
        a: (B, d) embeddings of one subspace.
        b: (B, d) embeddings of the other subspace.

    Returns:
        Scalar between 0 and 1; 0 for B < 2.
    """
    a, b = at_least_float32(a), at_least_float32(b)
    if len(a) < 2:
        return (a.sum() + b.sum()) * 0
    a, b = a - a.mean(0), b - b.mean(0)
    with torch.autocast(a.device.type, enabled=False):
        covariance = a.T @ b / (len(a) - 1)
    scale = a.var(0).unsqueeze(1) * b.var(0).unsqueeze(0)
    return (covariance.square() / (scale + 1e-6)).mean()
