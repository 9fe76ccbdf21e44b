"""The feature store: slides are read as written, only complete slides are visible, different stores never mix."""

import mmap
import os

import numpy as np
import pytest
import zarr

from dmml.errors import InputError
from dmml.store import FeatureStore, SlideFeatures, is_store

ENCODER = {"name": "net", "weights": "0" * 64, "dim": 6, "preprocessing": {"mean": [0.5], "std": [0.5], "size": 224}}
SCALES = {10: 1.0, 20: 0.5}


def bags(n=3, seed=0):
    rng = np.random.default_rng(seed)
    return {
        10: SlideFeatures(rng.normal(size=(n, 6)), rng.random((n, 2)) * 1e4),
        20: SlideFeatures(rng.normal(size=(2 * n, 6)), rng.random((2 * n, 2)) * 1e4, np.arange(2 * n) // 2),
    }


@pytest.fixture(params=["folder", "file", "memory"])
def path(request, tmp_path):
    return {
        "folder": str(tmp_path / "f.zarr"),
        "file": f"file://{tmp_path}/f.zarr",
        "memory": f"memory://{tmp_path}/f.zarr",
    }[request.param]


def test_a_written_slide_is_read_back(path):
    store = FeatureStore.create(path, ENCODER, SCALES)
    assert store.slides() == []
    written = bags()
    picture = np.random.default_rng(1).integers(0, 255, (5, 7, 3), np.uint8)
    store.write("S.1", written, {"mpp": 0.25, "source": "S.1.svs"}, picture)
    store.write("A", {20: bags()[20]}, {})
    read = FeatureStore(path)
    assert read.slides() == ["A", "S.1"]
    assert "S.1" in read
    assert "S" not in read
    for m, bag in written.items():
        got = read.read("S.1", m)
        np.testing.assert_array_equal(got.features, bag.features.astype(np.float16))
        np.testing.assert_array_equal(got.position, bag.position.astype(np.float32))
        assert (got.features.dtype, got.position.dtype) == (np.float16, np.float32)
        assert read.n_tokens("S.1", m) == len(bag.features)
    assert read.read("S.1", 10).parent is None
    assert read.read("S.1", 20).parent.tolist() == [0, 0, 1, 1, 2, 2]
    assert read.read("S.1", 20).parent.dtype == np.int32
    np.testing.assert_array_equal(read.thumbnail("S.1"), picture)
    assert read.slide_attributes("S.1")["mpp"] == 0.25
    assert read.read("A", 10) is None
    assert read.n_tokens("A", 10) == 0
    assert read.thumbnail("A") is None
    assert read.n_features == 6
    assert read.attributes["magnifications"] == SCALES
    assert read.attributes["encoder"] == ENCODER
    assert read.attributes["tile_px"] == 224


def test_a_magnification_without_tiles_is_read_as_empty(path):
    store = FeatureStore.create(path, ENCODER, SCALES)
    store.write("A", {10: SlideFeatures(np.zeros((0, 6)), np.zeros((0, 2)))}, {})
    assert FeatureStore(path).read("A", 10).features.shape == (0, 6)


def test_a_slide_is_replaced_completely(path):
    store = FeatureStore.create(path, ENCODER, SCALES)
    store.write("A", bags(5), {"mpp": 1.0}, np.zeros((4, 4, 3), np.uint8))
    store.write("A", {20: bags(2)[20]}, {})
    read = FeatureStore(path)
    assert read.read("A", 10) is None
    assert read.n_tokens("A", 20) == 4
    assert read.thumbnail("A") is None
    assert "mpp" not in read.slide_attributes("A")


@pytest.mark.parametrize("dies_at", [0, 1, 5, 9, 14])
@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_a_killed_writer_leaves_no_slide(tmp_path, monkeypatch, dies_at, kind):
    """Stopped before any of the files of a slide; a later writer completes it."""
    from dmml.store import local_folder, remote_folder

    path = str(tmp_path / "f.zarr") if kind == "folder" else f"memory://{tmp_path}/f.zarr"
    FeatureStore.create(path, ENCODER, SCALES).write("done", bags(), {})
    calls = []

    def dying(real):
        def dies(*args, **options):
            if len(calls) == dies_at:
                raise KeyboardInterrupt
            calls.append(1)
            return real(*args, **options)

        return dies

    with monkeypatch.context() as patch:
        patch.setattr(local_folder, "_write", dying(local_folder._write))
        patch.setattr(remote_folder.RemoteFolder, "_put", dying(remote_folder.RemoteFolder._put))
        store = FeatureStore(path, mode="r+")
        with pytest.raises(KeyboardInterrupt):
            store.write("cut", bags(), {"mpp": 1.0}, np.zeros((4, 4, 3), np.uint8))
    read = FeatureStore(path)
    assert read.slides() == ["done"]
    assert "cut" not in read
    with pytest.raises(InputError, match=r"no slide 'cut'.*features list"):
        read.read("cut", 10)
    FeatureStore(path, mode="r+").write("cut", bags(), {})
    assert FeatureStore(path).slides() == ["cut", "done"]
    assert FeatureStore(path).backend.unfinished_groups() == []


@pytest.mark.parametrize("fails", ["rename", "last rename"])
def test_a_killed_replacement_leaves_the_old_slide_or_none(tmp_path, monkeypatch, fails):
    path = tmp_path / "f.zarr"
    store = FeatureStore.create(path, ENCODER, SCALES)
    store.write("A", bags(5), {})
    calls, real = [], os.rename

    def rename(a, b):
        calls.append(b)
        if len(calls) == (1 if fails == "rename" else 2):
            raise KeyboardInterrupt
        real(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            store.write("A", bags(2), {})
    assert FeatureStore(path).slides() == (["A"] if fails == "rename" else [])
    assert store.backend.unfinished_groups() == ["A"]
    store.write("A", bags(2), {})
    assert FeatureStore(path).n_tokens("A", 10) == 2
    store.backend.clean_up()
    assert sorted(p.name for p in path.iterdir()) == ["slides", "zarr.json"]


def test_replacing_a_slide_does_not_touch_one_of_a_similar_name(tmp_path):
    """`A` is replaced while another process assembles `A.old`."""
    store = FeatureStore.create(tmp_path / "f.zarr", ENCODER, SCALES)
    store.write("A", bags(5), {})

    def while_another_writes():
        yield "10x/zarr.json", b"{}"
        store.write("A", bags(3), {})
        yield "zarr.json", b'{"attributes": {"complete": true}, "zarr_format": 3, "node_type": "group"}'

    store.backend.write_group("slides", "A.old", while_another_writes(), durable=False)
    assert FeatureStore(store.path).slides() == ["A", "A.old"]
    assert FeatureStore(store.path).n_tokens("A", 10) == 3
    assert (tmp_path / "f.zarr" / "slides" / "A.old" / "10x" / "zarr.json").is_file()


def test_zarr_reads_the_store_and_the_store_reads_arrays_of_zarr(path):
    """Written by hand for speed: plain zarr must see the same numbers, and what zarr writes must be readable."""
    written, picture = bags(4), np.random.default_rng(1).integers(0, 255, (5, 7, 3), np.uint8)
    FeatureStore.create(path, ENCODER, SCALES).write("A", written, {"mpp": 0.25}, picture)
    group = zarr.open_group(path.removeprefix("file://"), mode="r+")
    assert dict(group["slides/A"].attrs) == {"mpp": 0.25, "complete": True}
    assert group.attrs["encoder"] == ENCODER
    assert [name for name, _ in group["slides"].groups()] == ["A"]
    np.testing.assert_array_equal(group["slides/A/20x/features"][:], written[20].features.astype(np.float16))
    np.testing.assert_array_equal(group["slides/A/20x/parent"][:], written[20].parent)
    np.testing.assert_array_equal(group["slides/A/thumbnail"][:], picture)
    zipped = group["slides/A/10x"].create_array(
        "features", data=written[10].features.astype(np.float16) + 1, chunks=(2, 3), overwrite=True
    )
    assert len(zipped.compressors) == 1
    np.testing.assert_array_equal(FeatureStore(path).read("A", 10).features, written[10].features.astype("f2") + 1)
    empty = group["slides/A/10x"].create_array(
        "position", data=np.zeros((4, 2), "f4"), chunks=(4, 2), compressors=None, overwrite=True
    )
    assert empty.nchunks_initialized == 0
    assert not FeatureStore(path).read("A", 10).position.any()


def test_local_features_are_memory_mapped_and_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "f.zarr"
    FeatureStore.create(path, ENCODER, SCALES).write("A", bags(20_000), {})
    features = FeatureStore(path).read("A", 20).features
    base = features
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    assert isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)
    assert not features.flags.writeable
    chunk = path / "slides/A/20x/features/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-2])
    with pytest.raises(InputError, match=r"A/20x/features: 479,998 bytes instead of 480,000.*--overwrite"):
        FeatureStore(path).read("A", 20)


def test_a_reader_sees_a_slide_that_was_written_again(tmp_path):
    path = tmp_path / "f.zarr"
    writer = FeatureStore.create(path, ENCODER, SCALES)
    writer.write("A", bags(5), {})
    reader = FeatureStore(path)
    assert len(reader.read("A", 20).features) == 10
    assert reader.read("A", 10).parent is None
    writer.write("A", bags(7), {})
    for store in (reader, writer):
        assert len(store.read("A", 20).features) == 14
        assert len(store.read("A", 20).parent) == 14


def test_two_processes_that_create_a_store_share_it(tmp_path, monkeypatch):
    """The second finds no store, then one, and compares its settings with those that the first wrote."""
    from dmml.store import feature_store

    path = tmp_path / "f.zarr"
    FeatureStore.create(path, ENCODER, SCALES)
    monkeypatch.setattr(feature_store, "is_store", lambda path: False)
    FeatureStore.create(path, ENCODER, SCALES)
    with pytest.raises(InputError, match=r"encoder\.name is net in the store and other now"):
        FeatureStore.create(path, {**ENCODER, "name": "other"}, SCALES)
    assert [p.name for p in path.iterdir() if p.name.endswith(".part")] == []


def test_unknown_urls_are_reported_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"nosuch://x/f\.zarr: this kind of URL needs another package"):
        FeatureStore("nosuch://x/f.zarr")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"encoder": {**ENCODER, "weights": "1" * 64}}, "encoder"),
        ({"magnifications": {20: 0.5}}, "magnifications"),
        ({"tile_px": 256}, "tile_px"),
    ],
)
def test_a_store_made_with_other_settings_is_refused(path, changes, named):
    arguments = {"encoder": ENCODER, "magnifications": SCALES, "tile_px": 224}
    FeatureStore.create(path, **arguments).write("A", bags(), {})
    assert FeatureStore.create(path, **arguments).slides() == ["A"]
    with pytest.raises(InputError, match=rf"{named}.* in the store and .* now.*another --out"):
        FeatureStore.create(path, **{**arguments, **changes})
    assert FeatureStore(path).slides() == ["A"]


def test_a_path_without_a_store_is_named(path, tmp_path):
    assert not is_store(path)
    with pytest.raises(InputError, match=r"no feature store here.*dmml extract"):
        FeatureStore(path)
    zarr.open_group(str(tmp_path / "other.zarr"), mode="w", attributes={"format": "other"})
    with pytest.raises(InputError, match=r"not a dmml feature store.*'other'"):
        FeatureStore(tmp_path / "other.zarr")
    with pytest.raises(InputError, match="not a dmml feature store"):
        FeatureStore.create(tmp_path / "other.zarr", ENCODER, SCALES)


def test_features_are_one_uncompressed_file(tmp_path):
    """The promise that lets a reader map the file: one chunk, uncompressed, little-endian float16, row by row."""
    path = tmp_path / "f.zarr"
    written = bags(50)
    FeatureStore.create(path, ENCODER, SCALES).write("A", written, {})
    raw = np.fromfile(path / "slides/A/20x/features/c/0/0", "<f2").reshape(100, 6)
    np.testing.assert_array_equal(raw, written[20].features.astype(np.float16))


@pytest.mark.parametrize("kind", ["filecache", "simplecache"])
def test_a_local_cache_reads_an_object_store_only_once(tmp_path, kind):
    import fsspec

    url = f"memory://{tmp_path}/f.zarr"
    store, written = FeatureStore.create(url, ENCODER, SCALES), bags()
    store.write("S.1", written, {})
    cached = FeatureStore(f"{kind}::{url}")
    for i in range(40):
        store.write(f"many{i}", {20: bags(i + 1)[20]}, {})
    many = [f"many{i}" for i in range(40)]
    assert cached.whole([*many, "not there"]) == many
    assert cached.sizes(many, (10, 20)) == {name: [0, 2 * i + 2] for i, name in enumerate(many)}
    first = cached.read("S.1", 20)
    fsspec.filesystem("memory").rm(f"{tmp_path}/f.zarr/slides/S.1", recursive=True)
    again = cached.read("S.1", 20)
    assert np.array_equal(first.features, again.features)
    assert np.array_equal(first.features, written[20].features.astype(np.float16))
    with pytest.raises(InputError):
        FeatureStore(url).read("S.1", 20)  # it is gone indeed
