"""The clusters of tiles from which a model makes its prototypes of tumor and microenvironment, as counts and a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dmml.types import SUBSPACES, Batch, SubspaceOutput

if TYPE_CHECKING:
    import pandas as pd

    from dmml.experiment.predict_slide.maps import Thumbnail

NONE = "none"
"""Key of the tiles that are in no cluster"""


@dataclass(frozen=True)
class Prototypes:
    """Clusters of one patient's tiles.

    Attributes:
        cluster: {m: (N,) int64, index into `SUBSPACES` of each tile's cluster, −1 = none}, for magnifications with tiles.
    """

    cluster: dict[int, NDArray[np.int64]]

    @property
    def counts(self) -> dict[int, dict[str, int]]:
        """{m: {subspace: number of tiles in its cluster}}; also under "none", if a tile is in no cluster."""
        counts = {}
        for m, cluster in self.cluster.items():
            counts[m] = {s: int((cluster == i).sum()) for i, s in enumerate(SUBSPACES)}
            if (outside := len(cluster) - sum(counts[m].values())) > 0:
                counts[m][NONE] = outside
        return counts


def read_prototypes(batch: Batch, output: SubspaceOutput) -> Prototypes | None:
    """Return the clusters of a batch of one patient; None for a model without prototypes.

    Args:
        batch: B = 1.
        output: Output of the model for the batch.
    """
    clusters = {}
    for m, index in sorted(output.prototypes.items()):
        if m in batch.bags and (mask := batch.bags[m].mask[0]).any():
            clusters[m] = index[0][mask].cpu().numpy().astype(np.int64)
    return Prototypes(clusters) if clusters else None


def tile_table(slides: Sequence[Thumbnail], batch: Batch, prototypes: Prototypes) -> pd.DataFrame:
    """Return the content of `tiles.csv`, one row per tile.

    Args:
        slides: In the order of `Bag.slide`.
        batch: B = 1.
        prototypes: Clusters of the patient's tiles.

    Returns:
        `slide_id`; `magnification`; `x_um` and `y_um`, centre of the tile in µm from the slide's origin; `prototype`,
        the subspace whose cluster the tile is in, empty if none.
    """
    import pandas as pd  # only models with prototypes need it

    names = np.array([*SUBSPACES, None], dtype=object)  # −1 is the last one
    tables = []
    for m, cluster in prototypes.cluster.items():
        bag = batch.bags[m]
        mask = bag.mask[0]
        position = bag.position[0][mask].cpu().numpy()
        slide_ids = [slides[i].slide_id for i in bag.slide[0][mask].tolist()]
        columns = {"slide_id": slide_ids, "magnification": m, "x_um": position[:, 0], "y_um": position[:, 1]}
        tables.append(pd.DataFrame(columns | {"prototype": names[cluster]}))
    return pd.concat(tables, ignore_index=True)
