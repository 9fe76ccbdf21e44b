"""`dmml features list` and `verify`: a sound store passes, and every kind of damage is named."""

import argparse
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from dmml.commands import features
from dmml.errors import InputError
from dmml.store import FeatureStore, SlideFeatures
from dmml.store.local_folder import LocalFolder
from dmml.store.slide_files import slide_files

ENCODER = {"name": "net", "weights": "0", "dim": 4, "preprocessing": {}}


def command(*argv):
    parser = argparse.ArgumentParser()
    features.add_arguments(parser)
    features.run(parser.parse_args([str(word) for word in argv]))


def sound():
    """Four 20x tiles in two 10x tiles."""
    coarse = SlideFeatures(np.ones((2, 4)), np.array([[112.0, 112.0], [336.0, 112.0]]))
    fine = np.array([[56.0, 56.0], [168.0, 56.0], [280.0, 56.0], [392.0, 168.0]])
    return {10: coarse, 20: SlideFeatures(np.ones((4, 4)), fine, np.array([0, 0, 1, 1]))}


@pytest.fixture
def store():
    made = FeatureStore.create("f.zarr", ENCODER, {10: 1.0, 20: 0.5})
    made.write("good", sound(), {"mpp": 0.25, "mpp_source": "aperio.MPP", "source": "good.svs"})
    return made


def test_features_list_prints_a_table_with_counts(store, capsys):
    store.write("bare", {20: sound()[20]}, {})
    command("list", "f.zarr")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["bare", "0", "4", "?", "?", "?"]
    assert lines[2] == ["good", "2", "4", "0.25", "aperio.MPP", "good.svs"]
    assert " ".join(lines[3]) == "2 slides, 2 tiles at 10x, 8 tiles at 20x; net, 4 features"


def test_a_sound_store_passes(store, capsys):
    orphan = sound()
    orphan[20].parent[1] = -1
    store.write("orphan", orphan, {}, np.zeros((4, 4, 3), np.uint8))
    command("verify", "f.zarr")
    assert "2 slides, all sound" in capsys.readouterr().out


def write_unchecked(store, slide, bags):
    """A slide that was written by other means, or before values were checked at writing."""
    kept = {
        m: SlideFeatures(
            np.asarray(bag.features, np.float16),
            np.asarray(bag.position, np.float32),
            None if bag.parent is None else np.asarray(bag.parent, np.int32),
        )
        for m, bag in bags.items()
    }
    store.backend.write_group("slides", slide, slide_files(kept, {}, {}), durable=False)


def damage(name, bags):
    fine, coarse = bags[20], bags[10]
    cells = {
        "nan": (fine.features, (2, 1), np.nan),
        "infinite": (coarse.features, (1, 0), np.inf),
        "zeros": (fine.features, 3, 0),
        "nowhere": (coarse.position, (1, 0), np.nan),
        "twice": (fine.position, 1, fine.position[0]),
        "no parent": (fine.parent, 0, 2),
        "below": (fine.parent, 1, -2),
        "outside": (fine.parent, 2, 0),
    }
    if name in cells:
        array, where, value = cells[name]
        array[where] = value
    elif name == "width":
        coarse.features = np.ones((2, 5))
    elif name == "rows":
        fine.position = fine.position[:3]
    elif name == "no coarse":
        del bags[10]
    elif name == "undeclared":
        bags[40] = fine
    elif name == "empty":
        for m in bags:
            bags[m] = SlideFeatures(np.ones((0, 4)), np.ones((0, 2)), None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nan", "20x: 1 tiles hold NaN or infinity, first in row 2"),
        ("zeros", "20x: 1 tiles hold zeros only"),
        ("width", r"10x: features are \(2, 5\), not \(N, 4\)"),
        ("rows", r"20x: positions are \(3, 2\), not \(4, 2\)"),
        ("twice", "20x: 1 tiles have the same position as another"),
        ("no parent", "20x: parent 2 of row 0 does not exist"),
        ("outside", "20x: 1 tiles lie outside their parent, first in row 2"),
        ("no coarse", "20x: has parents, but the coarser magnification is missing"),
        ("infinite", "10x: 1 tiles hold NaN or infinity, first in row 1"),
        ("nowhere", "10x: 1 positions hold NaN or infinity, first in row 1"),
        ("below", "20x: parent -2 of row 1 does not exist"),
        ("undeclared", "40x: is not among the store's magnifications"),
        ("empty", "has no tiles"),
    ],
)
def test_every_kind_of_damage_is_detected(store, capsys, name, message):
    import re

    bags = sound()
    damage(name, bags)
    write_unchecked(store, "bad", bags)
    with pytest.raises(InputError, match=r"f\.zarr: 1 of 2 slides are damaged \(bad\)"):
        command("verify", "f.zarr")
    assert re.search(f"^bad: {message}", capsys.readouterr().out, re.MULTILINE)


def test_a_truncated_file_is_detected(store, tmp_path, capsys):
    store.write("cut", sound(), {})
    chunk = tmp_path / "f.zarr/slides/cut/20x/features/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"damaged \(cut\)"):
        command("verify", "f.zarr")
    chunk.unlink()
    with pytest.raises(InputError, match=r"damaged \(cut\)"):
        command("verify", "f.zarr")


def test_a_slide_whose_description_is_damaged_is_named_beside_the_others(store, tmp_path, capsys):
    store.write("torn", sound(), {})
    store.backend.write_group("slides", "unfinished", [("zarr.json", b'{"node_type": "group"}')], False)
    (tmp_path / "f.zarr/slides/torn/zarr.json").write_bytes(b'{"attributes": {"comp')
    with pytest.raises(InputError, match=r"f\.zarr: 1 of 2 slides are damaged \(torn\)"):
        command("verify", "f.zarr")
    assert "torn: cannot be read (f.zarr/slides/torn: its zarr.json is damaged" in capsys.readouterr().out


def test_a_damaged_array_is_named_although_others_of_its_shape_were_read(store, tmp_path):
    store.write("torn", sound(), {})
    command("list", "f.zarr")
    header = tmp_path / "f.zarr/slides/torn/20x/features/zarr.json"
    header.write_bytes(header.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"torn/20x/features: its zarr\.json is damaged"):
        command("list", "f.zarr")


def test_a_listing_reads_each_file_once_and_keeps_no_attributes(store, monkeypatch, capsys):
    for i in range(300):
        store.write(f"slide{i:03d}", sound(), {"source": f"slide{i:03d}.svs", "notes": [f"{i}" * 1_000]})
    reads, real = Counter(), LocalFolder.read

    def counted(self, name):
        reads[name] += 1
        return real(self, name)

    monkeypatch.setattr(LocalFolder, "read", counted)
    command("list", "f.zarr")
    assert len(capsys.readouterr().out.splitlines()) == 303
    assert set(reads.values()) == {1}
    assert len(reads) == 1 + 301 * 3  # the root; of each slide its description and the headers of its features
    tracemalloc.start()
    assert sum(1 for _ in store.summaries([20])) == 301
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 450_000, "the notes alone take 850,000 bytes"


def test_numbers_of_tiles_are_taken_from_the_record_and_verified(store, capsys):
    store.write("extracted", sound(), {"tiles": {"10": 2, "20": 4}})
    store.write("changed", sound(), {"tiles": {"10": 2, "20": 5}})
    command("list", "f.zarr")
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:4]]
    assert rows == [["changed", "2", "5"], ["extracted", "2", "4"], ["good", "2", "4"]]
    with pytest.raises(InputError, match=r"damaged \(changed\)"):
        command("verify", "f.zarr")
    assert "changed: its attributes record {'10': 2, '20': 5} tiles, and its arrays hold" in capsys.readouterr().out


def test_an_empty_store_and_a_missing_one_fail_verification(store):
    FeatureStore.create("empty.zarr", ENCODER, {20: 0.5})
    with pytest.raises(InputError, match="no complete slide"):
        command("verify", "empty.zarr")
    with pytest.raises(InputError, match=r"none\.zarr: no feature store"):
        command("list", "none.zarr")
