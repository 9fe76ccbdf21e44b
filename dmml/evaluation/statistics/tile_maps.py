"""How well tile maps of tumor and microenvironment agree with annotated regions: Dice, recall and accuracy.

The paper (Fig. 8) reports mean Dice and recall of tumor clusters and mean accuracy of TME clusters over slides. It
does not say whether it counts tiles or pixels, nor of what the accuracy is a share. Here tiles are counted, slide by
slide. With T the tiles in the tumor's cluster, E those in the TME's cluster, R those in tumor regions, and n all tiles::

    Dice = 2 |T ∩ R| / (|T| + |R|)    recall = |T ∩ R| / |R|    accuracy = share of the n tiles with (in E) = (not in R)

If every tile is in one of the two clusters, the accuracy is also that of the tumor's cluster, and exchanging the names of
the clusters turns an accuracy a into 1 − a. "Accuracy of a cluster" can also mean the share of its tiles that lie in the
right region; this is `tme_precision`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from dmml.errors import InputError

TUMOR, TME = "tumor", "tme"
"""Names of the two clusters in a table of tiles"""
_UNIT = ["slide_id", "magnification"]


@dataclass(frozen=True)
class MapAgreement:
    """Agreement of one slide's map with its regions, at one magnification; NaN = undefined (division by zero).

    Attributes:
        tumor_dice: Dice coefficient of the tumor's cluster and the tumor regions.
        tumor_recall: Share of the tiles in tumor regions that are in the tumor's cluster.
        tme_accuracy: Share of all tiles that are in the TME's cluster exactly if they are not in a tumor region.
        tumor_precision: Share of the tiles in the tumor's cluster that are in tumor regions.
        tme_precision: Share of the tiles in the TME's cluster that are not in tumor regions.
        tme_recall: Share of the tiles outside tumor regions that are in the TME's cluster.
        n_tiles: Number of tiles with a known region.
        n_tumor: How many of them lie in tumor regions.
    """

    tumor_dice: float
    tumor_recall: float
    tme_accuracy: float
    tumor_precision: float
    tme_precision: float
    tme_recall: float
    n_tiles: int
    n_tumor: int


def map_agreement(in_tumor_cluster: ArrayLike, in_tme_cluster: ArrayLike, in_tumor_region: ArrayLike) -> MapAgreement:
    """Compare the map of one slide with its regions.

    Args:
        in_tumor_cluster: (n,) bool, whether a tile is in the tumor's cluster.
        in_tme_cluster: (n,) bool, whether it is in the TME's cluster; a tile may be in neither.
        in_tumor_region: (n,) bool, whether it lies in a tumor region.

    Raises:
        ValueError: The arrays differ in shape, or a tile is in both clusters.
    """
    tumor, tme, region = (np.asarray(each, bool) for each in (in_tumor_cluster, in_tme_cluster, in_tumor_region))
    if not tumor.shape == tme.shape == region.shape:
        raise ValueError(f"clusters {tumor.shape}, {tme.shape} and regions {region.shape} differ in shape")
    if (tumor & tme).any():
        raise ValueError(f"{int((tumor & tme).sum())} tiles are in both clusters")
    n, hits, rejections = len(region), int((tumor & region).sum()), int((tme & ~region).sum())
    return MapAgreement(
        tumor_dice=_share(2 * hits, int(tumor.sum() + region.sum())),
        tumor_recall=_share(hits, int(region.sum())),
        tme_accuracy=_share(int((tme == ~region).sum()), n),
        tumor_precision=_share(hits, int(tumor.sum())),
        tme_precision=_share(rejections, int(tme.sum())),
        tme_recall=_share(rejections, int((~region).sum())),
        n_tiles=n,
        n_tumor=int(region.sum()),
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def agreement_by_slide(
    tiles: pd.DataFrame, regions: pd.DataFrame, tumor_regions: Collection[str] = (TUMOR,)
) -> pd.DataFrame:
    """Compare the maps of many slides with a table of annotated tiles.

    Args:
        tiles: Rows of `tiles.csv` of `dmml predict-slide`: `slide_id`, `magnification`, `x_um` and `y_um` (centre of
            the tile in µm from the slide's origin), and `prototype`: `tumor`, `tme` or nothing.
        regions: `slide_id`, `x_um`, `y_um`, and `region`; optionally `magnification`, without which a row applies to
            all magnifications. Positions are rounded to whole µm. Tiles without a row, or with an empty region, are left
            out of the comparison, and rows without a tile are ignored.
        tumor_regions: Names of the regions that count as tumor; every other region counts as microenvironment. For
            IvyGAP the paper takes cellular tumor, the perinecrotic zone, and pseudopalisading cells with or without
            necrosis.

    Returns:
        One row per slide and magnification, in the order of `tiles`, with the fields of `MapAgreement`.

    Raises:
        InputError: A column is missing, a position is not a number, two rows describe one place, or no tile has a region.
    """
    place = ["slide_id", *(["magnification"] if "magnification" in regions else []), "x", "y"]
    tiles, regions = _placed(tiles, "tiles", "prototype"), _placed(regions, "regions", "region")
    if (twice := regions.duplicated(place)).any():
        raise InputError(
            f"regions: {int(twice.sum())} rows describe a place again, e.g. {regions[twice][place].iloc[0].to_dict()}; "
            "keep one row per tile"
        )
    annotated = regions[regions["region"].notna() & (regions["region"].astype(str) != "")]
    joined = tiles[[*_UNIT, "x", "y", "prototype"]].merge(annotated[[*place, "region"]], on=place, how="inner")
    if joined.empty:
        raise InputError(
            "regions: no row lies on the centre of a tile of these slides; check slide_id, x_um and y_um (µm from the "
            "slide's origin)"
        )
    joined["in_tumor_region"] = joined["region"].astype(str).isin([str(name) for name in tumor_regions])
    rows = []
    for unit, group in joined.groupby(_UNIT, sort=False):
        agreement = map_agreement(
            group["prototype"] == TUMOR, group["prototype"] == TME, group["in_tumor_region"].to_numpy()
        )
        rows.append(dict(zip(_UNIT, unit, strict=True)) | asdict(agreement))
    return pd.DataFrame(rows)


def _placed(table: pd.DataFrame, name: str, value: str) -> pd.DataFrame:
    """Return a table with slide ids as text, and with its positions in whole µm as `x` and `y`."""
    needed = ["slide_id", "x_um", "y_um", value, *(["magnification"] if value == "prototype" else [])]
    if missing := [column for column in needed if column not in table]:
        raise InputError(f"{name}: lacks the column {', '.join(missing)}; its columns are {', '.join(table.columns)}")
    position = table[["x_um", "y_um"]].apply(pd.to_numeric, errors="coerce")
    if n := int((~np.isfinite(position)).any(axis=1).sum()):
        raise InputError(f"{name}: {n} positions are not numbers; give the centres of tiles in µm as x_um and y_um")
    x, y = (position[column].round().astype("int64") for column in position)
    return table.assign(slide_id=table["slide_id"].astype(str), x=x, y=y)
