"""Stores of normalised tiles: the same whatever the batches, readers and interruptions; never of two kinds."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_slides import paint_tissue, write_slide
from PIL import Image
from stained_pictures import EOSIN, HEMATOXYLIN, paint_stained

from dmml.__main__ import main
from dmml.data.encoder_match import check_same_encoder
from dmml.data.joined_store import JoinedStore
from dmml.errors import InputError
from dmml.slides.encoders.torch_encoder import TorchEncoder
from dmml.slides.extraction.extract import extract
from dmml.slides.stains.choose import stain_normalization
from dmml.slides.stains.colour_map import ColourMap
from dmml.slides.stains.stains import StainNormalization, Stains
from dmml.slides.tokens import tokens_of_slide
from dmml.slides.wsi.slide import Slide
from dmml.store import FeatureStore

BOX = (224, 224, 896, 672)


@pytest.fixture
def slides(tmp_path):
    """Two slides of H&E, one of them of paler and redder stains, in `in/`."""
    (tmp_path / "in").mkdir()
    redder = (HEMATOXYLIN * 0.6 + EOSIN * 0.1, EOSIN * 0.7)
    write_slide(tmp_path / "in" / "a.tif", paint_stained(1792, 1344, BOX))
    write_slide(tmp_path / "in" / "b.tif", paint_stained(1792, 1344, BOX, seed=1, vectors=redder))
    return tmp_path / "in"


def contents(path: str) -> dict[str, np.ndarray]:
    """All features, positions and stains of a store."""
    store, arrays = FeatureStore(path), {}
    for slide in store.slides():
        for m in (10, 20):
            bag = store.read(slide, m)
            arrays |= {f"{slide}/{m}/features": bag.features, f"{slide}/{m}/position": bag.position}
        stains = store.slide_attributes(slide).get("stains", {})
        arrays |= {f"{slide}/{name}": np.array(values) for name, values in stains.items()}
    return arrays


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert values.tobytes() == second[name].tobytes(), name


@pytest.mark.slow
def test_features_are_those_of_tiles_mapped_by_the_slide_s_own_stains(slides, small_encoder):
    extract([slides], "scanned.zarr", small_encoder)
    extract([slides], "f.zarr", small_encoder, stain_normalization="macenko")
    store, scanned = FeatureStore("f.zarr"), FeatureStore("scanned.zarr")
    target = stain_normalization("macenko").target_stains
    stains = [Stains.from_plain(store.slide_attributes(name)["stains"]) for name in "ab"]
    assert stains[0].strength[1] / stains[1].strength[1] == pytest.approx(1 / 0.7, rel=0.15)
    for name, fitted in zip("ab", stains, strict=True):
        bag, colours = store.read(name, 20), ColourMap(fitted, target)
        with Slide(slides / f"{name}.tif", None) as slide:
            tiles = [slide.read(x - 56, y - 56, 224, 224, 0.5) for x, y in bag.position.tolist()]
        expected = small_encoder(np.stack([colours(tile) for tile in tiles])).astype(np.float16)
        np.testing.assert_allclose(bag.features.astype(float), expected.astype(float), atol=2e-3)
        changed = np.abs(bag.features.astype(float) - scanned.read(name, 20).features.astype(float)).max()
        assert changed > 0.02
    # The two slides differed in their colours, and hardly differ after normalisation.
    assert "stain_normalization" not in scanned.attributes["encoder"]
    gaps = [
        np.abs(np.subtract(*(s.read(n, 20).features.astype(float).mean(0) for n in "ab"))).mean()
        for s in (store, scanned)
    ]
    assert gaps[0] < 0.5 * gaps[1]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["macenko", "vahadane"])
def test_batches_readers_interruptions_and_shards_change_no_bit(slides, small_encoder, method, monkeypatch):
    options = {"stain_normalization": method}
    extract([slides], "f.zarr", small_encoder, batch_size=8, **options)
    whole = contents("f.zarr")
    extract([slides], "readers.zarr", small_encoder, batch_size=8, readers=2, **options)
    assert_same(contents("readers.zarr"), whole)
    for shard in ("1/2", "2/2"):
        extract([slides], "shards.zarr", small_encoder, batch_size=8, shard=shard, **options)
    assert_same(contents("shards.zarr"), whole)
    finish, calls = TorchEncoder.finish, []

    def killed(self, started):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return finish(self, started)

    with monkeypatch.context() as patch:
        patch.setattr(TorchEncoder, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            extract([slides], "cut.zarr", small_encoder, batch_size=8, **options)
    result = extract([slides], "cut.zarr", small_encoder, batch_size=8, **options)
    assert result.resumed_tiles > 0
    assert_same(contents("cut.zarr"), whole)
    # What was kept for another choice is not used.
    with monkeypatch.context() as patch:
        calls.clear()
        patch.setattr(TorchEncoder, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            extract([slides], "other.zarr", small_encoder, batch_size=4, **options)
    assert extract([slides], "other.zarr", small_encoder, batch_size=4).resumed_tiles == 0


@pytest.mark.slow
def test_a_prediction_normalises_a_slide_as_the_store_did(slides, small_encoder):
    Image.fromarray(paint_stained(400, 400, (40, 40, 320, 320), seed=5)).save("target.png")
    extract([slides], "f.zarr", small_encoder, batch_size=8, stain_normalization="macenko", stain_target="target.png")
    Path("target.png").unlink()  # the store and every checkpoint contain all that is needed of it
    store = FeatureStore("f.zarr")
    kept = StainNormalization.from_identity(store.attributes["encoder"]["stain_normalization"])
    for magnifications in ((10, 20), (20,)):
        bags, _, attributes = tokens_of_slide(
            slides / "b.tif", small_encoder, None, magnifications, batch_size=8, stain_normalization=kept
        )
        assert attributes["stains"] == store.slide_attributes("b")["stains"]
        for m in magnifications:
            np.testing.assert_allclose(
                bags[m].features.astype(float), store.read("b", m).features.astype(float), atol=2e-3
            )


def test_a_store_is_never_of_two_kinds(slides, small_encoder, capsys):
    extract([slides / "a.tif"], "f.zarr", small_encoder, stain_normalization="macenko")
    extract([slides / "a.tif"], "scanned.zarr", small_encoder)
    normalised = r"stain-normalised \(macenko by torchstain [\d.]+, to the built-in target\)"
    with pytest.raises(
        InputError, match=rf"f\.zarr: its tiles are {normalised}, and now would be as scanned; give the"
    ):
        extract([slides], "f.zarr", small_encoder)
    with pytest.raises(InputError, match=rf"scanned\.zarr: its tiles are as scanned, and now would be {normalised}"):
        extract([slides], "scanned.zarr", small_encoder, stain_normalization="macenko")
    Image.fromarray(paint_stained(400, 400, (40, 40, 320, 320), seed=5)).save("target.png")
    with pytest.raises(InputError, match=r"to the target [0-9a-f]{12}…\); give the same --stain-normalization"):
        extract([slides], "f.zarr", small_encoder, stain_normalization="macenko", stain_target="target.png")
    assert FeatureStore("f.zarr").slides() == FeatureStore("scanned.zarr").slides() == ["a"]
    assert extract([slides], "f.zarr", small_encoder, stain_normalization="macenko").written == ["b"]

    capsys.readouterr()
    assert main(["features", "list", "f.zarr"]) == 0
    assert re.search(rf"test_efficientnet, \d+ features; tiles {normalised}", capsys.readouterr().out)
    assert main(["features", "list", "scanned.zarr"]) == 0
    assert "stain" not in capsys.readouterr().out
    page, plain_page = Path("qc.html").read_text(), Path("scanned.qc.html").read_text()
    assert page.count('stain-normalised" title') == 2
    assert re.search(f"All tiles are {normalised}", page)
    assert "stain" not in plain_page

    # A model of one kind refuses a store of the other, and cohorts of two kinds are not trained together.
    stores = {path: FeatureStore(path) for path in ("f.zarr", "scanned.zarr")}
    for path, other in (("f.zarr", "scanned.zarr"), ("scanned.zarr", "f.zarr")):
        fitted = {"encoder": stores[path].attributes["encoder"]}
        check_same_encoder(path, stores[path], small_encoder.dim, fitted)
        with pytest.raises(
            InputError, match=rf"^{other}: its tiles are .*, but the model was trained on tiles .*; extract"
        ) as e:
            check_same_encoder(other, stores[other], small_encoder.dim, fitted)
        assert "\n" not in str(e.value)
    with pytest.raises(InputError, match=rf"^scanned\.zarr: made with tiles as scanned, but .* with {normalised}"):
        JoinedStore(stores)


def test_another_version_of_the_library_continues_no_store_but_suits_a_model(slides, small_encoder):
    extract([slides / "a.tif"], "f.zarr", small_encoder, stain_normalization="macenko")
    store = FeatureStore("f.zarr")
    encoder = store.attributes["encoder"]
    older = {**encoder, "stain_normalization": {**encoder["stain_normalization"], "library": "torchstain 1.3.0"}}
    check_same_encoder("f.zarr", store, small_encoder.dim, {"encoder": older})
    with pytest.raises(InputError, match=r"stain_normalization.library is torchstain"):
        store.check_same({"encoder": older})


def test_slides_without_two_stains_are_listed_with_a_reason(slides, small_encoder):
    write_slide(slides / "one_stain.tif", paint_stained(1792, 1344, BOX, vectors=(HEMATOXYLIN, HEMATOXYLIN)))
    write_slide(slides / "pale.tif", paint_tissue(1792, 1344, (BOX,)))
    write_slide(slides / "blank.tif", paint_tissue(1792, 1344, ()))
    result = extract([slides], "f.zarr", small_encoder, stain_normalization="macenko")
    assert sorted(result.written) == ["a", "b"]
    table = pd.read_csv("failures.csv")
    states = dict(zip(table["file"].map(lambda file: Path(file).name), table["state"], strict=True))
    assert states == {"one_stain.tif": "no_stains", "pale.tif": "no_stains", "blank.tif": "no_tissue"}
    one_stain, pale = (
        table.loc[table["file"].str.endswith(name), "reason"].item() for name in ("one_stain.tif", "pale.tif")
    )
    assert "its stains cannot be fitted: its colours show one stain only" in one_stain
    assert "or extract all slides without --stain-normalization" in one_stain
    assert re.search(r"\d+ of 150528 sampled pixels are stained, 1000 are needed", pale)
    assert "no_stains" in Path("qc.html").read_text()
    assert extract([slides / "one_stain.tif"], "scanned.zarr", small_encoder).written == ["one_stain"]
