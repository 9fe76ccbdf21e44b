"""The benchmark of cluster maps: its references on planted tiles, its configs, and its page."""

from math import comb

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.slow

PLACE = ["slide_id", "magnification", "x_um", "y_um"]


def planted(n_slides=6, shift=0.0, seed=0):
    """Tiles of which tumor and stroma differ in all features; a third of them are tumor."""
    rng, tables = np.random.default_rng(seed), []
    for slide in range(n_slides):
        for m, n in ((10, 9), (20, 30)):
            region = np.where(np.arange(n) % 3 == 0, "tumor", "stroma")
            features = rng.normal(size=(n, 8)) + shift
            features += 6.0 * (region == "tumor")[:, None]
            table = pd.DataFrame({"slide_id": f"S{slide}", "magnification": m, "region": region})
            table["glass"] = 0.5 * (region == "tumor")
            table["x_um"], table["y_um"], table["features"] = np.arange(n) * 112.0, 56.0, list(features)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def tiles_of(truth, prototype):
    return truth[PLACE].assign(prototype=prototype)


def test_clusters_of_planted_tiles_and_taught_regions_are_right_and_random_ones_are_not():
    from prototype_references import agreement, named_better, randomly_split, taught_tiles, two_means

    truth, training = planted(), planted(seed=1)
    exact = tiles_of(truth, np.where(truth["region"] == "tumor", "tumor", "tme"))
    for tiles in (named_better(two_means(truth, training), truth), taught_tiles(truth, training), exact):
        assert agreement(tiles, truth)[["tumor_dice", "tumor_recall", "tme_accuracy"]].min().min() == 1.0
    # Dealt at random, a third of a cluster with a third of the tiles is right: Dice and recall 1/3, accuracy 5/9.
    random = randomly_split(exact, truth).mean()
    assert random["tumor_dice"] == pytest.approx(1 / 3, abs=0.02)
    assert random["tumor_recall"] == pytest.approx(1 / 3, abs=0.02)
    assert random["tme_accuracy"] == pytest.approx(5 / 9, abs=0.02)
    # Three of nine tiles are in a cluster and three are tumor: by the counts of common tiles, 3, 5, 7 or 9 are right.
    coarse = randomly_split(exact, truth, with_better_names=True).xs(10, level="magnification").mean()
    ways = {right: comb(3, k) * comb(6, 3 - k) for k, right in enumerate((3, 5, 7, 9))}
    expected = sum(n * max(right, 9 - right) / 9 for right, n in ways.items()) / comb(9, 3)
    assert coarse["tme_accuracy"] == pytest.approx(expected, abs=0.02)


def test_names_are_exchanged_only_where_that_helps():
    from prototype_references import named_better

    truth = planted(n_slides=2)
    is_tumor = truth["region"] == "tumor"
    is_exchanged = truth["slide_id"] == "S1"
    named = np.where(is_tumor ^ is_exchanged, "tumor", "tme")
    better = named_better(tiles_of(truth, named), truth)
    assert (better["prototype"] == np.where(is_tumor, "tumor", "tme")).all()
    # One naming for both slides: nothing to gain here, and everything if both are exchanged.
    once = named_better(tiles_of(truth, named), truth, ("magnification",))
    assert (once["prototype"] == named).all()
    wrong = tiles_of(truth, np.where(is_tumor, "tme", "tumor"))
    assert (named_better(wrong, truth, ("magnification",))["prototype"] == np.where(is_tumor, "tumor", "tme")).all()


def test_the_page_states_means_and_counts_of_namings():
    from prototype_maps import evaluate
    from prototype_page import page

    truth = planted()
    is_tumor = (truth["region"] == "tumor").to_numpy()
    exact = tiles_of(truth, np.where(is_tumor, "tumor", "tme"))
    exchanged = tiles_of(truth, np.where(is_tumor, "tme", "tumor"))
    none = tiles_of(truth, None)
    results = evaluate({"distilled": [exact, exchanged], "undistilled": [none]}, truth, planted(seed=1))
    coarse = results["magnifications"]["10"]
    assert coarse["maps"]["distilled"]["tme_accuracy"]["value"] == pytest.approx(0.5)  # mean of 1 and 0
    assert coarse["maps"]["distilled"]["by_seed"]["tumor_dice"] == [1.0, 0.0]
    assert coarse["maps"]["distilled_named_better"]["tme_accuracy"]["value"] == 1.0
    assert coarse["maps"]["distilled_named_once"]["tme_accuracy"]["value"] == 1.0
    assert coarse["maps"]["all_tumor"]["tumor_dice"]["value"] == pytest.approx(0.5)  # 2 · 3 / (9 + 3)
    assert coarse["edge"]["clusters"] == 1.0  # planted: tumor tiles hold glass
    assert coarse["edge"]["random"] < 0.8
    assert coarse["naming"]["distilled"] == {"maps": 12, "right": 6, "wrong": 6, "single": 0}
    assert coarse["naming"]["undistilled"] == {"maps": 6, "right": 0, "wrong": 0, "single": 6}
    settings = {"patients": 9, "held_out": 6, "slides": 6, "epochs": 2, "seeds": [0, 1]}
    text = page(results | {"settings": settings, "picture": "p.png", "pictured": "of two patients"})
    assert "54 tiles on 6 slides, 33 % of them tumor" in text
    assert "Of 12 maps, 6 have the better of the two namings and 6 the worse" in text
    assert "| – |" in text  # the precision of a TME cluster that is nowhere
    assert "nan" not in text


def test_fits_are_those_of_the_configs_of_the_paper(tmp_path):
    """All but the data, the epochs, the seed and the folder is as in `configs/paper`."""
    import yaml
    from prototype_models import CONFIGS, _config

    for name in ("survival", "survival_student"):
        changed = _config(name, tmp_path, tmp_path / "fit", seed=3, epochs=7)
        config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        assert changed["model"] == config["model"]
        of_data, of_paper = (each["data"]["init_args"] for each in (changed, config))
        assert {"split", "fold"} & set(of_data) == set()
        assert all(of_data[key] == of_paper[key] for key in ("gene_sets", "batch_size", "max_tokens", "outcome"))
        assert (changed["trainer"]["max_epochs"], changed["seed_everything"]) == (7, 3)
        assert [each["class_path"] for each in changed["trainer"]["callbacks"]] == [
            each["class_path"] for each in config["trainer"]["callbacks"]
        ]
