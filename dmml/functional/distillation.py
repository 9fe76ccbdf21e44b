"""Softened divergences between a teacher's and a student's predictions."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from dmml.functional.precision import at_least_float32


def softened_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Softened KL divergence T² · mean_i Σ_c p_t log(p_t / p_s) with p = softmax(logits / T).

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C); gradients flow into them unless they are detached.
        temperature: T.

    Returns:
        Scalar; 0 for an empty batch.

    Source: Hinton et al. 2015, as in the released code with T = 2. The paper (eq. 13) softens the teacher alone, without
    T², and gives no temperature.
    """
    return temperature**2 * _mean(categorical_divergence(student_logits, teacher_logits, temperature))


def softened_bernoulli_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Softened KL of independent hazards, T² · mean_i Σ_k KL(Bernoulli(σ(t_k / T)) ‖ Bernoulli(σ(s_k / T))).

    Args:
        student_logits: (B, K) s of the hazards.
        teacher_logits: (B, K) t of the hazards.
        temperature: T.

    Returns:
        Scalar; 0 for an empty batch.

    Departs from the released code, which takes a softmax over hazard logits, although the hazards form no distribution.
    """
    return temperature**2 * _mean(bernoulli_divergence(student_logits, teacher_logits, temperature))


def categorical_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return each sample's Σ_c p_t log(p_t / p_s), without the factor T². (B, C), (B, C) → (B,)."""
    student = log_softmax(at_least_float32(student_logits) / temperature, dim=1)
    teacher = log_softmax(at_least_float32(teacher_logits) / temperature, dim=1)
    return (teacher.exp() * (teacher - student)).sum(1)


def bernoulli_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return each sample's Σ_k KL of independent Bernoulli variables, without the factor T². (B, K), (B, K) → (B,)."""
    s, t = (at_least_float32(logits) / temperature for logits in (student_logits, teacher_logits))
    hit = t.sigmoid() * (logsigmoid(t) - logsigmoid(s))
    miss = (-t).sigmoid() * (logsigmoid(-t) - logsigmoid(-s))
    return (hit + miss).sum(1)


def _mean(values: Tensor) -> Tensor:
    return values.mean() if len(values) else values.sum()
