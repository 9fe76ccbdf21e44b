"""What the clusters of a model are compared with: maps that need no model, and a map that was taught the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from dmml.evaluation.statistics.tile_maps import TME, TUMOR, agreement_by_slide, map_agreement
from dmml.slides.label_folder import label_shares, read_label_folder
from dmml.slides.tiling.grid import DEFAULT_TILE_PX, tile_um
from dmml.store import FeatureStore

DRAWS = 200
"""Random maps per slide"""
PLACE = ["slide_id", "magnification", "x_um", "y_um"]


def tiles_of_store(cohort: Path) -> pd.DataFrame:
    """One row per tile of a cohort's store: its place, true region, share of `glass`, and `features`."""
    store, truth = FeatureStore(cohort / "features.zarr"), read_label_folder(cohort / "truth")
    tables = []
    for slide_id in store.slides():
        for m in sorted(store.attributes["magnifications"]):
            bag = store.read(slide_id, m)
            table = pd.DataFrame({"slide_id": slide_id, "magnification": m}, index=range(len(bag.features)))
            table["x_um"], table["y_um"] = bag.position[:, 0], bag.position[:, 1]
            table["region"] = truth.regions(slide_id, bag.position, tile_um(m, DEFAULT_TILE_PX))
            shares = label_shares(
                truth.image(slide_id),
                truth.um_per_pixel,
                bag.position,
                tile_um(m, DEFAULT_TILE_PX),
                max(truth.names) + 1,
            )
            table["glass"] = shares[:, truth.background]
            table["features"] = list(bag.features.astype(np.float32))
            tables.append(table)
    tiles = pd.concat(tables, ignore_index=True)
    return tiles[tiles["region"] != truth.names[truth.background]].reset_index(drop=True)


def agreement(tiles: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Agreement of the column `prototype` of `tiles` with the true regions, by slide and magnification."""
    return agreement_by_slide(tiles, truth[[*PLACE, "region"]]).set_index(["slide_id", "magnification"]).sort_index()


def named_better(
    tiles: pd.DataFrame, truth: pd.DataFrame, unit: tuple[str, ...] = ("slide_id", "magnification")
) -> pd.DataFrame:
    """Exchange the names of the clusters where this raises the accuracy.

    Args:
        tiles: Rows of `tiles.csv`.
        truth: Result of `tiles_of_store`.
        unit: Columns whose values have a naming in common: that of each slide, or with the magnification alone one naming
            for all slides, by their mean accuracy.
    """
    exchanged = tiles.assign(prototype=tiles["prototype"].map({TUMOR: TME, TME: TUMOR}))
    gain = agreement(exchanged, truth)["tme_accuracy"] - agreement(tiles, truth)["tme_accuracy"]
    mean_gain = gain.groupby(level=list(unit)).mean().rename("gain").reset_index()
    is_better = tiles[list(unit)].merge(mean_gain, on=list(unit), how="left")["gain"].to_numpy() > 0
    return tiles.assign(prototype=exchanged["prototype"].where(is_better, tiles["prototype"]))


def randomly_split(
    tiles: pd.DataFrame, truth: pd.DataFrame, with_better_names: bool = False, seed: int = 0
) -> pd.DataFrame:
    """Mean agreement when the clusters of each slide are dealt to its tiles at random; clusters keep their sizes.

    Args:
        tiles: Rows of `tiles.csv`.
        truth: Result of `tiles_of_store`.
        with_better_names: Whether the names are exchanged in every draw where this raises the accuracy.
        seed: Seed of the draws.
    """
    joined = tiles.merge(truth[[*PLACE, "region"]], on=PLACE)
    generator, rows = np.random.default_rng(seed), []
    for (slide_id, m), group in joined.groupby(["slide_id", "magnification"]):
        region = (group["region"] == TUMOR).to_numpy()
        draws = []
        for _ in range(DRAWS):
            cluster = generator.permutation(group["prototype"].to_numpy())
            drawn = map_agreement(cluster == TUMOR, cluster == TME, region)
            if with_better_names:
                exchanged = map_agreement(cluster == TME, cluster == TUMOR, region)
                drawn = max(drawn, exchanged, key=lambda each: each.tme_accuracy)
            draws.append(asdict(drawn))
        rows.append({"slide_id": slide_id, "magnification": m} | pd.DataFrame(draws).mean().to_dict())
    return pd.DataFrame(rows).set_index(["slide_id", "magnification"]).sort_index()


def two_means(truth: pd.DataFrame, training: pd.DataFrame) -> pd.DataFrame:
    """Two clusters of each slide by 2-means on its features, in standard deviations of the training tiles."""

    def of_slide(features: np.ndarray, m: int) -> np.ndarray:
        if len(features) < 2:
            return np.full(len(features), TUMOR, dtype=object)
        scaler = StandardScaler().fit(np.stack(training.loc[training["magnification"] == m, "features"].tolist()))
        labels = KMeans(2, n_init=10, random_state=0).fit_predict(scaler.transform(features))
        return np.where(labels == 0, TUMOR, TME)

    return _by_slide(truth, of_slide)


def taught_tiles(truth: pd.DataFrame, training: pd.DataFrame) -> pd.DataFrame:
    """Tumor or not by a logistic regression on the features of the training tiles and their true regions."""
    models = {}
    for m, group in training.groupby("magnification"):
        features = np.stack(group["features"].tolist())
        scaler = StandardScaler().fit(features)
        is_tumor = (group["region"] == TUMOR).to_numpy()
        models[m] = scaler, LogisticRegression(C=0.01, max_iter=2000).fit(scaler.transform(features), is_tumor)

    def of_slide(features: np.ndarray, m: int) -> np.ndarray:
        scaler, model = models[m]
        return np.where(model.predict(scaler.transform(features)), TUMOR, TME)

    return _by_slide(truth, of_slide)


def _by_slide(truth: pd.DataFrame, cluster: Callable[[np.ndarray, int], np.ndarray]) -> pd.DataFrame:
    """Apply a function of (N, D) features and the magnification, which names the tiles, to every slide."""
    tables = []
    for (_, m), group in truth.groupby(["slide_id", "magnification"], sort=False):
        names = cluster(np.stack(group["features"].tolist()), int(m))
        tables.append(group[PLACE].assign(prototype=names))
    return pd.concat(tables, ignore_index=True)
