"""What the data section of a config gives."""

import time

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.config_paths import check_files_exist, named_files
from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
from dmml.cohort.rna.expression import Expression, write_expression
from dmml.cohort.section import read_cohort
from dmml.errors import InputError

SETS = read_gene_sets()
GENES = genes_of(SETS["tumor"])[:30] + genes_of(SETS["tme"])[:20]


@pytest.fixture
def section(tmp_path):
    folder = tmp_path / "hospital"
    folder.mkdir()
    rng = np.random.default_rng(0)
    patients = pd.DataFrame({"patient_id": [f"p{i}" for i in range(60)], "slide_id": [f"s{i}.svs" for i in range(60)]})
    patients["t"] = rng.exponential(900, 60).round()
    patients["e"] = rng.integers(0, 2, 60)
    patients["site"] = rng.choice(list("abcdefgh"), 60)
    patients.loc[:3, "e"] = np.nan
    patients.to_csv(folder / "clinical.csv", index=False)
    table = pd.DataFrame(rng.random((50, 50)), index=[f"p{i}" for i in range(20, 70)], columns=GENES, dtype=np.float32)
    write_expression(Expression(table, "tpm"), folder / "e.parquet")
    outcome = {"time": "t", "event": "e", "unit": "days"}
    return {
        "clinical": f"{folder}/clinical.csv",
        "outcome": outcome,
        "expression": f"{folder}/e.parquet",
        "features": None,
    }


def test_counts_are_of_everything_used_and_not_used(section):
    cohort = read_cohort(section)
    assert cohort.name == "hospital"
    assert cohort.summary() == {
        "patients": 60,
        "patients with outcome": 56,
        "patients without outcome": 4,
        "events": int(pd.read_csv(section["clinical"])["e"].sum()),
        "patients with RNA": 40,
        "patients without RNA": 20,
        "RNA samples of other patients (not used)": 10,
        "slides named": 60,
        "tumor genes measured": 30,
        "tumor genes absent": len(genes_of(SETS["tumor"])) - 30,
        "tme genes measured": 20,
        "tme genes absent": len(genes_of(SETS["tme"])) - 20,
    }


def test_without_a_split_everybody_is_tested_and_a_fifth_validates(section):
    cohort = read_cohort({**section, "name": "x"})
    parts = cohort.partition()
    assert cohort.name == "x"
    assert sorted(parts.train + parts.val) == sorted(parts.test) == sorted(cohort.clinical.patients.index)
    assert len(parts.val) == 12
    assert cohort.partition("predict") == ([], [], list(cohort.clinical.patients.index))


def test_the_parts_of_a_fold_share_no_patient_and_no_site(section):
    tested = []
    for fold in range(4):
        parts = read_cohort(
            {**section, "split": {"folds": 4, "stratify": True, "site": "site", "seed": 1}, "fold": fold}
        ).partition()
        assert len(set(parts.train) | set(parts.val) | set(parts.test)) == sum(map(len, parts)) == 60
        site = pd.read_csv(section["clinical"]).set_index("patient_id")["site"]
        assert not set(site[parts.test]) & set(site[parts.train + parts.val])
        assert parts.val
        tested += parts.test
    assert len(tested) == len(set(tested)) == 60


def test_gene_sets_are_narrowed_to_the_table(section):
    usable = read_cohort(section).usable_gene_sets()
    assert genes_of(usable["tumor"]) == sorted(GENES[:30])
    assert all(genes for genes in usable["tme"].values())
    for program, genes in usable["tumor"].items():
        assert genes == [gene for gene in SETS["tumor"][program] if gene in GENES]


def test_a_cohort_to_predict_needs_no_outcome(section):
    cohort = read_cohort({**section, "outcome": None})
    assert cohort.clinical.kind is None
    assert cohort.summary()["patients with outcome"] == 0


def test_all_missing_files_are_named_in_one_message():
    section = {
        "clinical": "data/luad/clinical.csv",
        "expression": {"path": "data/luad/e.csv", "patient_id": "x"},
        "features": "data/luad/features.zarr",
        "gene_sets": {"tumor": "t.gmt", "tme": "e.gmt"},
        "split": "folds",
    }
    assert list(named_files(section)) == [
        "clinical",
        "expression",
        "features",
        "split",
        "gene_sets.tumor",
        "gene_sets.tme",
    ]
    with pytest.raises(InputError) as caught:
        read_cohort(section)
    for part in (
        "clinical.csv (clinical)",
        "e.csv (expression)",
        "features.zarr (features)",
        "folds (split)",
        "t.gmt (gene_sets.tumor)",
    ):
        assert part in str(caught.value)
    check_files_exist({"clinical": __file__, "features": "s3://bucket/f.zarr"})  # a URL is for its reader to open


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expression": None}, "names neither expression nor features"),
        ({"clinical": None}, "no clinical table is named"),
        ({"split": {"folds": 5}, "fold": 5}, "fold: there is no fold 5; .* has the folds 0, 1, 2, 3, 4"),
        ({"split": {"fold": 5}}, "split: unknown key 'fold'"),
        ({"split": {"folds": 5, "site": "ward"}}, "no column 'ward'"),
        ({"outcome": {"time": "t", "event": "event"}}, "no column 'event'"),
    ],
)
def test_invalid_sections_are_refused_with_the_reason(section, change, message):
    with pytest.raises(InputError, match=message):
        read_cohort({**section, **change})


def test_a_table_that_shares_no_patient_or_no_gene_with_the_cohort_is_refused(section, tmp_path):
    table = pd.DataFrame(np.ones((3, 50)), index=["x1", "x2", "x3"], columns=GENES, dtype=np.float32)
    write_expression(Expression(table, "tpm"), "strangers.parquet")
    with pytest.raises(InputError, match=r"no patient of the RNA table \('x1', …\) is in .*clinical.csv \('p0', …\)"):
        read_cohort({**section, "expression": "strangers.parquet"})
    table = pd.DataFrame(np.ones((3, 2)), index=["p1", "p2", "p3"], columns=["A1BG", "A1CF"], dtype=np.float32)
    write_expression(Expression(table, "tpm"), "genes.parquet")
    with pytest.raises(InputError, match="none of the 2078 tumor genes is in the table"):
        read_cohort({**section, "expression": "genes.parquet"}).usable_gene_sets()


def test_the_published_luad_cohort_is_read_with_its_published_fold(shared_data):
    folder = shared_data / "tcga_luad"
    start = time.perf_counter()
    cohort = read_cohort(
        {
            "clinical": folder / "clinical.csv",
            "outcome": {"time": "os_days", "event": "os_event", "unit": "days"},
            "covariates": ["age", "sex", "stage"],
            "expression": {
                "path": folder / "mcat_luad_all_clean.csv.zip",
                "patient_id": "case_id",
                "suffix": "_rnaseq",
                "scale": "zscore",
            },
            "split": folder / "splits_5fold",
            "fold": 2,
        }
    )
    assert time.perf_counter() - start < 8
    summary = cohort.summary()
    assert (summary["patients"], summary["patients with outcome"], summary["patients with RNA"]) == (453, 450, 453)
    assert cohort.name == "tcga_luad"
    parts = cohort.partition()
    raw = pd.read_csv(folder / "splits_5fold/splits_2.csv")
    assert set(parts.test) == set(raw["val"].dropna())
    assert set(parts.train) | set(parts.val) == set(raw["train"].dropna())
    assert 0.18 < len(parts.val) / (len(parts.val) + len(parts.train)) < 0.22
    usable = cohort.usable_gene_sets()
    assert len(genes_of(usable["tumor"])) > 380
    assert len(genes_of(usable["tme"])) > 380
