"""Agreement of tile maps with regions: the definitions, counted tile by tile, and the join with an annotation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from dmml.errors import InputError
from dmml.evaluation.statistics.tile_maps import agreement_by_slide, map_agreement


def counted(tumor, tme, region):
    """The definitions of the module, with one loop over the tiles and sets of tile numbers."""
    in_tumor = {i for i, value in enumerate(tumor) if value}
    in_tme = {i for i, value in enumerate(tme) if value}
    true_tumor = {i for i, value in enumerate(region) if value}
    right = 0
    for i in range(len(region)):
        says_tme, is_tme = i in in_tme, i not in true_tumor
        right += says_tme == is_tme
    true_tme = set(range(len(region))) - true_tumor

    def ratio(a, b):
        return a / b if b else math.nan

    return {
        "tumor_dice": ratio(2 * len(in_tumor & true_tumor), len(in_tumor) + len(true_tumor)),
        "tumor_recall": ratio(len(in_tumor & true_tumor), len(true_tumor)),
        "tme_accuracy": ratio(right, len(region)),
        "tumor_precision": ratio(len(in_tumor & true_tumor), len(in_tumor)),
        "tme_precision": ratio(len(in_tme & true_tme), len(in_tme)),
        "tme_recall": ratio(len(in_tme & true_tme), len(true_tme)),
    }


@pytest.mark.parametrize("seed", range(30))
def test_every_share_is_the_one_counted_tile_by_tile(seed):
    """Also where a cluster or a region is empty, and where tiles are in no cluster."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 9))
    cluster, region = rng.integers(-1, 2, n), rng.random(n) < rng.choice([0.0, 0.3, 1.0])
    agreement = map_agreement(cluster == 0, cluster == 1, region)
    for name, value in counted((cluster == 0).tolist(), (cluster == 1).tolist(), region.tolist()).items():
        assert getattr(agreement, name) == pytest.approx(value, nan_ok=True), name
    assert (agreement.n_tiles, agreement.n_tumor) == (n, region.sum())


def test_exchanged_names_turn_the_accuracy_around():
    rng = np.random.default_rng(0)
    tumor, region = rng.random(40) < 0.4, rng.random(40) < 0.6
    named, exchanged = map_agreement(tumor, ~tumor, region), map_agreement(~tumor, tumor, region)
    assert named.tme_accuracy + exchanged.tme_accuracy == pytest.approx(1)
    assert named.tumor_recall + exchanged.tumor_recall == pytest.approx(1)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        map_agreement([True], [False], [True, False])
    with pytest.raises(ValueError, match="1 tiles are in both"):
        map_agreement([True, True], [True, False], [True, False])


TILES = pd.DataFrame(
    {
        "slide_id": ["a"] * 4 + ["b"] * 2 + ["a"],
        "magnification": [20] * 6 + [10],
        "x_um": [56.0, 168.0, 280.0, 392.0, 56.0, 168.0, 112.0],
        "y_um": [56.0] * 6 + [112.0],
        "prototype": ["tumor", "tumor", "tme", None, "tme", "tumor", "tumor"],
    }
)
REGIONS = pd.DataFrame(
    {
        "slide_id": ["a", "a", "a", "a", "b", "b", "a", "z"],
        "x_um": [392.2, 280, 168, 56, 56, 168, 112, 56],
        "y_um": [56, 56, 56, 56, 56, 56, 112, 56],
        "region": ["stroma", "rim", "rim", "core", "stroma", "", "stroma", "core"],
    }
)


def test_tiles_are_matched_with_an_annotation_by_place():
    agreement = agreement_by_slide(TILES, REGIONS, ["core", "rim"])
    assert agreement[["slide_id", "magnification"]].to_numpy().tolist() == [["a", 20], ["b", 20], ["a", 10]]
    a, b, coarse = (agreement.loc[i] for i in range(3))
    # a: tumor, tumor, TME, none; true: tumor, tumor, tumor, TME.
    assert (a["tumor_dice"], a["tumor_recall"]) == (pytest.approx(4 / 5), pytest.approx(2 / 3))
    assert a["tme_accuracy"] == pytest.approx(2 / 4)
    assert (b["n_tiles"], b["n_tumor"], b["tme_accuracy"]) == (1, 0, 1.0)  # the other tile has no region
    assert math.isnan(b["tumor_recall"])
    assert (coarse["n_tiles"], coarse["tme_accuracy"]) == (1, 0.0)


def test_other_columns_of_the_tables_change_nothing():
    tiles = TILES.assign(region="anything", x=0, in_tumor_region=True)
    pd.testing.assert_frame_equal(
        agreement_by_slide(tiles, REGIONS.assign(prototype="tumor")), agreement_by_slide(TILES, REGIONS)
    )


def test_an_annotation_may_name_the_magnification():
    agreement = agreement_by_slide(TILES, REGIONS.assign(magnification=20), ["core", "rim"])
    assert agreement["magnification"].tolist() == [20, 20]


def test_an_annotation_that_cannot_be_matched_is_refused():
    with pytest.raises(InputError, match="regions: lacks the column region"):
        agreement_by_slide(TILES, REGIONS.drop(columns="region"))
    with pytest.raises(InputError, match="tiles: lacks the column magnification"):
        agreement_by_slide(TILES.drop(columns="magnification"), REGIONS)
    with pytest.raises(InputError, match=r"1 rows describe a place again, e\.g\. .*'x': 56"):
        agreement_by_slide(TILES, pd.concat([REGIONS, REGIONS[3:4]]))
    with pytest.raises(InputError, match="no row lies on the centre of a tile"):
        agreement_by_slide(TILES, REGIONS.assign(x_um=REGIONS["x_um"] + 7))
    with pytest.raises(InputError, match="regions: 8 positions are not numbers"):
        agreement_by_slide(TILES, REGIONS.assign(y_um=""))
