"""Several cohorts behind one data module: every slide from its own store, every patient's numbers its own."""

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.joined import confounded_classes
from dmml.cohort.section import read_cohort
from dmml.data.joined_store import JoinedStore
from dmml.data.module import MultimodalDataModule
from dmml.errors import InputError
from dmml.store import FeatureStore, SlideFeatures

ENCODER = {"name": "e", "weights": "w", "dim": 4}


def store(path, slides, seed, encoder=ENCODER, tile_px=224):
    made = FeatureStore.create(path, encoder, {10: 1.0, 20: 0.5}, tile_px)
    rng = np.random.default_rng(seed)
    for slide in slides:
        coarse = SlideFeatures(rng.random((3, 4)), rng.random((3, 2)), None)
        fine = SlideFeatures(rng.random((12, 4)), rng.random((12, 2)), np.repeat(np.arange(3), 4))
        made.write(slide, {10: coarse, 20: fine}, {"source": "x"})
    return made


def cohort(folder, prefix, n=12, label=("G2", "G3")):
    folder.mkdir()
    ids = [f"{prefix}{i}" for i in range(n)]
    table = pd.DataFrame({"patient_id": ids, "days": np.arange(n) * 100 + 50, "died": [0, 1] * (n // 2)})
    table["grade"], table["site"] = [label[i % 2] for i in range(n)], "s"
    table.to_csv(folder / "clinical.csv", index=False)
    store(folder / "f.zarr", [f"{patient}-01Z-DX1" for patient in ids], seed=ord(prefix))
    return {
        "name": folder.name,
        "clinical": str(folder / "clinical.csv"),
        "outcome": {"time": "days", "event": "died"},
        "features": str(folder / "f.zarr"),
    }


def test_slides_outcomes_and_sites_stay_with_their_patients(tmp_path):
    one, two = cohort(tmp_path / "one", "a"), cohort(tmp_path / "two", "b", 14)
    data = MultimodalDataModule(**one, also=[two], split={"folds": 2}, batch_size=4)
    data.setup("fit")
    assert data.name == "one+two"
    assert isinstance(data.store, JoinedStore)
    everyone = data.patients("train") + data.patients("val") + data.patients("test")
    assert sorted(everyone) == sorted([f"a{i}" for i in range(12)] + [f"b{i}" for i in range(14)])
    for patient in ("a3", "b3"):
        own = FeatureStore(tmp_path / ("one" if patient[0] == "a" else "two") / "f.zarr")
        read = data.reader.read(patient)
        for m in (10, 20):
            np.testing.assert_array_equal(read.features[m], own.read(f"{patient}-01Z-DX1", m).features)
        assert data.outcome([patient])["time"][0] == 350
    sites = data.cohort.clinical.patients["site"]
    assert set(sites[:12]) == {"one/s"}
    assert set(sites[12:]) == {"two/s"}
    # Fold k of the whole is fold k of each, dealt by one rule.
    for k in (0, 1):
        parts = [read_cohort({**section, "split": {"folds": 2}}).split[k] for section in (one, two)]
        assert data.cohort.split[k].test == parts[0].test + parts[1].test
        assert data.cohort.split[k].train == parts[0].train + parts[1].train


def test_a_cohort_without_slides_beside_one_with(tmp_path):
    one, two = cohort(tmp_path / "one", "a"), cohort(tmp_path / "two", "b")
    rna = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 40)), index=[f"b{i}" for i in range(12)])
    from dmml.cohort.gene_sets import genes_of, read_gene_sets

    sets = read_gene_sets()
    rna.columns = genes_of(sets["tumor"])[:20] + genes_of(sets["tme"])[:20]
    rna.rename_axis("patient_id").to_csv(tmp_path / "rna.csv")
    two |= {"features": None, "expression": {"path": str(tmp_path / "rna.csv"), "scale": "zscore"}}
    data = MultimodalDataModule(**one, also=[two])
    data.setup("fit")
    counts = data.counts("train")
    assert counts["with_slides"] + counts["with_rna"] == counts["patients"]
    assert counts["left_out"] == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"encoder": {**ENCODER, "name": "other"}}, "made with name other, .* with e"),
        ({"encoder": {**ENCODER, "weights": "v2"}}, "made with weights v2"),
        ({"tile_px": 256}, "made with tile_px 256, .* with 224"),
        ({"slides": ["s1"]}, "slide s1 is in .*a.zarr too"),
    ],
)
def test_stores_that_do_not_go_together(tmp_path, change, told):
    slides = change.pop("slides", ["s2"])
    stores = {
        "a.zarr": store(tmp_path / "a.zarr", ["s1"], 0),
        "b.zarr": store(tmp_path / "b.zarr", slides, 1, **change),
    }
    with pytest.raises(InputError, match=told):
        JoinedStore(stores)


def test_classes_that_tell_the_laboratory_are_named(tmp_path):
    one = cohort(tmp_path / "one", "a", label=("LUAD", "normal")) | {"outcome": {"label": "grade"}}
    two = cohort(tmp_path / "two", "b", label=("LUSC", "normal")) | {"outcome": {"label": "grade"}}
    assert confounded_classes(read_cohort(one | {"also": [two]})) == ["LUAD", "LUSC"]
    assert confounded_classes(read_cohort(one)) == []
    z = np.random.default_rng(0).normal(size=(12, 40))
    from dmml.cohort.gene_sets import genes_of, read_gene_sets

    sets = read_gene_sets()
    for prefix, section in (("a", one), ("b", two)):
        columns = genes_of(sets["tumor"])[:20] + genes_of(sets["tme"])[:20]
        pd.DataFrame(z, index=[f"{prefix}{i}" for i in range(12)], columns=columns).to_csv(
            f"{prefix}.csv", index_label="patient_id"
        )
        section["expression"] = {"path": f"{prefix}.csv", "scale": "zscore"}
    with pytest.raises(InputError, match="z-scored one by one"):
        read_cohort(one | {"also": [two]})
