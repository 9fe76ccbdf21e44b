"""Import of slide2vec's features, in the files that its versions 1, 2, 3 and 4 to 7 write."""

import json
import os

import numpy as np
import pytest
import torch

from dmml.__main__ import main
from dmml.store import FeatureStore

DIM = 6
CELLS = np.array([(0, 0), (0, 1), (1, 0), (1, 1), (3, 2)])
LEVEL0_PX, SPACING, BASE = 445, 0.5, 0.2517
"""Tiles of 224 px of 0.5 µm on a slide of 0.2517 µm/px, to whole pixels of its finest level"""
CORNER = CELLS * LEVEL0_PX + (37, 11)


def features_of(seed=0):
    return np.random.default_rng(seed).normal(size=(len(CELLS), DIM)).astype(np.float32)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True))


def tiling_record(slide):
    """Content of `<slide>.coordinates.meta.json` of versions 4 to 7."""
    return {
        "provenance": {"sample_id": slide, "image_path": f"/data/{slide}.svs", "mask_path": None, "backend": "cucim"},
        "slide": {"dimensions": [9000, 8000], "base_spacing_um": BASE, "level_downsamples": [1.0, 4.0]},
        "tiling": {
            "requested_tile_size_px": 224,
            "requested_spacing_um": SPACING,
            "read_level": 0,
            "read_tile_size_px": LEVEL0_PX,
            "read_spacing_um": BASE,
            "tile_size_lv0": LEVEL0_PX,
            "tolerance": 0.05,
            "step_px_lv0": LEVEL0_PX,
            "overlap": 0.0,
            "min_tissue_fraction": 0.1,
            "is_within_tolerance": False,
            "n_tiles": len(CELLS),
        },
        "segmentation": {"tissue_method": "hsv"},
        "filtering": {"a_t": 4},
        "artifact": {"coordinate_space": "level0_px", "tile_order": "x_then_y", "annotation": None},
    }


def feature_record(slide, kind="tile_embeddings", **more):
    """Content of the `<slide>.meta.json` beside the features."""
    return {
        "sample_id": slide,
        "artifact_type": kind,
        "format": "pt",
        "feature_dim": DIM,
        "num_tiles": len(CELLS),
        "encoder_name": "uni2",
        "encoder_level": "tile",
        "image_path": f"/data/{slide}.svs",
        "tile_size_lv0": LEVEL0_PX,
        **more,
    }


def write_run(run, slide="A", form="pt", part="", kind="tile_embeddings", **more):
    """A slide of a run of version 7; returns its features."""
    values = features_of()
    folder, tiles = run / kind / part, run / "tiles" / part
    folder.mkdir(parents=True, exist_ok=True)
    tiles.mkdir(parents=True, exist_ok=True)
    if form == "pt":
        torch.save(torch.from_numpy(values), folder / f"{slide}.pt")
    else:
        np.savez_compressed(folder / f"{slide}.npz", features=values, tile_index=np.arange(len(CELLS)))
    write_json(folder / f"{slide}.meta.json", feature_record(slide, kind, **more))
    np.savez_compressed(
        tiles / f"{slide}.coordinates.npz",
        tile_index=np.arange(len(CELLS), dtype=np.int32),
        x=CORNER[:, 0].astype(np.int64),
        y=CORNER[:, 1].astype(np.int64),
        tissue_fractions=np.ones(len(CELLS), np.float32),
    )
    write_json(tiles / f"{slide}.coordinates.meta.json", tiling_record(slide))
    return values


def check_import(*inputs, mpp=BASE, encoder="uni2", slide="A"):
    assert main(["features", "import", *map(str, inputs), "--out", "f.zarr"]) == 0
    store = FeatureStore("f.zarr")
    assert store.attributes["encoder"]["name"] == encoder
    assert (store.attributes["tile_px"], store.attributes["magnifications"]) == (224, {20: 0.5})
    bag = store.read(slide, 20)
    np.testing.assert_array_equal(bag.features, features_of().astype(np.float16))
    np.testing.assert_allclose(bag.position, (CORNER + LEVEL0_PX / 2) * mpp, rtol=1e-6)
    assert store.slide_attributes(slide)["tile_um"] == {"20": pytest.approx(LEVEL0_PX * mpp)}
    assert main(["features", "verify", "f.zarr"]) == 0


@pytest.mark.parametrize("form", ["pt", "npz"])
@pytest.mark.parametrize("named", ["", "tile_embeddings", "tile_embeddings/A.{}"])
def test_a_run_is_imported_whichever_part_of_it_is_named(tmp_path, form, named):
    write_run(tmp_path / "2026-01-01", form=form)
    check_import(tmp_path / "2026-01-01" / named.format(form))


def test_the_tiles_below_a_slide_encoder_are_those_of_its_tile_encoder(tmp_path):
    write_run(tmp_path / "run", encoder_name="prism", compatibility={"tile_encoder": "virchow"})
    (tmp_path / "run" / "slide_embeddings").mkdir()
    torch.save(torch.ones(DIM), tmp_path / "run" / "slide_embeddings" / "A.pt")
    check_import(tmp_path / "run", encoder="virchow")


def test_the_tiles_of_a_class_have_coordinates_of_their_own(tmp_path, capsys):
    for part in ("tumor", "stroma"):
        write_run(tmp_path / "run", part=part)
    check_import(tmp_path / "run" / "tile_embeddings" / "tumor")
    assert main(["features", "import", str(tmp_path / "run"), "--out", "both.zarr"]) == 0
    assert "is of the same slide and magnification as" in capsys.readouterr().out


def test_a_run_of_version_3_is_imported(tmp_path):
    """Its coordinates state a list of settings, and not the scale of the finest level."""
    write_run(tmp_path / "run")
    write_json(
        tmp_path / "run" / "tiles" / "A.coordinates.meta.json",
        {
            "sample_id": "A",
            "image_path": "/data/A.svs",
            "backend": "asap",
            "target_spacing_um": SPACING,
            "target_tile_size_px": 224,
            "read_level": 0,
            "read_spacing_um": BASE,
            "read_tile_size_px": LEVEL0_PX,
            "tile_size_lv0": LEVEL0_PX,
            "step_px_lv0": LEVEL0_PX,
            "overlap": 0.0,
            "num_tiles": len(CELLS),
        },
    )
    check_import(tmp_path / "run", mpp=SPACING * 224 / LEVEL0_PX)


@pytest.mark.parametrize("version", [1, 2])
def test_runs_of_versions_1_and_2_are_imported(tmp_path, version):
    run = tmp_path / "run"
    (run / "features").mkdir(parents=True)
    (run / "coordinates").mkdir()
    torch.save(torch.from_numpy(features_of()), run / "features" / "A.pt")
    values = {"tile_level": 0, "resize_factor": 445 / 224, "tile_size_resized": 445, "tile_size_lv0": LEVEL0_PX}
    values |= {"target_spacing": SPACING} | ({} if version == 1 else {"target_tile_size": 224, "contour_index": 0})
    kinds = [("x", int), ("y", int), *((name, type(value)) for name, value in values.items())]
    records = np.zeros(len(CELLS), kinds)
    records["x"], records["y"] = CORNER.T
    for name, value in values.items():
        records[name] = value
    np.save(run / "coordinates" / "A.npy", records)
    (run / "config.yaml").write_text("model:\n  level: tile\n  name: uni2\n")
    check_import(run, mpp=SPACING * 224 / LEVEL0_PX)


def change(run, name, **settings):
    path = run / name
    content = json.loads(path.read_text())
    for key, value in settings.items():
        section, _, inner = key.partition("__")
        (content if not inner else content[section])[inner or section] = value
    path.write_text(json.dumps(content))


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


TILING = "tiles/A.coordinates.meta.json"
NEAR_MISSES = {
    "overlap": (
        lambda run: change(run, TILING, tiling__tile_size_lv0=890, slide__base_spacing_um=0.1258),
        "would overlap",
    ),
    "other unit": (
        lambda run: change(run, TILING, artifact__coordinate_space="read_px"),
        "its coordinates are in read_px",
    ),
    "no scale": (lambda run: change(run, TILING, slide__base_spacing_um=None), "base_spacing_um is None"),
    "no size": (lambda run: (run / TILING).unlink(), "which states the size of its tiles, is missing"),
    "no coordinates": (lambda run: (run / "tiles/A.coordinates.npz").unlink(), "has features without coordinates"),
    "broken json": (lambda run: (run / TILING).write_text("{"), "is not JSON"),
    "one tile less": (
        lambda run: torch.save(torch.ones(4, DIM), run / "tile_embeddings/A.pt"),
        "4 features but 5 coordinates",
    ),
    "a pickle": (lambda run: torch.save(Bomb(), run / "tile_embeddings/A.pt"), "is not a file of plain tensors"),
    "of regions": (
        lambda run: change(run, "tile_embeddings/A.meta.json", artifact_type="hierarchical_embeddings"),
        "holds slide2vec's hierarchical_embeddings, not tile_embeddings",
    ),
    "shuffled": (
        lambda run: np.savez(
            run / "tiles/A.coordinates.npz", x=CORNER[:, 0], y=CORNER[:, 1], tile_index=[4, 3, 2, 1, 0]
        ),
        "tile_index does not count its tiles from 0",
    ),
    "pickled coordinates": (
        lambda run: np.savez(run / "tiles/A.coordinates.npz", x=np.array([Bomb()] * 5), y=CORNER[:, 1]),
        "is not a complete archive of plain arrays",
    ),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses_are_refused_in_one_line(tmp_path, capsys, name):
    spoil, message = NEAR_MISSES[name]
    write_run(tmp_path / "run")
    spoil(tmp_path / "run")
    assert main(["features", "import", str(tmp_path / "run"), "--out", "f.zarr"]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert "A" in line
    assert not (tmp_path / "f.zarr").exists()
    assert not os.path.exists("exploded")


def test_regions_and_vectors_of_slides_are_not_taken_for_tiles(tmp_path, capsys):
    write_run(tmp_path / "regions", kind="hierarchical_embeddings", form="npz")
    write_run(tmp_path / "more", kind="hierarchical_embeddings")
    for run in ("regions", "more"):
        assert main(["features", "import", str(tmp_path / run), "--out", "f.zarr"]) == 2
    assert "holds slide2vec's hierarchical_embeddings" in capsys.readouterr().err.splitlines()[-1]
