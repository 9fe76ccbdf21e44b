"""The library that runs the encoder: a store names it, and is continued with it, or with one that gives the same features."""

import json
from pathlib import Path

import numpy as np
import pytest

from dmml.errors import InputError
from dmml.slides.encoders import backend_choice
from dmml.slides.encoders.build import load_encoder
from dmml.slides.encoders.graph_cache import FOLDER_VARIABLE, GraphCache
from dmml.slides.encoders.graph_export import export_graph
from dmml.slides.encoders.onnx_encoder import OnnxEncoder
from dmml.slides.extraction import continued_backend
from dmml.slides.extraction.extract import extract
from dmml.store import FeatureStore

pytestmark = pytest.mark.slow
NAME = "test_efficientnet"


@pytest.fixture(scope="module")
def weights(small_encoder, tmp_path_factory):
    import torch

    path = tmp_path_factory.mktemp("weights") / "w.pth"
    torch.save(small_encoder.model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def graphs(weights, tmp_path_factory):
    """Folder with the graph of timm's network, exported once; no backend was timed."""
    folder = tmp_path_factory.mktemp("graphs")
    folder.chmod(0o700)
    export_graph(load_encoder(NAME, weights, "cpu", backend="torch"), GraphCache(folder))
    return folder


@pytest.fixture(autouse=True)
def fastest(graphs, monkeypatch):
    """Set which backend is the fastest on this machine; `auto` measures nothing."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(graphs))
    speeds = {"torch": 1.0, "onnxruntime": 2.0}
    monkeypatch.setattr(backend_choice, "_fastest", lambda record: max(speeds, key=lambda backend: speeds[backend]))
    return speeds.update


def backend_of(store="f.zarr"):
    return FeatureStore(store).attributes.get("encoder_backend")


def features(store, name):
    return np.concatenate([FeatureStore(store).read(name, m).features for m in (10, 20)])


def test_features_of_both_backends_agree_within_float16(make_slide, weights):
    make_slide("in/a.tif")
    for backend in ("torch", "onnxruntime"):
        extract(["in"], f"{backend}.zarr", NAME, weights=weights, backend=backend)
        assert backend_of(f"{backend}.zarr") == backend
    first, second = (features(f"{backend}.zarr", "a") for backend in ("torch", "onnxruntime"))
    assert np.abs(first).max() > 0.1
    assert (np.abs(first - second) <= np.maximum(np.spacing(np.abs(first)), np.spacing(np.abs(second)))).mean() > 0.99
    encoders = [
        json.loads(Path(f"{b}.zarr/zarr.json").read_text())["attributes"]["encoder"] for b in ("torch", "onnxruntime")
    ]
    assert encoders[0] == encoders[1], "a model accepts the features of either"


def test_auto_continues_a_store_with_its_own_backend(make_slide, weights, fastest):
    make_slide("in/a.tif")
    extract(["in"], "f.zarr", NAME, weights=weights)
    assert backend_of() == "onnxruntime"
    make_slide("in/b.tif")
    fastest({"torch": 9.0})
    extract(["in"], "f.zarr", NAME, weights=weights)
    np.testing.assert_array_equal(features("f.zarr", "a"), features("f.zarr", "b"))
    extract(["in"], "g.zarr", NAME, weights=weights)
    assert backend_of("g.zarr") == "torch"


def test_a_store_of_an_earlier_version_counts_as_pytorch_s(make_slide, weights, monkeypatch):
    make_slide("in/a.tif")
    extract(["in"], "f.zarr", NAME, weights=weights, backend="torch")
    root = Path("f.zarr/zarr.json")
    content = json.loads(root.read_text())
    del content["attributes"]["encoder_backend"]
    root.write_text(json.dumps(content))
    make_slide("in/b.tif")
    used = []
    monkeypatch.setattr(OnnxEncoder, "start", lambda *args: used.append(1))
    assert extract(["in"], "f.zarr", NAME, weights=weights).written == ["b"]
    assert used == []


def test_another_backend_continues_a_store_only_if_its_features_agree(make_slide, weights, monkeypatch, caplog):
    caplog.set_level("INFO", "dmml")
    make_slide("in/a.tif")
    extract(["in"], "f.zarr", NAME, weights=weights, backend="torch")
    make_slide("in/b.tif")
    assert extract(["in"], "f.zarr", NAME, weights=weights, backend="onnxruntime").written == ["b"]
    assert any("f.zarr: continued with onnxruntime instead of torch: cosine" in line for line in caplog.messages)
    assert backend_of() == "torch"
    make_slide("in/c.tif")
    finish = OnnxEncoder.finish
    with monkeypatch.context() as patch:
        patch.setattr(OnnxEncoder, "finish", lambda self, started: finish(self, started) * 1.01)
        with pytest.raises(InputError, match=r"differ by more than float16 rounds .*--backend torch, or another --out"):
            extract(["in"], "f.zarr", NAME, weights=weights, backend="onnxruntime")
    assert FeatureStore("f.zarr").slides() == ["a", "b"]


def test_a_store_of_a_backend_that_is_not_installed_is_not_continued(make_slide, weights, monkeypatch):
    make_slide("in/a.tif")
    extract(["in"], "f.zarr", NAME, weights=weights, backend="onnxruntime")
    make_slide("in/b.tif")
    for module in (backend_choice, continued_backend):
        monkeypatch.setattr(module, "is_installed", lambda: False)
    with pytest.raises(
        InputError, match=r"made by onnxruntime, and now would be made by torch.*pip install onnxruntime"
    ):
        extract(["in"], "f.zarr", NAME, weights=weights)


def test_a_loaded_encoder_of_another_backend_is_refused(make_slide, small_encoder, monkeypatch):
    make_slide("in/a.tif")
    extract(["in"], "f.zarr", small_encoder)
    monkeypatch.setattr(small_encoder, "backend", "onnxruntime", raising=False)
    make_slide("in/b.tif")
    with pytest.raises(InputError, match="load the encoder with backend='torch'"):
        extract(["in"], "f.zarr", small_encoder)


def test_an_interrupted_extraction_gives_the_bytes_of_an_undisturbed_one(make_slide, weights, monkeypatch):
    for name in "abc":
        make_slide(f"in/{name}.tif")
    extract(["in"], "whole.zarr", NAME, weights=weights, batch_size=8)
    finish, calls = OnnxEncoder.finish, []

    def killed(self, started):
        calls.append(len(started))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return finish(self, started)

    for batch_size in (8, 5, 3):
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(OnnxEncoder, "finish", killed)
            with pytest.raises(KeyboardInterrupt):
                extract(["in"], "f.zarr", NAME, weights=weights, batch_size=batch_size)
    result = extract(["in"], "f.zarr", NAME, weights=weights, batch_size=7)
    assert result.resumed_tiles > 0
    files = {path.relative_to("whole.zarr") for path in Path("whole.zarr").rglob("*") if path.is_file()}
    for file in files:
        assert (Path("f.zarr") / file).read_bytes() == (Path("whole.zarr") / file).read_bytes(), file
    assert {path.relative_to("f.zarr") for path in Path("f.zarr").rglob("*") if path.is_file()} == files


def test_features_of_another_backend_s_interrupted_slide_are_not_mixed_in(make_slide, weights, monkeypatch):
    make_slide("in/a.tif")
    extract(["in"], "whole.zarr", NAME, weights=weights, backend="torch")
    finish, calls = OnnxEncoder.finish, []

    def killed(self, started):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return finish(self, started)

    with monkeypatch.context() as patch:
        patch.setattr(OnnxEncoder, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            extract(["in"], "f.zarr", NAME, weights=weights, batch_size=4)
    assert extract(["in"], "f.zarr", NAME, weights=weights, backend="torch").resumed_tiles == 0
    np.testing.assert_array_equal(features("f.zarr", "a"), features("whole.zarr", "a"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "tensorrt"}, "--backend tensorrt: give one of auto, torch, onnxruntime"),
        ({"backend": "onnxruntime", "precision": "bf16"}, "works without --precision bf16 only"),
        ({"backend": "onnxruntime", "compiled": True}, "works without --compile only"),
    ],
)
def test_impossible_backends_are_refused_before_slides_are_opened(options, message):
    with pytest.raises(InputError, match=message):
        extract(["none.svs"], "f.zarr", NAME, **options)
