"""The published networks of `rivals.py` as LightningModules, trained on the same batches in the same way as the baselines."""

from __future__ import annotations

from typing import Any

from rivals import McatLike, TransMilLike

from dmml.errors import InputError
from dmml.tasks import Task
from dmml.training.baseline import BaselineNetwork
from dmml.types import SUBSPACES

RIVALS = {"transmil_like": "histology_abmil", "mcat_like": "late_fusion"}
"""Each rival, and the baseline that reads the same data."""
N_GROUPS = 6
LANDMARKS = 32
"""Of Nyström attention. The published 256 are for bags of thousands of tokens; these have a hundred."""


class RivalNetwork(BaselineNetwork):
    """A published network with the task's loss.

    Args:
        rival: One of `RIVALS`.
        n_features: D of the encoder; None = from the data at fit.
        genes: {"tumor": [...], "tme": [...]}; None = from the data at fit.
        task: What is predicted; None = survival.
        width: Width of the tokens, as that of the other baselines.
        fitted: Filled at fit and kept in the checkpoint; leave it empty.

    Raises:
        InputError: There is no such rival.
    """

    def __init__(
        self,
        rival: str,
        n_features: int | None = None,
        genes: dict | None = None,
        task: Task | None = None,
        width: int = 128,
        fitted: dict | None = None,
    ):
        if rival not in RIVALS:
            raise InputError(f"rival: there is no {rival!r}; one of {', '.join(RIVALS)}")
        self.rival = rival
        super().__init__(RIVALS[rival], n_features, genes, task, width, fitted=fitted)

    def _build_if_known(self) -> None:
        """As the base, with the rival in place of the baseline's network."""
        built = self.network is not None
        super()._build_if_known()
        if self.network is not None and not built:
            self.network = self._rival()

    def _rival(self) -> Any:
        size = {"width": self.width, "magnifications": self.magnifications}
        if self.rival == "transmil_like":
            return TransMilLike(self.n_features, self.task.n_outputs, landmarks=LANDMARKS, **size)
        n_genes = sum(len(self.genes.get(s, [])) for s in SUBSPACES)
        groups = [n_genes // N_GROUPS + (k < n_genes % N_GROUPS) for k in range(N_GROUPS)]
        return McatLike(self.n_features, self.task.n_outputs, groups, **size)
