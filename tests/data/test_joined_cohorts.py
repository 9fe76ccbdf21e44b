"""Several cohorts behind one data module: every slide is read from its own store, and every patient keeps its values."""

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.joined import confounded_classes, joined_doubts
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
        store = FeatureStore(tmp_path / ("one" if patient[0] == "a" else "two") / "f.zarr")
        read = data.reader.read(patient)
        for m in (10, 20):
            np.testing.assert_array_equal(read.features[m], store.read(f"{patient}-01Z-DX1", m).features)
        assert data.outcome([patient])["time"][0] == 350
    sites = data.cohort.clinical.patients["site"]
    assert set(sites[:12]) == {"one/s"}
    assert set(sites[12:]) == {"two/s"}
    # Fold k of the whole is fold k of each, dealt by one rule.
    for k in (0, 1):
        parts = [read_cohort({**section, "split": {"folds": 2}}).split[k] for section in (one, two)]
        assert data.cohort.split[k].test == parts[0].test + parts[1].test
        assert data.cohort.split[k].train == parts[0].train + parts[1].train


def test_a_cohort_without_slides_is_joined_with_one_that_has_them(tmp_path):
    one, two = cohort(tmp_path / "one", "a"), cohort(tmp_path / "two", "b")
    rna = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 40)), index=[f"b{i}" for i in range(12)])
    from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets

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
    ("change", "message"),
    [
        ({"encoder": {**ENCODER, "name": "other"}}, "made with name other, .* with e"),
        ({"encoder": {**ENCODER, "weights": "v2"}}, "made with weights v2"),
        ({"tile_px": 256}, "made with tile_px 256, .* with 224"),
        ({"slides": ["s1"]}, "slide s1 is in .*a.zarr, too"),
    ],
)
def test_stores_that_do_not_match_are_refused(tmp_path, change, message):
    slides = change.pop("slides", ["s2"])
    stores = {
        "a.zarr": store(tmp_path / "a.zarr", ["s1"], 0),
        "b.zarr": store(tmp_path / "b.zarr", slides, 1, **change),
    }
    with pytest.raises(InputError, match=message):
        JoinedStore(stores)


def test_classes_of_one_cohort_only_are_named(tmp_path):
    one = cohort(tmp_path / "one", "a", label=("LUAD", "normal")) | {"outcome": {"label": "grade"}}
    two = cohort(tmp_path / "two", "b", label=("LUSC", "normal")) | {"outcome": {"label": "grade"}}
    assert confounded_classes(read_cohort(one | {"also": [two]})) == ["LUAD", "LUSC"]
    assert confounded_classes(read_cohort(one)) == []
    z = np.random.default_rng(0).normal(size=(12, 40))
    from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets

    sets = read_gene_sets()
    for prefix, section in (("a", one), ("b", two)):
        columns = genes_of(sets["tumor"])[:20] + genes_of(sets["tme"])[:20]
        pd.DataFrame(z, index=[f"{prefix}{i}" for i in range(12)], columns=columns).to_csv(
            f"{prefix}.csv", index_label="patient_id"
        )
        section["expression"] = {"path": f"{prefix}.csv", "scale": "zscore"}
    with pytest.raises(InputError, match="z-scored one by one"):
        read_cohort(one | {"also": [two]})


def test_two_spellings_of_a_label_are_refused(tmp_path):
    one = cohort(tmp_path / "one", "a", label=("G2", "G3")) | {"outcome": {"label": "grade"}}
    two = cohort(tmp_path / "two", "b", label=("g2", "G3")) | {"outcome": {"label": "grade"}}
    with pytest.raises(InputError, match="'G2' and 'g2' in 'label' are spellings of one label"):
        read_cohort(one | {"also": [two]})


def test_levels_of_one_cohort_only_are_named(tmp_path):
    sections = []
    for name, prefix, words in (("one", "a", ("male", "female")), ("two", "b", ("M", "female"))):
        section = cohort(tmp_path / name, prefix) | {"covariates": ["sex"]}
        pd.read_csv(section["clinical"]).assign(sex=list(words) * 6).to_csv(section["clinical"], index=False)
        sections.append(section)
    doubts = joined_doubts(read_cohort(sections[0] | {"also": [sections[1]]}))
    assert doubts == ["sex: levels of one cohort only: male (one), M (two); are they spelled differently in another?"]


def test_a_joined_cohort_of_another_platform_is_reported(tmp_path, capsys):
    """Both are log2, and a model can tell the cohorts by it."""
    from dmml.cohort.cohort_summary import rna_provenance
    from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
    from dmml.commands.console import show_log

    sets, rng = read_gene_sets(), np.random.default_rng(0)
    columns = genes_of(sets["tumor"])[:20] + genes_of(sets["tme"])[:20]
    level, sections = rng.uniform(0, 8, 40), []
    for name, prefix, offset in (("seq", "a", 0.0), ("array", "b", 5.0), ("other", "c", 0.1)):
        section = cohort(tmp_path / name, prefix)
        values = np.maximum(level + offset + rng.normal(0, 1, (12, 40)), 0)
        table = pd.DataFrame(values, index=[f"{prefix}{i}" for i in range(12)], columns=columns)
        table.to_csv(f"{name}.csv", index_label="patient_id")
        sections.append(section | {"expression": {"path": f"{name}.csv", "scale": "log2"}})
    data = MultimodalDataModule(**sections[0], also=[sections[1]])
    with show_log():
        data.setup("fit")
    printed = capsys.readouterr().out
    assert "RNA of seq: 12 patients × 40 genes, log2 (as stated)" in printed
    assert "joined cohorts: RNA of array: the median gene lies" in printed
    assert "standardise: within_cohort" in printed
    account = rna_provenance(data.cohort)
    assert account["cohorts"]["array"]["sources"][0]["file"] == "array.csv"
    assert account["cohorts"]["seq"]["scale_stated"]
    assert joined_doubts(read_cohort(sections[0] | {"also": [sections[2]]})) == []


def test_another_platform_in_a_test_and_clipped_values_are_reported(tmp_path):
    from dmml.cohort.cohort import Cohort
    from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
    from dmml.cohort.rna.expression import Expression
    from dmml.data.rna import CohortRna, describe_rna_facts

    rng, sets = np.random.default_rng(0), read_gene_sets()
    home = read_cohort(cohort(tmp_path / "one", "a"))
    genes = genes_of(sets["tumor"])[:20] + genes_of(sets["tme"])[:20]

    def rna(offset, spike=0.0):
        values = rng.normal(5 + offset, 1, (12, 40)).clip(3 + offset, 7 + offset)
        values[0, 0] += spike
        table = pd.DataFrame(values, index=home.clinical.patients.index, columns=genes)
        return CohortRna(Cohort("x", home.clinical, Expression(table, "log2"), sets))

    fitted = {"tumor": rna(0).fit(list(home.clinical.patients.index), genes)}
    fitted["tumor"]["std"] = [1.0] * 40
    assert describe_rna_facts(rna(0).facts(fitted)) == ""
    assert (
        describe_rna_facts(rna(0, spike=7377).facts(fitted))
        == "1 of 480 standardised values lie beyond ±3 and were clipped to it"
    )
    assert "the median gene lies far from its training mean (tumor 5.0 training" in describe_rna_facts(
        rna(5).facts(fitted)
    )
