"""What a fit reads of a store before its first batch: each description once, of the cohort's slides alone."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.file_hashes import file_hashes
from dmml.data.dataset import PatientDataset, PatientReader, subsample
from dmml.data.module import MultimodalDataModule
from dmml.errors import InputError
from dmml.store import FeatureStore, SlideFeatures
from dmml.store.local_folder import LocalFolder
from dmml.store.remote_folder import RemoteFolder

ENCODER = {"name": "e", "weights": "w", "dim": 4}


def bag(n, parent=None):
    return SlideFeatures(np.ones((n, 4)), np.random.default_rng(n).random((n, 2)), parent)


def write(store, slide, n=3, **attributes):
    store.write(
        slide, {10: bag(n), 20: bag(4 * n, np.repeat(np.arange(n), 4))}, {"source": f"{slide}.svs"} | attributes
    )


@pytest.fixture(params=["folder", "memory"])
def cohort(request, tmp_path):
    """A data section of 12 patients, one without slides, and a store of their slides, 5 strangers' and a torn one."""
    path = str(tmp_path / "f.zarr") if request.param == "folder" else f"memory://{tmp_path}/f.zarr"
    store = FeatureStore.create(path, ENCODER, {10: 1.0, 20: 0.5})
    for i in range(11):
        write(store, f"P{i:02d}-1", i + 1)
    for i in range(5):
        write(store, f"stranger{i}")
    store.backend.write_group("slides", "P11-1", [("zarr.json", b'{"attributes": {}, "node_type": "group"}')], False)
    table = pd.DataFrame({"patient_id": [f"P{i:02d}" for i in range(12)], "days": range(100, 1300, 100)})
    table["died"] = [0, 1] * 6
    table.to_csv(tmp_path / "clinical.csv", index=False)
    return {
        "clinical": str(tmp_path / "clinical.csv"),
        "outcome": {"time": "days", "event": "died"},
        "features": path,
        "token_budget": 200,
        "cache_gib": 0,
    }


@pytest.fixture
def reads(monkeypatch):
    """How often each file of a store was read."""
    seen = Counter()
    for kind in (LocalFolder, RemoteFolder):

        def counted(self, name, real=kind.read):
            seen[name] += 1
            return real(self, name)

        monkeypatch.setattr(kind, "read", counted)
    return seen


def test_each_slides_description_is_read_once_and_slides_of_other_patients_are_not_opened(cohort, reads):
    data = MultimodalDataModule(**cohort)
    data.setup("fit")
    data.mean_batch()
    for part in ("train", "val", "train"):
        dataset = PatientDataset(data.reader, data.patients(part))
        sizes = dataset.sizes(from_store=True, training=False)
        assert sizes.tolist() == [[int(p[1:]) + 1, 4 * int(p[1:]) + 4] for p in data.patients(part)]
        for patient in data.patients(part):
            assert list(data.reader.sizes(patient).values()) == sizes[data.patients(part).index(patient)].tolist()
    fitted = data.fitted({})
    for _ in range(2):
        for patient in data.patients("train"):
            assert len(data.reader.read(patient).parent) == 4 * int(patient[1:]) + 4
    described = {name: n for name, n in reads.items() if name.endswith("zarr.json") and name.count("/") > 1}
    assert {name.split("/")[1] for name in described} == {f"P{i:02d}-1" for i in range(12)}
    assert set(described.values()) == {1}
    assert "P11" not in data.patients("train") + data.patients("val")
    assert set(fitted["hashes"]) == {"clinical", "features", "partition"}


def test_a_changed_store_has_another_hash(cohort):
    def hashes():
        data = MultimodalDataModule(**cohort)
        data.setup("fit")
        return data.hashes({})["features"], file_hashes(cohort)["features"]

    of_cohort, whole = hashes()
    assert hashes() == (of_cohort, whole)
    store = FeatureStore(cohort["features"], mode="r+")
    write(store, "stranger9")
    assert hashes()[0] == of_cohort, "of the cohort's slides alone"
    assert hashes()[1] != whole
    write(store, "P03-1", 9)
    fewer = hashes()[0]
    assert fewer != of_cohort, "another number of tiles"
    write(store, "P03-1", 9, source="another.svs")
    assert hashes()[0] not in (of_cohort, fewer), "another source"
    write(store, "P03-1", 4)
    assert hashes()[0] == of_cohort


def test_little_memory_is_kept_per_slide(tmp_path):
    import tracemalloc

    store = FeatureStore.create(tmp_path / "f.zarr", ENCODER, {10: 1.0, 20: 0.5})
    names = [f"TCGA-05-{i:04d}-01Z-00-DX1" for i in range(200)]
    for i, name in enumerate(names):
        write(store, name, i + 1, dimensions=[100_000, 80_000], mpp=0.25, mpp_source="openslide.mpp-x")
    reader = PatientReader(FeatureStore(store.path), {name: [name] for name in names}, (10, 20), cache_gib=0)
    tracemalloc.start()
    try:
        for name in names:
            reader.read(name)
        held = tracemalloc.get_traced_memory()[0] / len(names)
    finally:
        tracemalloc.stop()
    assert held < 3_000, "bytes a slide, of which 100,000 are held by every process that reads ahead"


def test_magnifications_that_a_store_does_not_link_are_refused(tmp_path):
    """A token's parent is a row of the next coarser magnification, not of the coarsest."""
    store = FeatureStore.create(tmp_path / "f.zarr", ENCODER, {5: 2.0, 10: 1.0, 20: 0.5})
    for wrong in ((5, 10, 20), (20, 5)):
        with pytest.raises(InputError, match=r"data\.magnifications: \[5, .*of a store with \[5, 10, 20\]"):
            PatientReader(store, {}, wrong)
    for right in ((5,), (5, 10), (10, 20), (20,)):
        assert PatientReader(store, {}, right).magnifications == list(right)


def test_tokens_are_drawn_from_a_patient_with_10x_alone(tmp_path):
    store = FeatureStore.create(tmp_path / "f.zarr", ENCODER, {10: 1.0, 20: 0.5})
    store.write("coarse", {10: bag(50)}, {})
    write(store, "both", 30)
    reader = PatientReader(store, {"C": ["coarse"], "B": ["coarse", "both"]}, (10, 20))
    part = subsample(reader.read("C"), 7, (0, 0))
    assert {m: x.shape for m, x in part.features.items()} == {10: (7, 4)}
    assert part.parent.shape == (0,)
    one = PatientReader(store, {"C": ["coarse"]}, (10,))
    assert len(subsample(one.read("C"), 7, (0, 0)).parent) == 7
    mixed = subsample(reader.read("B"), 60, (0, 0))
    assert len(mixed.features[20]) == len(mixed.parent) <= 60
    assert mixed.parent.max() < len(mixed.features[10])
