"""TransMIL with the settings of the worlds, as a user's baseline named by its class path."""

from __future__ import annotations

from collections.abc import Mapping

from dmml.nn.baselines import TransMIL

LANDMARKS = 32
"""Landmarks of Nyström attention. The published 256 are for bags of thousands of tokens; these have a hundred."""
RIVALS = ("transmil_like", "mcat_like")


class SmallTransMIL(TransMIL):
    """`TransMIL` with fewer landmarks.

    Args:
        n_features: Width D of the encoder's features.
        n_genes: Number of genes of each subspace, which are not used.
        n_outputs: Number of outputs C.
        width: Width of the tokens, as in the other baselines.
        magnifications: Magnifications that the network reads.
    """

    reads = frozenset({"slides"})

    def __init__(
        self, n_features: int, n_genes: Mapping[str, int], n_outputs: int, width: int, magnifications: tuple[int, ...]
    ):
        super().__init__(n_features, n_outputs, width, magnifications, LANDMARKS)
