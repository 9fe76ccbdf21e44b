"""Positions of imported tiles: units, spacing and size must agree; features of STAMP are read."""

import h5py
import numpy as np
import pytest

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.slides.importing.import_features import import_features
from dmml.store import FeatureStore, SlideFeatures

CELLS = np.array([(x, y) for x in range(5) for y in range(4)])
DIM = 8
CLAM = {"encoder": "resnet50", "mpp": 0.25, "level0_px": 512, "patch_px": 256}


def write(path, coords, features=None, names=("features", "coords"), **attrs):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file[names[0]] = rng.normal(size=(len(coords), DIM)).astype("f4") if features is None else features
        file[names[1]] = coords
        file.attrs.update(attrs)
    return path


def stamp(path, coords, **attrs):
    return write(path, coords, names=("feats", "coords"), **attrs)


def test_the_overlapping_tiles_of_a_wrong_size_are_refused(shared_faults, capsys):
    """40x mistaken for 20x: tiles that are printed to be 512 px wide are 256 px apart."""
    folder = shared_faults / "overlapping_tiles" / "clam5" / "h5_files"
    options = ["--encoder", "resnet50", "--mpp", "0.25", "--patch-px", "256"]
    assert main(["features", "import", str(folder), *options, "--level0-px", "512", "--out", "o.zarr"]) == 2
    printed = capsys.readouterr().err
    assert "S1.h5: its tiles are 256 px apart, but --level0-px says that a tile is 512 px wide" in printed
    assert main(["features", "import", str(folder), *options, "--level0-px", "256", "--out", "p.zarr"]) == 0
    assert FeatureStore("p.zarr").attributes["magnifications"] == {40: 0.25}
    assert main(["features", "verify", "p.zarr"]) == 0


def test_files_with_overlapping_tiles_are_refused_and_the_others_imported(tmp_path):
    stated = {"patch_size": 256, "patch_size_level0": 512, "target_magnification": 20}
    write(tmp_path / "in" / "half.h5", CELLS * 256, **stated, overlap=128)
    write(tmp_path / "in" / "few.h5", CELLS * 448, **stated, overlap=32)
    write(tmp_path / "in" / "good.h5", CELLS * 512, **stated)
    write(tmp_path / "in" / "sparse.h5", CELLS[::3] * 512, **stated)
    write(tmp_path / "in" / "one.h5", CELLS[:1] * 512, **stated)
    done = import_features([tmp_path / "in"], "f.zarr", encoder="x")
    assert done.written == ["good", "one", "sparse"]
    assert [(failure.state, failure.file[-7:]) for failure in done.failures] == [
        ("overlap", "/few.h5"),
        ("overlap", "half.h5"),
    ]
    assert "are 448 px apart, but the file states that a tile is 512 px wide" in done.failures[0].reason
    assert main(["features", "verify", "f.zarr"]) == 0


def test_grids_of_several_pieces_of_tissue_may_touch_and_corners_may_be_rounded(tmp_path, capsys):
    """CLAM begins a grid at every contour, and rounds to pixels of a level."""
    pieces = np.concatenate([CELLS * 512, CELLS * 512 + (4 * 512 + 300, 3 * 512 + 200)])
    rounded = np.round(CELLS * 512 + np.random.default_rng(0).uniform(-4, 4, CELLS.shape))
    for name, corner in {"pieces": pieces, "rounded": rounded}.items():
        write(tmp_path / "in" / f"{name}.h5", corner.astype(int))
    done = import_features([tmp_path / "in"], "f.zarr", **CLAM)
    assert done.written == ["pieces", "rounded"]
    assert [warning.split(": ")[1] for warning in done.warnings] == ["2 of 40 tiles overlap another"]
    assert main(["features", "verify", "f.zarr"]) == 0
    assert "2 slides, all sound, 1 with warnings" in capsys.readouterr().out


def test_a_size_that_fits_no_magnification_and_options_that_disagree_are_named(tmp_path):
    path = write(tmp_path / "in" / "A.h5", CELLS * 256)
    with pytest.raises(
        InputError, match=r"tiles are 64 µm wide, .*should be 128 µm \(256 px of 0\.25 µm\).*--level0-px"
    ):
        import_features([path], "f.zarr", **{**CLAM, "level0_px": 256}, magnification=20)
    path = write(tmp_path / "in" / "A.h5", CELLS * 512, patch_size=256, patch_size_level0=512, level0_magnification=40)
    done = import_features([path], "f.zarr", encoder="x", level0_px=256, patch_px=256)
    assert done.warnings == [f"{path}: --level0-px 256 is not used, since the file states 512"]
    assert FeatureStore("f.zarr").slide_attributes("A")["mpp"] == 0.25, "from level0_magnification"
    path = write(tmp_path / "in" / "A.h5", CELLS * 1024)
    done = import_features([path], "g.zarr", **CLAM)
    assert done.warnings == [f"{path}: tiles of 512 px are 1024 px apart; is --level0-px 512 right?"]


@pytest.mark.parametrize(
    ("corner", "stated"),
    [
        (CELLS * 256.0 + 13, {"unit": "um", "tile_size_um": 256.0, "tile_size_px": 224, "feat_type": "tile"}),
        (CELLS * 256.0 + 13, {"unit": "um", "tile_size": 256.0}),
        (CELLS * 256.0 + 13, {"tile_size_um": 256.0, "tile_size_px": 224}),
        (CELLS * 0.256 + 0.013, {"unit": "mm", "tile_size_um": 256.0, "tile_size_px": 224}),
        (CELLS * 224, {}),
        (CELLS * 224, {"tile_size": 224}),
    ],
)
def test_features_of_stamp_are_imported_with_their_own_units(tmp_path, corner, stated):
    """Of version 2 (µm), 2.0 (`tile_size`) and 1 (pixels of 256 µm / 224), whatever scale is given by mistake."""
    path = stamp(tmp_path / "in" / "S.h5", corner, extractor="mahmood-uni2", **stated)
    import_features([path], "f.zarr")
    import_features([path], "g.zarr", mpp=0.25, level0_px=512)
    for name in ("f.zarr", "g.zarr"):
        store = FeatureStore(name)
        assert (store.attributes["encoder"]["name"], store.attributes["tile_px"]) == ("mahmood-uni2", 224)
        assert store.attributes["magnifications"] == {10: 1.0}, "8.75x, the nominal 10x"
        offset = 0 if np.issubdtype(corner.dtype, np.integer) else 13
        np.testing.assert_allclose(store.read("S", 10).position, CELLS * 256.0 + offset + 128, rtol=1e-6)
        slide_attributes = store.slide_attributes("S")
        assert slide_attributes["tile_um"] == {"10": 256.0}
        assert "mpp" not in slide_attributes, "nobody knows the slide's own scale"
        assert main(["features", "verify", name]) == 0
        assert main(["features", "list", name]) == 0


def test_missing_and_contradictory_statements_of_stamp_files_are_named(tmp_path):
    for name, coords, stated, message in (
        ("no_size", CELLS * 256.0, {"unit": "um"}, "does not state the size of a tile"),
        ("inch", CELLS * 256.0, {"unit": "inch"}, "its coordinates are in 'inch'"),
        ("slide", CELLS[:1], {"feat_type": "slide"}, "holds features of a slide"),
        (
            "overlap",
            CELLS * 128.0,
            {"tile_size_um": 256.0},
            "are 128 µm apart, but the file states that a tile is 256 µm",
        ),
    ):
        path = stamp(tmp_path / "in" / f"{name}.h5", coords, extractor="x", **stated)
        with pytest.raises(InputError, match=message):
            import_features([path], "f.zarr")
    stamp(tmp_path / "two" / "A.h5", CELLS * 224, extractor="a")
    stamp(tmp_path / "two" / "B.h5", CELLS * 224, extractor="b")
    with pytest.raises(InputError, match=r"the files name several encoders \(a, b\)"):
        import_features([tmp_path / "two"], "f.zarr")


def test_tiles_of_zeros_are_named_at_import_and_by_verify(tmp_path, capsys):
    features = np.random.default_rng(0).normal(size=(len(CELLS), DIM)).astype("f4")
    features[3:5] = 0
    write(tmp_path / "in" / "A.h5", CELLS * 512, features)
    options = ["--encoder", "resnet50", "--mpp", "0.25", "--level0-px", "512", "--patch-px", "256"]
    assert main(["features", "import", str(tmp_path / "in"), *options, "--out", "f.zarr"]) == 0
    assert "A.h5: 2 of 20 tiles hold zeros only" in capsys.readouterr().out
    assert main(["features", "verify", "f.zarr"]) == 2
    assert "A: 20x: 2 tiles hold zeros only" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("step", "slide_attributes", "message"),
    [
        (56.0, {}, r"20x: 20 of 20 tiles of 112 µm overlap another; most are 56 µm apart"),
        (112.0, {"tile_um": {"20": 128.0}}, r"20x: 20 of 20 tiles of 128 µm overlap another"),
        (112.0, {"mpp": 12.0}, r"20x: its slide is stated to have 12 µm/px, which no scanner has"),
        (
            224.0,
            {"tile_um": {"20": 224.0}},
            r"20x: its tiles are 224 µm wide, but at this magnification they should be 112 µm",
        ),
        (112_000.0, {}, r"20x: its tiles lie up to 448 mm apart"),
    ],
)
def test_verify_fails_on_stores_that_were_imported_wrongly(tmp_path, capsys, step, slide_attributes, message):
    store = FeatureStore.create("f.zarr", {"name": "x", "dim": DIM}, {20: 0.5})
    features = np.ones((len(CELLS), DIM))
    store.write("bad", {20: SlideFeatures(features, CELLS * step + step / 2)}, {"mpp": 0.5, **slide_attributes})
    store.write("good", {20: SlideFeatures(features, CELLS * 112.0 + 56)}, {"mpp": 0.5})
    assert main(["features", "verify", "f.zarr"]) == 2
    printed = capsys.readouterr()
    import re

    assert re.search(f"^bad: .*{message}", printed.out, re.MULTILINE), printed.out
    assert "1 of 2 slides have tiles that overlap or an impossible scale (bad); import them again" in printed.err


def test_a_single_overlap_among_dmml_s_own_tiles_fails_verification(capsys):
    store = FeatureStore.create("f.zarr", {"name": "x", "dim": DIM}, {20: 0.5})
    position = CELLS * 112.0 + 56
    position[-1] -= 20
    for name, slide_attributes in {"extracted": {"tissue_mm2": 1.0}, "other": {}}.items():
        store.write(name, {20: SlideFeatures(np.ones((len(CELLS), DIM)), position)}, slide_attributes)
    assert main(["features", "verify", "f.zarr"]) == 2
    printed = capsys.readouterr().out
    assert "extracted: 20x: 4 of 20 tiles" in printed
    assert "warning: other: 20x: 4 of 20 tiles" in printed


def test_a_wrong_tile_size_is_refused_with_the_options_that_help(tmp_path):
    """Following the advice gives a store; no advice is given if none would help."""
    path = write(tmp_path / "in" / "A.h5", CELLS * 512)
    with pytest.raises(InputError, match=r"128 px of 0\.25 µm that are scaled to 256 px have 80x, .*--level0-px"):
        import_features([path], "f.zarr", **{**CLAM, "level0_px": 128})
    for factor in (2, 4):
        with pytest.raises(InputError, match=r"give the true --level0-px \(512 px for tiles side by side"):
            import_features([path], "f.zarr", **{**CLAM, "level0_px": factor * 512})
    in_um = write(tmp_path / "um" / "A.h5", CELLS * 128.0)
    with pytest.raises(InputError, match=r"--level0-px \(128 px .*, with --mpp 1 if its coordinates are µm\)"):
        import_features([in_um], "f.zarr", **CLAM)
    import_features([in_um], "f.zarr", **{**CLAM, "mpp": 1, "level0_px": 128})
    np.testing.assert_allclose(FeatureStore("f.zarr").read("A", 20).position, CELLS * 128.0 + 64)
    scattered = CELLS * 512 + np.random.default_rng(0).integers(-60, 61, CELLS.shape)
    with pytest.raises(InputError, match=r"would overlap; cut the tiles without overlap"):
        import_features([write(tmp_path / "far" / "A.h5", scattered)], "g.zarr", **CLAM)


@pytest.mark.parametrize(
    ("stated", "contradiction"),
    [
        ({"level0_magnification": 20}, "level0_magnification is 20, and by the size of its tiles it is 40"),
        ({"target_magnification": 10}, "its folder says 20x and the file says 10x"),
    ],
)
def test_a_file_that_contradicts_itself_needs_the_user_s_scale(tmp_path, stated, contradiction):
    attrs = {"patch_size": 256, "patch_size_level0": 512, "target_magnification": 20, **stated}
    path = write(tmp_path / "20x_256px_0px_overlap" / "features_x" / "A.h5", CELLS * 512, **attrs)
    with pytest.raises(InputError, match=rf"finest level unknown \({contradiction}\); give it with --mpp"):
        import_features([path], "f.zarr")
    scale = 0.25 if attrs["target_magnification"] == 20 else 0.5
    import_features([path], "f.zarr", mpp=scale)
    assert FeatureStore("f.zarr").slide_attributes("A")["mpp"] == scale


def test_repeated_or_outside_tiles_and_another_encoder_are_warned_about(tmp_path, capsys):
    twice = write(tmp_path / "in" / "twice.h5", np.concatenate([CELLS, CELLS[:2]]) * 512, extractor="uni")
    outside = write(tmp_path / "in" / "outside.h5", CELLS * 512 - 600, extractor="uni")
    done = import_features([tmp_path / "in"], "f.zarr", **CLAM)
    assert done.warnings == [
        "--encoder resnet50 is used, although files name uni",
        f"{outside}: 8 of 20 tiles lie outside the slide, at negative coordinates",
        f"{twice}: 2 of 22 tiles have the same position as another",
    ]
    assert main(["features", "verify", "f.zarr"]) == 2
    printed = capsys.readouterr()
    assert "warning: outside: 20x: 8 of 20 tiles lie outside the slide, at negative positions" in printed.out
    assert "are damaged (twice); check the files that they came from" in printed.err


def test_hidden_files_of_macos_are_ignored_and_other_data_sets_are_named(tmp_path):
    write(tmp_path / "in" / "A.h5", CELLS * 512)
    (tmp_path / "in" / "._A.h5").write_bytes(b"resource fork")
    done = import_features([tmp_path / "in"], "f.zarr", **CLAM)
    assert (done.written, done.failures) == (["A"], [])
    path = write(tmp_path / "other" / "A.h5", CELLS * 512, names=("embeddings", "coords"))
    with pytest.raises(InputError, match="holds coords, embeddings, but neither features nor feats"):
        import_features([path], "g.zarr", **CLAM)
