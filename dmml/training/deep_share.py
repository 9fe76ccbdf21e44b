"""How much of the deep part counts: decided by patients whom neither the backbone nor the deep part was fitted to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
STANDARD_ERRORS = 1.64
"""Standard errors by which a share must be better than 0: few patients decide nothing, and the backbone stands"""


class ShareChoice:
    """Collects, patient by patient, how good the answer is at each of `SHARES`, and chooses one.

    The share with the best mean is taken where its mean paired gain over share 0 exceeds `STANDARD_ERRORS` of its
    standard errors over patients; otherwise the share is 0.
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def add(self, scores: Tensor, rows: Tensor) -> None:
        """Add a batch.

        Args:
            scores: (S, B) one row a share, higher = better.
            rows: (B,) bool, the patients who count.
        """
        values = torch.where(rows, scores.double(), 0.0)
        gain = values - values[:1]
        count = rows.sum().double().expand(len(values))
        sums = torch.stack([values.sum(1), gain.sum(1), gain.square().sum(1), count])  # (4, S)
        self._sums = sums if self._sums is None else self._sums + sums

    def choose(self, reduce: Callable[[Tensor], Tensor]) -> tuple[int, Tensor | None]:
        """Index of the chosen share, and the mean score at it; None where there was nobody.

        Args:
            reduce: Sums a tensor over the processes.
        """
        if self._sums is None:
            return 0, None
        total, gain, square, count = reduce(self._sums)
        n = count[0]
        if n < 2:
            return 0, total[0] / n if n else None
        mean = gain / n
        error = ((square / n - mean.square()).clamp_min(0) / (n - 1)).sqrt()
        best = int(mean.argmax())
        chosen = best if mean[best] > STANDARD_ERRORS * error[best] and mean[best] > 0 else 0
        return chosen, total[chosen] / n
