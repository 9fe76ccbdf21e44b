"""Chooses the share of the deep part on inner validation patients, with predictions that were fitted without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.stats import t
from torch import Tensor

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
CONFIDENCE = 0.995
"""Confidence of the one-sided t test that a share is better than 0. The test is strict because it is repeated after
every epoch: few epochs of a fit should pass it by chance, and a small number of patients should decide nothing."""


@dataclass(frozen=True)
class ShareScores:
    """Scores of the predictions at each of `SHARES`, over all patients and processes; higher = better.

    Attributes:
        mean: (S,) mean score.
        gain: (S,) mean paired gain over share 0.
        error: (S,) standard error of the mean gain over patients.
        n: Number of patients.
    """

    mean: Tensor
    gain: Tensor
    error: Tensor
    n: int

    def choose(self, guard: ShareScores | None = None) -> int:
        """Return the index of the share with the best mean if its gain passes the t test, else 0.

        Args:
            guard: Other scores of the same shares. If the best share is worse than share 0 by these scores, the choice is
                share 0: with RNA that slides do not show, agreement with a teacher can rise while predictions get worse.
        """
        best = int(self.gain.argmax()) if self.n >= 2 else 0
        if self.n < 2 or not self.gain[best] > t.ppf(CONFIDENCE, self.n - 1) * self.error[best]:
            return 0
        return 0 if guard is not None and guard.gain[best] < 0 else best


class ShareSums:
    """Accumulates the patients' scores as sums that add up over batches and processes."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def add(self, scores: Tensor, rows: Tensor) -> None:
        """Add a batch.

        Args:
            scores: (S, B), one row per share, higher = better.
            rows: (B,) bool, whether a patient counts.
        """
        # MPS has no float64.
        kind = torch.float32 if scores.device.type == "mps" else torch.float64
        values = torch.where(rows, scores, 0.0).to(kind)
        gain = values - values[:1]
        count = rows.sum().to(kind).expand(len(values))
        sums = torch.stack([values.sum(1), gain.sum(1), gain.square().sum(1), count])  # (4, S)
        self._sums = sums if self._sums is None else self._sums + sums

    def scores(self, reduce: Callable[[Tensor], Tensor]) -> ShareScores:
        """Compute means and standard errors from the sums.

        Args:
            reduce: Function that sums a tensor over the processes.
        """
        if self._sums is None:
            raise RuntimeError("no batch was added")
        total, gain, square, count = reduce(self._sums)
        n = count[0].clamp_min(1)
        mean = gain / n
        error = ((square / n - mean.square()).clamp_min(0) / (n - 1).clamp_min(1)).sqrt()
        return ShareScores(total / n, mean, error, int(count[0]))
