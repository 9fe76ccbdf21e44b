"""Design matrices of the linear models: slide statistics, and the genes of each subspace, as blocks of columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dmml.backbone.blocks import Block, fit_block
from dmml.backbone.slide_statistics import STATISTICS


class SlideDesigns:
    """Slide statistics as blocks of columns, fitted at construction.

    Args:
        raw: {m: {statistic: (n, columns)}}.
        present: {m: (n,) bool}, whether a patient has tokens at the magnification.
    """

    def __init__(self, raw: dict[int, dict[str, NDArray]], present: dict[int, NDArray]):
        self.raw, self.present = raw, present
        self.has_tissue = np.any(list(present.values()), axis=0) if present else np.zeros(0, bool)
        self.blocks: dict[str, Block] = {}
        for name in STATISTICS if raw else ():
            block = self._fit(name, list(raw))
            if block is not None:
                self.blocks[name] = block

    def columns(self, name: str, magnifications: Iterable[int]) -> tuple[NDArray, NDArray]:
        """Return a statistic's columns (n, d) at the given magnifications, and whether a patient has each of them."""
        values = [self.raw[m][name] for m in magnifications]
        present = [
            np.repeat(self.present[m][:, None], v.shape[1], 1) for m, v in zip(magnifications, values, strict=True)
        ]
        return np.hstack(values), np.hstack(present)

    def _fit(self, name: str, magnifications: list[int]) -> Block | None:
        values, present = self.columns(name, magnifications)
        if not values.shape[1]:
            return None
        # Contrasts keep their proportions: those from few tokens are shrunk towards 0, and should count less.
        if name == "contrasts":
            return fit_block(values, present, standardise=False, clip=np.inf)
        return fit_block(values, present)

    def design(self, name: str) -> NDArray[np.float64]:
        """Return the design (n, r) of a statistic at all magnifications together."""
        return self.blocks[name].design(*self.columns(name, list(self.raw)))

    def at_magnification(self, magnification: int) -> SlideDesigns:
        """Fit separate blocks to the statistics of one magnification."""
        return SlideDesigns({magnification: self.raw[magnification]}, {magnification: self.present[magnification]})


@dataclass
class GeneDesigns:
    """Genes of the training patients.

    Attributes:
        blocks: {subspace: block of its genes}.
        designs: {subspace: (n, r)}; both subspaces share one variance.
    """

    blocks: dict[str, Block]
    designs: dict[str, NDArray[np.float64]]

    def design(self) -> NDArray[np.float64]:
        """Return the joint design (n, r) of both subspaces, with rows whose mean squared norm is 1."""
        return np.hstack(list(self.designs.values())) / np.sqrt(len(self.designs))

    def split(self, weights: NDArray | None) -> dict[str, NDArray[np.float64]]:
        """Split the weights of `design` into those of `designs`, {subspace: (r_s, q)}; {} for None."""
        if weights is None:
            return {}
        ends = np.cumsum([design.shape[1] for design in self.designs.values()])[:-1]
        return dict(zip(self.designs, np.split(weights / np.sqrt(len(self.designs)), ends), strict=True))
