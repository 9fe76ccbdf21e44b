"""TransMIL as the worlds fit it: a baseline of one's own, named by its class path."""

from __future__ import annotations

from collections.abc import Mapping

from dmml.nn.baselines import TransMIL

LANDMARKS = 32
"""Of Nyström attention. The published 256 are for bags of thousands of tokens; these have a hundred."""
RIVALS = ("transmil_like", "mcat_like")


class SmallTransMIL(TransMIL):
    """`TransMIL` with fewer landmarks.

    Args:
        n_features: D of the encoder.
        n_genes: Genes of each subspace, which it does not read.
        n_outputs: C.
        width: Width of the tokens, as that of the other baselines.
        magnifications: Magnifications that it reads.
    """

    reads = frozenset({"slides"})

    def __init__(
        self, n_features: int, n_genes: Mapping[str, int], n_outputs: int, width: int, magnifications: tuple[int, ...]
    ):
        super().__init__(n_features, n_outputs, width, magnifications, LANDMARKS)
