"""Import of TRIDENT's and CLAM's features: positions by hand, nested if the coordinates allow, nothing unpickled."""

import csv
import os

import h5py
import numpy as np
import pytest
import torch

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.slides.importing.check_files import check_files
from dmml.slides.importing.find_files import find_files
from dmml.slides.importing.import_features import import_features
from dmml.slides.importing.tile_spec import TileSpec
from dmml.store import FeatureStore

DIM = 5


def write_h5(path, features, coords, **attrs):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        if features is not None:
            file["features"] = features
        if coords is not None:
            file["coords"] = coords
            file["coords"].attrs.update(attrs)
    return path


def trident(job, slide, magnification, cells, level0_px, encoder="uni_v1", origin=(37, 11), patch=256, seed=0):
    """A file as TRIDENT writes it: corners of tiles in pixels of the finest level, on a grid of its own origin."""
    corner = np.asarray(cells) * level0_px + np.asarray(origin)
    features = np.random.default_rng(seed + magnification).normal(size=(len(corner), DIM)).astype(np.float32)
    attrs = {
        "patch_size": patch,
        "patch_size_level0": level0_px,
        "level0_magnification": 40,
        "target_magnification": magnification,
        "overlap": 0,
        "name": slide,
    }
    folder = job / f"{magnification}x_{patch}px_0px_overlap" / f"features_{encoder}"
    write_h5(folder / f"{slide}.h5", features, corner.astype(np.int64), **attrs)
    return features, corner


COARSE = [(0, 0), (1, 0), (0, 1)]
FINE = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (3, 1), (1, 3), (6, 6)]
PARENT = [0, 0, 0, 0, 1, 1, 2, -1]
"""By hand: cell // 2 among the coarse cells; (6, 6) lies under none"""


def states():
    with open("failures.csv", newline="", encoding="utf-8") as file:
        return {os.path.basename(row["file"]): row["state"] for row in csv.DictReader(file)}


def test_a_trident_job_is_imported_as_a_nested_grid(tmp_path, capsys):
    job = tmp_path / "job"
    for slide in ("A", "B.1"):
        coarse, _ = trident(job, slide, 10, COARSE, 1024)
        fine, corner = trident(job, slide, 20, FINE, 512)
    (job / "20x_256px_0px_overlap" / "patches").mkdir()
    assert main(["features", "import", str(job), "--out", "f.zarr"]) == 0
    assert "2 slides written" in (out := capsys.readouterr().out)
    assert "10x and 20x, nested" in out
    store = FeatureStore("f.zarr")
    assert store.slides() == ["A", "B.1"]
    assert store.attributes["encoder"]["name"] == "uni_v1"
    assert (store.attributes["tile_px"], store.attributes["magnifications"]) == (256, {10: 1.0, 20: 0.5})
    bag = store.read("A", 20)
    np.testing.assert_array_equal(bag.features, fine.astype(np.float16))
    np.testing.assert_array_equal(store.read("A", 10).features, coarse.astype(np.float16))
    # 256 px of 0.5 µm are 512 px of the finest level, so that has 0.25 µm/px.
    np.testing.assert_allclose(bag.position, (corner + 256) * 0.25)
    assert bag.parent.tolist() == PARENT
    assert "nominal" in store.slide_attributes("A")["mpp_source"]
    assert main(["features", "verify", "f.zarr"]) == 0


def test_the_true_mpp_replaces_the_nominal_one(tmp_path):
    _, corner = trident(tmp_path / "job", "A", 20, FINE, 512)
    import_features([tmp_path / "job"], "f.zarr", mpp=0.2325)
    store = FeatureStore("f.zarr")
    np.testing.assert_allclose(store.read("A", 20).position, (corner + 256) * 0.2325, rtol=1e-6)
    assert store.slide_attributes("A")["mpp_source"] == "--mpp"
    assert store.slide_attributes("A")["tile_um"] == {"20": 512 * 0.2325}
    assert store.slide_attributes("A")["tile_level0_px"] == {"20": 512}


def test_grids_that_do_not_nest_give_one_magnification(tmp_path, capsys):
    job = tmp_path / "job"
    trident(job, "A", 10, COARSE, 1024, origin=(37, 11))
    trident(job, "A", 20, FINE, 512, origin=(137, 11))
    assert main(["features", "import", str(job), "--out", "f.zarr"]) == 0
    assert "one magnification only: A: 20x tiles do not lie in the quarters of 10x tiles, 100 px off" in (
        capsys.readouterr().out
    )
    assert FeatureStore("f.zarr").attributes["magnifications"] == {20: 0.5}
    assert FeatureStore("f.zarr").read("A", 20).parent is None
    assert main(["features", "verify", "f.zarr"]) == 0


def test_slides_that_do_not_nest_are_named(tmp_path, capsys):
    job = tmp_path / "job"
    for slide, x in (("A", 37), ("B", 137), ("C", 37), ("D", 87)):
        trident(job, slide, 10, COARSE, 1024, origin=(37, 11))
        trident(job, slide, 20, FINE, 512, origin=(x, 11))
    assert main(["features", "import", str(job), "--out", "f.zarr"]) == 0
    assert "B, D: 20x tiles do not lie in the quarters of 10x tiles, 100 px off; the other 2 slides nest" in (
        capsys.readouterr().out
    )


def test_checked_files_do_not_keep_their_features_in_memory(tmp_path):
    """Neither as an array, nor as one that a view belongs to."""
    trident(tmp_path / "job", "A", 20, FINE, 512)
    file = check_files(find_files([tmp_path / "job"], None), None, TileSpec(), [], [])["A"][20]
    arrays = [value for value in vars(file).values() if isinstance(value, np.ndarray)]
    assert [array.shape for array in arrays] == [(len(FINE), 2)]
    assert arrays[0].base is None


def test_clam_s_coordinates_are_not_imported_as_features(tmp_path):
    corner = np.array(FINE) * 256
    (tmp_path / "clam" / "pt_files").mkdir(parents=True)
    torch.save(torch.ones(len(corner), DIM), tmp_path / "clam" / "pt_files" / "A.pt")
    write_h5(tmp_path / "clam" / "patches" / "A.h5", None, corner)
    done = import_features([tmp_path / "clam"], "f.zarr", encoder="x", mpp=0.5, level0_px=256, patch_px=256)
    assert (done.written, done.failures) == (["A"], [])


def test_an_import_warns_of_an_encoder_that_has_seen_the_slides(tmp_path, capsys):
    for encoder in ("phikon", "uni_v1"):
        trident(tmp_path / encoder, "TCGA-05-4244-01Z-00-DX1.d4ff32cd", 20, FINE, 512, encoder=encoder)
        assert main(["features", "import", str(tmp_path / encoder), "--out", f"{encoder}.zarr"]) == 0
        warned = "phikon was pre-trained on TCGA, and 1 of these 1 slides" in capsys.readouterr().out
        assert warned == (encoder == "phikon")


def test_tiles_rounded_by_a_pixel_are_nested(tmp_path):
    """Tools round corners to whole pixels of a level; verify must allow for it in an imported slide."""
    job = tmp_path / "job"
    trident(job, "A", 10, COARSE, 1024, origin=(0, 0))
    trident(job, "A", 20, FINE, 512, origin=(1, 0))
    assert import_features([job], "f.zarr").magnifications == (10, 20)
    assert FeatureStore("f.zarr").read("A", 20).parent.tolist() == PARENT
    assert main(["features", "verify", "f.zarr"]) == 0


def test_a_real_file_of_clam_is_imported(shared_data):
    """Written by another tool from the same slide: every tile lies where its corner and 0.499 µm/px say."""
    path = shared_data / "features" / "cmu_small_region_clam_layout.h5"
    import_features([path], "f.zarr", encoder="net")
    store = FeatureStore("f.zarr")
    with h5py.File(path) as file:
        bag = store.read("cmu_small_region_clam_layout", 20)
        np.testing.assert_allclose(bag.position, (file["coords"][:] + 128) * 0.499, rtol=1e-6)
        np.testing.assert_array_equal(bag.features, file["features"][:].astype(np.float16))
    assert store.attributes["tile_px"] == 256


@pytest.mark.parametrize("form", ["tensor", "mapping", "h5_files"])
def test_clam_s_tensors_are_imported_with_coordinates_from_another_folder(tmp_path, form):
    rng, corner = np.random.default_rng(0), np.array(FINE) * 256
    features = rng.normal(size=(len(corner), DIM)).astype(np.float32)
    folder = tmp_path / "clam"
    (folder / "pt_files").mkdir(parents=True)
    held = torch.from_numpy(features)
    if form == "mapping":
        torch.save({"features": held, "coords": torch.from_numpy(corner)}, folder / "pt_files" / "A.pt")
    else:
        torch.save(held, folder / "pt_files" / "A.pt")
        where = "patches" if form == "tensor" else "h5_files"
        write_h5(folder / where / "A.h5", None if form == "tensor" else features[None], corner)
    source = folder if form == "h5_files" else folder / "pt_files"
    import_features([source], "f.zarr", encoder="resnet50_trunc", mpp=0.5, level0_px=256, patch_px=256)
    bag = FeatureStore("f.zarr").read("A", 20)
    np.testing.assert_array_equal(bag.features, features.astype(np.float16))
    np.testing.assert_allclose(bag.position, (corner + 128) * 0.5)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_every_bad_file_is_named_and_the_others_imported(tmp_path, capsys):
    """Twelve kinds of bad files and a good one."""
    job = tmp_path / "job"
    trident(job, "good", 20, FINE, 512)
    folder = job / "20x_256px_0px_overlap" / "features_uni_v1"
    coords, values = np.array(FINE) * 512, np.ones((len(FINE), DIM), np.float32)
    attributes = {"patch_size": 256, "patch_size_level0": 512, "target_magnification": 20}
    write_h5(folder / "short.h5", values[:-1], coords, **attributes)
    write_h5(folder / "nan.h5", np.where(values > 0, np.nan, values), coords, **attributes)
    write_h5(folder / "huge.h5", values * 1e6, coords, **attributes)
    write_h5(folder / "wide.h5", np.ones((len(FINE), DIM + 1)), coords, **attributes)
    write_h5(folder / "none.h5", values[:0], coords[:0], **attributes)
    write_h5(folder / "coords_only.h5", None, coords, **attributes)
    write_h5(folder / "features_only.h5", values, None)
    write_h5(folder / "slide_level.h5", values[0], coords, **attributes)
    write_h5(folder / "odd.h5", values, coords, **{**attributes, "target_magnification": 7})
    whole = (folder / "good.h5").read_bytes()
    (folder / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "text.h5").write_text("no hdf5")
    torch.save({"features": Bomb()}, folder / "bomb.pt")
    torch.save(["a", "list"], folder / "list.pt")
    (folder / "empty.pt").write_bytes(b"")
    assert main(["features", "import", str(job), "--out", "f.zarr"]) == 0
    assert FeatureStore("f.zarr").slides() == ["good"]
    assert not (tmp_path / "exploded").exists()
    assert states() == {
        "short.h5": "mismatch",
        "nan.h5": "not_finite",
        "huge.h5": "not_finite",
        "wide.h5": "other_kind",
        "none.h5": "no_tissue",
        "coords_only.h5": "no_features",
        "features_only.h5": "no_coordinates",
        "slide_level.h5": "not_tiles",
        "odd.h5": "no_magnification",
        "cut.h5": "unopenable",
        "text.h5": "unopenable",
        "bomb.pt": "not_plain",
        "list.pt": "not_plain",
        "empty.pt": "not_plain",
    }
    assert "14 files not imported" in capsys.readouterr().out


def test_a_second_import_writes_only_what_changed(tmp_path):
    job = tmp_path / "job"
    for slide in "AB":
        trident(job, slide, 20, FINE, 512)
    assert import_features([job], "f.zarr").written == ["A", "B"]
    trident(job, "A", 20, FINE[:3], 512)
    again = import_features([job], "f.zarr")
    assert (again.written, again.skipped) == (["A"], ["B"])
    assert FeatureStore("f.zarr").n_tokens("A", 20) == 3
    path = job / "20x_256px_0px_overlap" / "features_uni_v1" / "A.h5"
    size = path.stat().st_size
    values, _ = trident(job, "A", 20, FINE[:3], 512, seed=1)
    assert path.stat().st_size == size, "of the same size, with other values"
    assert import_features([job], "f.zarr").written == ["A"]
    np.testing.assert_array_equal(FeatureStore("f.zarr").read("A", 20).features, values.astype(np.float16))
    with pytest.raises(InputError, match=r"encoder\.name is uni_v1 in the store and virchow now"):
        import_features([job / "20x_256px_0px_overlap" / "features_uni_v1" / "A.h5"], "f.zarr", encoder="virchow")


def test_missing_statements_are_requested_by_option(tmp_path):
    path = write_h5(tmp_path / "in" / "A.h5", np.ones((8, DIM)), np.array(FINE) * 256)
    with pytest.raises(InputError, match=r"A\.h5: µm per pixel of the finest level unknown.*--mpp"):
        import_features([path], "f.zarr", encoder="net")
    with pytest.raises(InputError, match=r"A\.h5: side of a tile.*--level0-px"):
        import_features([path], "f.zarr", encoder="net", mpp=0.5)
    with pytest.raises(InputError, match=r"nothing names the encoder.*--encoder"):
        import_features([path], "f.zarr", mpp=0.5, level0_px=256, patch_px=256)
    with pytest.raises(InputError, match=r"A\.h5: its magnification is unknown.*--magnification"):
        import_features([path], "f.zarr", encoder="net", mpp=0.5, level0_px=256)
    assert not (tmp_path / "f.zarr").exists()
    for name in ("a", "b"):
        trident(tmp_path / "job", "A", 20, FINE, 512, encoder=name)
    with pytest.raises(InputError, match="features of a, b; choose one with --encoder"):
        import_features([tmp_path / "job"], "f.zarr")
    assert import_features([tmp_path / "job"], "f.zarr", encoder="b").written == ["A"]
    with pytest.raises(InputError, match="nowhere: no such file"):
        import_features(["nowhere"], "f.zarr")
