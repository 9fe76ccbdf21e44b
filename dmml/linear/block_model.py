"""A linear model whose columns come in blocks, each with a variance of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BlockModel:
    """A fitted linear model of q outputs.

    Attributes:
        weights: {block: (p_b, q)}.
        intercept: (q,).
        log_variance: {block: log v_b}, the variances with which the weights were fitted; a regression also has log s,
            the variance of its noise, under "noise".
    """

    weights: dict[str, NDArray[np.float64]]
    intercept: NDArray[np.float64]
    log_variance: dict[str, float]

    def predict(self, blocks: Mapping[str, NDArray]) -> NDArray[np.float64]:
        """Return the predictor, or the predicted targets. {block: (n, p_b)} → (n, q)."""
        return sum((blocks[name] @ weights for name, weights in self.weights.items()), self.intercept)


def concatenate(blocks: Mapping[str, NDArray]) -> tuple[NDArray, NDArray]:
    """Join blocks side by side; return the joined columns (n, p) and the index of each column's block (p,)."""
    block_of_column = np.repeat(np.arange(len(blocks)), [x.shape[1] for x in blocks.values()])
    return np.hstack(list(blocks.values())), block_of_column
