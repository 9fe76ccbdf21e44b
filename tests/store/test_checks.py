"""What a store refuses before it writes any file of the slide, and which forms of numbers it accepts."""

import json

import numpy as np
import pytest
import torch

import dmml
from dmml.errors import InputError
from dmml.store import FeatureStore, SlideFeatures

SCALES = {10: 1.0, 20: 0.5}
DIM = 4


def bags():
    rng = np.random.default_rng(0)
    coarse = SlideFeatures(rng.normal(size=(2, DIM)), np.array([[112.0, 112.0], [336.0, 112.0]]))
    fine = np.array([[56.0, 56.0], [168.0, 56.0], [280.0, 56.0], [392.0, 168.0]])
    return {10: coarse, 20: SlideFeatures(rng.normal(size=(4, DIM)), fine, np.array([0, 0, 1, -1]))}


def spoil(what, bags):
    """Introduce one mistake into valid features."""
    coarse, fine = bags[10], bags[20]
    cells = {"nan": (fine, 2, np.nan), "infinity": (coarse, 1, -np.inf), "overflow": (fine, [1, 3], 7e4)}
    arrays = {
        "width": (coarse, "features", np.ones((2, DIM + 1))),
        "flat": (coarse, "features", np.ones(2 * DIM)),
        "words": (coarse, "features", np.array([["a"] * DIM] * 2)),
        "rows": (fine, "position", fine.position[:3]),
        "columns": (fine, "position", np.ones((4, 3))),
        "place": (fine, "position", np.where(np.arange(4)[:, None] == 3, np.nan, fine.position)),
        "far": (fine, "position", fine.position * 1e40),
        "parents": (fine, "parent", fine.parent[:2]),
        "parent": (fine, "parent", np.array([0, 2, 1, -1])),
        "negative": (fine, "parent", np.array([0, -2, 1, -1])),
        "half": (fine, "parent", np.array([0.5, 0, 0, 0])),
    }
    if what in cells:
        bag, rows, value = cells[what]
        bag.features[rows, 0] = value
    elif what in arrays:
        bag, name, values = arrays[what]
        setattr(bag, name, values)
    else:
        old, new = {"magnification": (20, 40), "key": (10, "10")}[what]
        bags[new] = bags.pop(old)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nan", r"20x: 1 tiles hold NaN or infinity, first in row 2"),
        ("infinity", r"10x: 1 tiles hold NaN or infinity, first in row 1"),
        ("overflow", r"20x: 2 tiles have features beyond ±65,504, .* first in row 1 \(7e\+04\)"),
        ("width", r"10x: features are \(2, 5\), not \(N, 4\)"),
        ("flat", r"10x: features are \(8,\), not \(N, 4\)"),
        ("words", r"10x: features are of type <U1"),
        ("rows", r"20x: positions are \(3, 2\), not \(4, 2\)"),
        ("columns", r"20x: positions are \(4, 3\), not \(4, 2\)"),
        ("place", r"20x: 1 positions hold NaN or infinity, first in row 3"),
        ("far", r"20x: 4 positions hold NaN or infinity"),
        ("parents", r"20x: parents are \(2,\), not \(4,\)"),
        ("parent", r"20x: parent 2 of row 1 does not exist \(the coarser magnification has 2 tiles\)"),
        ("negative", r"20x: parent -2 of row 1 does not exist"),
        ("half", r"20x: parents hold 0\.5"),
        ("magnification", r"40 is not among the store's magnifications \(10x, 20x\)"),
        ("key", r"10 is not among the store's magnifications"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_invalid_features_are_refused_before_anything_is_written(tmp_path, what, message, kind):
    path = str(tmp_path / "f.zarr") if kind == "folder" else f"memory://{tmp_path}/f.zarr"
    store = FeatureStore.create(path, {"name": "net", "dim": DIM}, SCALES)
    store.write("S", bags(), {"mpp": 0.5})
    spoilt = bags()
    spoil(what, spoilt)
    for slide in ("S", "T"):
        with pytest.raises(InputError, match=rf"f\.zarr, slide {slide}.*{message}") as caught:
            store.write(slide, spoilt, {})
        assert "\n" not in str(caught.value)
    assert FeatureStore(path).slides() == ["S"]
    np.testing.assert_array_equal(FeatureStore(path).read("S", 20).features, bags()[20].features.astype("f2"))
    assert store.backend.unfinished_groups() == []


def test_pictures_and_attributes_of_other_types_are_refused(tmp_path):
    store = FeatureStore.create(tmp_path / "f.zarr", {"name": "net", "dim": DIM}, SCALES)
    with pytest.raises(InputError, match="picture 'thumbnail' is of type float64; give an array of uint8"):
        store.write("S", bags(), {}, thumbnail=np.ones((4, 4, 3)))
    with pytest.raises(InputError, match="attributes of a slide must be plain values, not ndarray"):
        store.write("S", bags(), {"where": np.ones(3)})
    assert store.slides() == []
    assert store.backend.unfinished_groups() == []


def test_any_kind_of_numbers_is_accepted(tmp_path):
    """Tensors, lists, integers, float64 up to the largest float16, and parents that came as floats."""
    store = FeatureStore.create(tmp_path / "f.zarr", {"name": "net", "dim": np.int64(DIM)}, SCALES)
    plain = bags()
    fine = plain[20]
    forms = {
        "tensors": SlideFeatures(torch.tensor(fine.features), torch.tensor(fine.position), torch.tensor(fine.parent)),
        "lists": SlideFeatures(fine.features.tolist(), fine.position.tolist(), fine.parent.tolist()),
        "floats": SlideFeatures(fine.features, fine.position, fine.parent.astype(float)),
        "single": SlideFeatures(fine.features.astype("f4"), fine.position.astype("f4"), fine.parent.astype("i8")),
    }
    for name, bag in forms.items():
        store.write(name, {10: plain[10], 20: bag}, {})
        read = store.read(name, 20)
        np.testing.assert_array_equal(read.features, fine.features.astype("f2"))
        np.testing.assert_array_equal(read.parent, fine.parent)
    store.write("edge", {10: SlideFeatures(np.full((1, DIM), 65504.0), np.zeros((1, 2)))}, {})
    assert store.read("edge", 10).features.max() == 65504
    store.write("empty", {10: SlideFeatures(np.zeros((0, DIM)), np.zeros((0, 2)))}, {})
    half = SlideFeatures(torch.ones(4, DIM, dtype=torch.bfloat16), fine.position)
    with pytest.raises(InputError, match="20x: features cannot be read as an array"):
        store.write("T", {20: half}, {})


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"dim": 4}, "has no name"),
        ({"name": " ", "dim": 4}, "has no name"),
        ({"name": "net"}, "dim is None"),
        ({"name": "net", "dim": 0}, "dim is 0"),
        ({"name": "net", "dim": "4"}, "dim is '4'"),
    ],
)
def test_an_encoder_without_a_name_or_a_width_is_refused(tmp_path, encoder, message):
    with pytest.raises(InputError, match=message):
        FeatureStore.create(tmp_path / "f.zarr", encoder, SCALES)
    assert not (tmp_path / "f.zarr").exists()


def test_encoders_of_unknown_weights_have_the_same_identity(tmp_path):
    """Missing entries get the same defaults, in new stores and when old ones are read."""
    short, full = {"name": "uni", "dim": DIM}, {"name": "uni", "weights": None, "dim": DIM, "preprocessing": {}}
    stores = [FeatureStore.create(tmp_path / f"{n}.zarr", e, SCALES) for n, e in enumerate((short, full))]
    root = json.loads((tmp_path / "0.zarr" / "zarr.json").read_text())
    root["attributes"]["encoder"] = short
    (tmp_path / "old.zarr" / "slides").mkdir(parents=True)
    (tmp_path / "old.zarr" / "zarr.json").write_text(json.dumps(root))
    stores.append(FeatureStore(tmp_path / "old.zarr"))
    identities = [store.attributes["encoder"] for store in stores]
    assert identities[0] == identities[1] == identities[2]
    assert FeatureStore.create(tmp_path / "old.zarr", short, SCALES).slides() == []


def test_the_package_exports_the_store_s_classes():
    assert dmml.SlideFeatures is SlideFeatures
    assert dmml.FeatureStore is FeatureStore


@pytest.mark.parametrize(
    ("slide_id", "make_bags", "attributes", "message"),
    [
        ("S", lambda: list(bags().values()), {}, r"slide S: list instead of \{magnification: SlideFeatures\}"),
        ("S", lambda: {20: (np.ones((4, DIM)), np.ones((4, 2)))}, {}, r"20x: tuple instead of SlideFeatures"),
        ("S", lambda: {20: None}, {}, r"20x: NoneType instead of SlideFeatures"),
        (5, bags, {}, r"5 cannot be the id of a slide"),
        ("S", bags, {"mpp": "0.25"}, r"its attribute mpp is '0\.25'; give µm per pixel as a number"),
        ("S", bags, {"mpp": float("nan")}, r"its attribute mpp is nan"),
        ("S", bags, {"tile_um": 128.0}, r"its attribute tile_um is 128\.0; give e\.g\."),
        ("S", bags, [1], r"list instead of a mapping of attributes"),
    ],
)
def test_invalid_slides_are_refused_in_one_line(slide_id, make_bags, attributes, message):
    store = FeatureStore.create("f.zarr", {"name": "x", "dim": DIM}, SCALES)
    with pytest.raises(InputError, match=message):
        store.write(slide_id, make_bags(), attributes)
    assert store.slides() == []


def test_magnifications_of_other_number_types_are_recognised():
    store = FeatureStore.create("f.zarr", {"name": "x", "dim": DIM}, SCALES)
    valid = bags()
    store.write("S", {10.0: valid[10], np.int64(20): valid[20]}, {"mpp": np.float32(0.25), "tile_um": {20: 112.0}})
    assert [store.n_tokens("S", m) for m in (10, 20)] == [2, 4]


@pytest.mark.parametrize(
    ("magnifications", "tile_px", "message"),
    [
        ({}, 224, r"magnifications are \{\}; give"),
        ([20], 224, r"magnifications are \[20\]; give"),
        ({20: 0}, 224, r"magnification 20 has 0 µm per pixel"),
        ({20: float("nan")}, 224, r"magnification 20 has nan µm per pixel"),
        ({20: "0.5"}, 224, r"magnification 20 has '0\.5' µm per pixel"),
        ({"20x": 0.5}, 224, r"magnification '20x' is not a positive whole number"),
        ({20.5: 0.5}, 224, r"magnification 20\.5 is not a positive whole number"),
        (SCALES, 0, r"tile_px is 0"),
        (SCALES, "224", r"tile_px is '224'"),
    ],
)
def test_a_store_with_invalid_attributes_is_not_created(tmp_path, magnifications, tile_px, message):
    with pytest.raises(InputError, match=message):
        FeatureStore.create("f.zarr", {"name": "x", "dim": DIM}, magnifications, tile_px)
    with pytest.raises(InputError, match=r"encoder is 'uni'; give"):
        FeatureStore.create("f.zarr", "uni", SCALES)
    assert not (tmp_path / "f.zarr").exists()
