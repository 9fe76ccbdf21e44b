"""ONNX Runtime in place of PyTorch: the same features, chosen by speed, from a graph that nobody else could write."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch

from dmml.errors import InputError
from dmml.slides.encoders import backend_choice, graph_export
from dmml.slides.encoders.agreement import Agreement, agree_within_float16, compare, probe_tiles
from dmml.slides.encoders.backend_choice import cached_encoder, check_backend, choose_backend
from dmml.slides.encoders.build import load_encoder
from dmml.slides.encoders.graph_cache import FOLDER_VARIABLE, GraphCache, GraphRecord, default_folder
from dmml.slides.encoders.onnx_encoder import OnnxEncoder
from dmml.slides.encoders.torch_encoder import TorchEncoder

SPEEDS = {"torch": 10.0, "onnxruntime": 20.0}


@pytest.fixture(scope="module")
def exported(small_encoder, tmp_path_factory):
    """(record, graph) of the small encoder, exported once for all tests."""
    folder = tmp_path_factory.mktemp("graphs")
    folder.chmod(0o700)
    cache = GraphCache(folder)
    record = graph_export.export_graph(small_encoder, cache)
    return record, cache.graph(record)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, which the environment names."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return GraphCache()


@pytest.fixture
def filled(cache, exported):
    """A cache with the small encoder's graph."""
    record, graph = exported
    cache.write(GraphRecord(record.identity, "", record.agreement), graph)
    return cache


@pytest.fixture
def no_export(monkeypatch):
    """Exporting fails the test."""
    monkeypatch.setattr(graph_export, "_exported", lambda encoder: pytest.fail("exported again"))


def tiles_of(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 224, 224, 3), np.uint8)


@pytest.mark.slow
class TestGraph:
    def test_its_features_are_those_of_pytorch(self, exported, small_encoder):
        record, graph = exported
        encoder = OnnxEncoder(record.identity, graph)
        assert record.problem == ""
        assert record.agreement.cosine > 0.999999
        assert encoder.identity == small_encoder.identity
        tiles = tiles_of(5)
        assert np.abs(small_encoder(tiles)).max() > 0.1
        np.testing.assert_allclose(encoder(tiles), small_encoder(tiles), atol=1e-4)
        assert encoder(tiles[:0]).shape == (0, encoder.dim)

    def test_features_do_not_depend_on_other_tiles_batch_size_or_threads(self, exported):
        record, graph = exported
        tiles = tiles_of(11)
        encoder, parallel = OnnxEncoder(record.identity, graph, threads=1), OnnxEncoder(record.identity, graph, 3)
        together = encoder(tiles)
        np.testing.assert_array_equal(together[::-1], encoder(tiles[::-1]))
        np.testing.assert_array_equal(together, np.concatenate([encoder(tiles[i : i + 1]) for i in range(11)]))
        np.testing.assert_array_equal(together, parallel(tiles))

    def test_start_copies_the_tiles(self, exported):
        record, graph = exported
        encoder, tiles = OnnxEncoder(record.identity, graph), tiles_of(3)
        want = encoder(tiles)
        started = encoder.start(tiles)
        tiles[:] = 0
        np.testing.assert_array_equal(encoder.finish(started), want)

    def test_tiles_of_another_size_or_type_are_an_error(self, exported):
        encoder = OnnxEncoder(exported[0].identity, exported[1])
        for wrong in (tiles_of(1)[:, :96], tiles_of(1).astype(np.float32), tiles_of(1)[0]):
            with pytest.raises(ValueError, match="tiles must"):
                encoder(wrong)

    def test_a_graph_is_for_tiles_of_one_size(self, cache, small_encoder):
        network, preprocessing = small_encoder.model, small_encoder.preprocessing
        large = TorchEncoder(small_encoder.name, network, preprocessing, "cpu", tile_px=300)
        record = graph_export.export_graph(large, cache)
        assert (record.problem, record.tile_px) == ("", 300)
        assert cached_encoder(large.identity, "onnxruntime") is None, "there is no graph for tiles of 224 px"
        cached = cached_encoder(large.identity, "onnxruntime", tile_px=300)
        tiles = np.random.default_rng(3).integers(0, 256, (3, 300, 300, 3), np.uint8)
        np.testing.assert_allclose(cached(tiles), large(tiles), atol=1e-4)
        with pytest.raises(ValueError, match="tiles must have 300 × 300 px, not 224 × 224"):
            cached(tiles_of(1))

    def test_it_is_found_by_the_encoder_s_identity_alone(self, filled, small_encoder, no_export):
        assert cached_encoder(small_encoder.identity) is None, "nobody has measured whether it is the fastest"
        record = filled.record(small_encoder.identity)
        record.choices[backend_choice._machine()] = SPEEDS
        filled.write(record)
        cached = cached_encoder(json.loads(json.dumps(small_encoder.identity)))
        assert cached.identity == small_encoder.identity
        other = {**small_encoder.identity, "weights": "0" * 64}
        assert cached_encoder(other) is None
        assert cached_encoder({"name": "x", "dim": 3}) is None
        record.choices[backend_choice._machine()] = {"torch": 3.0, "onnxruntime": 2.0}
        filled.write(record)
        assert cached_encoder(small_encoder.identity) is None
        assert cached_encoder(small_encoder.identity, "onnxruntime") is not None

    @pytest.mark.parametrize("damage", ["cut", "exchanged", "missing", "bad record", "other format"])
    def test_a_damaged_graph_is_made_again(self, filled, small_encoder, exported, monkeypatch, damage):
        (graph,), (record,) = filled.folder.glob("*.onnx"), filled.folder.glob("*.json")
        if damage == "cut":
            graph.write_bytes(graph.read_bytes()[:-100])
        elif damage == "exchanged":
            graph.write_bytes(b"another graph")
        elif damage == "missing":
            graph.unlink()
        elif damage == "bad record":
            record.write_text("{")
        else:
            record.write_text(record.read_text().replace('"format": 1', '"format": 0'))
        assert cached_encoder(small_encoder.identity, "onnxruntime") is None
        monkeypatch.setattr(graph_export, "_exported", lambda encoder: exported[1])
        assert choose_backend(small_encoder, "onnxruntime").backend == "onnxruntime"
        assert graph.read_bytes() == exported[1]
        assert sorted(path.suffix for path in filled.folder.iterdir()) == [".json", ".lock", ".onnx"]

    def test_a_graph_that_others_could_have_written_is_not_used(self, filled, small_encoder):
        (graph,) = filled.folder.glob("*.onnx")
        assert stat.S_IMODE(graph.stat().st_mode) == 0o600
        graph.chmod(0o622)
        assert cached_encoder(small_encoder.identity, "onnxruntime") is None
        graph.rename(filled.folder / "moved")
        (filled.folder / "moved").chmod(0o600)
        graph.symlink_to(filled.folder / "moved")
        assert cached_encoder(small_encoder.identity, "onnxruntime") is None


@pytest.mark.slow
class TestChoice:
    @pytest.mark.parametrize("fastest", ["torch", "onnxruntime"])
    def test_the_fastest_is_measured_once_and_named_in_one_line(
        self, filled, small_encoder, no_export, monkeypatch, caplog, fastest
    ):
        caplog.set_level("INFO", "dmml")
        timed = []
        monkeypatch.setattr(
            backend_choice, "tiles_per_second", lambda encoders: timed.append(1) or {**SPEEDS, fastest: 30.0}
        )
        assert [choose_backend(small_encoder).backend for _ in range(2)] == [fastest] * 2
        assert len(timed) == 1
        assert len(caplog.messages) == 2
        assert f"test_efficientnet runs on {fastest} (tiles per second: onnxruntime " in caplog.messages[0]
        assert ("cosine 1.0" in caplog.messages[0]) == (fastest == "onnxruntime")

    def test_every_candidate_is_timed(self, exported, small_encoder):
        speeds = backend_choice.tiles_per_second([small_encoder, OnnxEncoder(exported[0].identity, exported[1])])
        assert set(speeds) == set(SPEEDS)
        assert min(speeds.values()) > 0

    def test_what_only_pytorch_can_do_stays_with_pytorch(self, cache, small_encoder, no_export, monkeypatch):
        half = TorchEncoder("x", small_encoder.model, small_encoder.preprocessing, device="cpu", precision="bf16")
        assert choose_backend(half) is half
        assert choose_backend(small_encoder, "torch") is small_encoder
        for options in ({"precision": "bf16"}, {"compiled": True}):
            with pytest.raises(
                InputError, match=r"--backend onnxruntime: works without --(precision bf16|compile) only"
            ):
                check_backend("onnxruntime", **options)
        with pytest.raises(InputError, match="--backend tensorrt: give one of auto, torch, onnxruntime"):
            load_encoder(device="cpu", backend="tensorrt")
        monkeypatch.setattr(backend_choice, "is_installed", lambda: False)
        assert choose_backend(small_encoder) is small_encoder
        with pytest.raises(InputError, match="pip install onnxruntime"):
            check_backend("onnxruntime")

    @pytest.mark.parametrize("problem", ["disagrees", "fails"])
    def test_a_network_without_a_usable_graph_runs_on_pytorch_and_is_tried_once(
        self, cache, exported, small_encoder, monkeypatch, caplog, problem
    ):
        calls = []

        def export(encoder):
            calls.append(encoder)
            if problem == "fails":
                raise RuntimeError("no such operator\nin 100 lines")
            return exported[1]

        monkeypatch.setattr(graph_export, "_exported", export)
        if problem == "disagrees":
            monkeypatch.setattr(graph_export, "compare", lambda *features: Agreement(0.9, 0.3))
        reason = "does not agree with PyTorch: cosine 0.9" if problem == "disagrees" else "no such operator"
        for _ in range(2):
            assert choose_backend(small_encoder) is small_encoder
        assert len(calls) == 1
        monkeypatch.setattr(backend_choice, "_machine", lambda: "another version")
        assert choose_backend(small_encoder) is small_encoder
        assert len(calls) == 2, "another version may be able to do it"
        assert reason in caplog.messages[-1]
        assert "\n" not in caplog.messages[-1]
        assert list(cache.folder.glob("*.onnx")) == [], "no graph that nobody may use"
        with pytest.raises(InputError, match=reason):
            choose_backend(small_encoder, "onnxruntime")

    def test_a_full_disk_leaves_no_graph_and_pytorch_goes_on(self, cache, exported, small_encoder, monkeypatch, caplog):
        def full(path, content):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(graph_export, "_exported", lambda encoder: exported[1])
        monkeypatch.setattr(GraphCache, "_write", staticmethod(full))
        assert choose_backend(small_encoder) is small_encoder
        assert "No space left" in caplog.messages[-1]
        assert [path.suffix for path in cache.folder.iterdir()] == [".lock"]


class TestCacheFolder:
    def test_it_is_private_and_named_by_the_environment(self, cache, tmp_path, monkeypatch):
        assert cache.folder == tmp_path / "cache"
        assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
        monkeypatch.delenv(FOLDER_VARIABLE)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert default_folder() == tmp_path / "xdg" / "dmml" / "encoders"
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert default_folder() == tmp_path / ".cache" / "dmml" / "encoders"

    @pytest.mark.parametrize("fault", ["open", "link", "file", "foreign"])
    def test_a_folder_into_which_others_could_write_is_refused(
        self, cache, tmp_path, small_encoder, monkeypatch, fault
    ):
        folder = cache.folder
        if fault == "open":
            folder.chmod(0o777)
        elif fault == "foreign":
            monkeypatch.setattr("os.geteuid", lambda: 12345)
        else:
            folder.rmdir()
            if fault == "file":
                folder.touch()
            else:
                (tmp_path / "other").mkdir(mode=0o700)
                folder.symlink_to(tmp_path / "other")
        with pytest.raises(InputError, match=FOLDER_VARIABLE):
            GraphCache()
        assert cached_encoder(small_encoder.identity) is None
        assert choose_backend(small_encoder) is small_encoder, "auto does without"
        with pytest.raises(InputError, match=r"--backend onnxruntime: .*DMML_ENCODER_CACHE"):
            choose_backend(small_encoder, "onnxruntime")


@pytest.mark.parametrize("tile_px", [97, 256])
def test_probe_tiles_of_any_size_differ(tile_px):
    tiles = probe_tiles(tile_px)
    assert tiles.shape == (8, tile_px, tile_px, 3)
    assert len({tile.tobytes() for tile in tiles}) == 8


def test_probe_tiles_differ_and_stay_the_same():
    tiles = probe_tiles()
    assert tiles.shape == (8, 224, 224, 3)
    assert tiles.dtype == np.uint8
    assert len({tile.tobytes() for tile in tiles}) == 8
    np.testing.assert_array_equal(tiles, probe_tiles())


def test_agreement_within_float16_is_one_step_of_the_rounding():
    features = torch.randn(4, 300, generator=torch.Generator().manual_seed(1)).numpy()
    rms = np.sqrt((features**2).mean(axis=1, keepdims=True))
    assert agree_within_float16(features + 2e-4 * rms, features)
    assert not agree_within_float16(features + 4e-3 * rms, features)
    assert not agree_within_float16(np.full_like(features, np.nan), features)
    rounded = features.astype(np.float16).astype(np.float32)
    assert agree_within_float16(rounded, features)


def test_agreement_is_that_of_the_worst_tile():
    features = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    worse = features + np.array([[0.0, 0.0], [1.0, 0.0]], np.float32)
    agreement = compare(worse, features)
    assert agreement.cosine == pytest.approx(2 / 5**0.5)
    assert agreement.relative_error == pytest.approx(0.5)
    assert not agreement.suffices
    assert compare(features, features).suffices
    assert not compare(features * np.nan, features).suffices


NO_HEAVY_IMPORTS = """
import sys
from dmml.slides.encoders.build import load_encoder

encoder = load_encoder("test_efficientnet", sys.argv[1], backend="onnxruntime")
print(encoder.backend, encoder.dim, *sorted({"torch", "timm", "torchvision", "lightning"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_weights_of_an_earlier_run_need_neither_torch_nor_timm(cache, exported, small_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(graph_export, "_exported", lambda encoder: exported[1])
    torch.save(small_encoder.model.state_dict(), tmp_path / "w.pth")
    built = load_encoder("test_efficientnet", tmp_path / "w.pth", "cpu", backend="torch")
    record = GraphRecord(built.identity, "", exported[0].agreement)
    cache.write(record, exported[1])
    first = load_encoder("test_efficientnet", tmp_path / "w.pth", "cpu", backend="onnxruntime")
    assert first.identity == built.identity
    run = [sys.executable, "-c", NO_HEAVY_IMPORTS, str(tmp_path / "w.pth")]
    printed = subprocess.run(run, capture_output=True, text=True, check=True, env=os.environ).stdout
    assert printed == f"onnxruntime {built.dim}\n"
    other = {name: tensor + 1 for name, tensor in small_encoder.model.state_dict().items()}
    torch.save(other, tmp_path / "w.pth")
    assert load_encoder("test_efficientnet", tmp_path / "w.pth", "cpu", backend="torch").weights != built.weights
