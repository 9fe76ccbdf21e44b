from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.clinical.table import read_clinical
from dmml.cohort.splits.inner_folds import carve_validation
from dmml.cohort.splits.make_folds import make_folds, site_overlap, strata_of
from dmml.cohort.splits.read_splits import read_split
from dmml.cohort.splits.split import split_of_folds
from dmml.errors import InputError

OUTCOME = {"time": "t", "event": "e"}


def cohort(n=103, sites=12, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"patient_id": [f"p{i}" for i in range(n)], "t": rng.exponential(900, n).round(1)})
    table["e"] = rng.integers(0, 2, n)
    table["grade"] = rng.choice(["G2", "G3", "G4"], n, p=[0.6, 0.3, 0.1])
    table["site"] = [f"s{int(sites * rng.random() ** 2)}" for _ in range(n)]
    table.loc[:5, "t"] = np.nan
    table.to_csv("c.csv", index=False)
    return table


def survival(**options):
    cohort(**options)
    return read_clinical("c.csv", outcome=OUTCOME)


def test_strata_are_event_by_quartile():
    clinical = survival()
    strata = strata_of(clinical, list(clinical.patients.index))
    assert (strata == -1).sum() == 6
    patients = clinical.patients
    for event in (0, 1):
        times = patients["time"][(patients["event"] == event).to_numpy()]
        edges = np.quantile(times, [0.25, 0.5, 0.75])
        for patient, time in times.items():
            expected = 4 * event + sum(edge <= time for edge in edges)
            assert strata[patients.index.get_loc(patient)] == expected


def test_folds_are_even_stratified_and_repeatable():
    clinical = survival()
    folds = make_folds(clinical, 5, seed=3)
    assert folds.equals(make_folds(clinical, 5, seed=3))
    assert not folds.equals(make_folds(clinical, 5, seed=4))
    sizes = folds.value_counts()
    assert sizes.max() - sizes.min() <= 1
    strata = pd.Series(strata_of(clinical, list(folds.index)), index=folds.index)
    for _, members in folds.groupby(strata):
        counts = members.value_counts().reindex(range(5), fill_value=0)
        assert counts.max() - counts.min() <= 1
    plain = make_folds(clinical, 5, stratify=False)
    assert plain.value_counts().max() - plain.value_counts().min() <= 1


def test_labels_are_stratified():
    cohort(200)
    clinical = read_clinical("c.csv", outcome={"label": "grade"})
    per_fold = pd.crosstab(clinical.patients["label"], make_folds(clinical, 4))
    assert (per_fold.max(axis=1) - per_fold.min(axis=1)).max() <= 1
    overlap = site_overlap(clinical, make_folds(clinical, 4))
    assert (overlap[list(per_fold.index)].to_numpy() == per_fold.T.to_numpy()).all()


def test_sites_stay_whole_and_folds_balanced():
    clinical = survival(n=300, sites=25)
    folds = make_folds(clinical, 5, site=True)
    assert folds.groupby(clinical.patients["site"]).nunique().max() == 1
    overlap = site_overlap(clinical, folds)
    assert overlap["patients_with_shared_site"].sum() == 0
    assert overlap["patients"].sum() == 300
    assert overlap["patients"].between(40, 80).all()
    assert overlap["events"].between(15, 45).all()
    mixed = site_overlap(clinical, make_folds(clinical, 5))
    assert mixed["patients_with_shared_site"].sum() > 200


def test_sites_fill_every_fold():
    table = cohort(40)
    table["site"] = ["big"] * 37 + ["a", "b", "c"]
    table.to_csv("c.csv", index=False)
    folds = make_folds(read_clinical("c.csv", outcome=OUTCOME), 4, site=True)
    assert folds.nunique() == 4


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"folds": 1}, "folds: 1 is too few; at least 2"),
        ({}, {"folds": 999}, "103 patients cannot fill 999 folds"),
        ({"site": "one"}, {"site": True}, "1 sites cannot fill 5 folds"),
        ({"site": ""}, {"site": True}, "sites can only be kept whole if they are known"),
    ],
)
def test_impossible_folds_are_refused(change, arguments, message):
    cohort().assign(**change).to_csv("c.csv", index=False)
    with pytest.raises(InputError, match=message):
        make_folds(read_clinical("c.csv", outcome=OUTCOME), **arguments)


def test_a_patient_of_two_sites_is_refused_only_if_sites_are_kept_whole():
    table = cohort()
    pd.concat([table, table.iloc[[7]].assign(site="elsewhere")]).to_csv("c.csv", index=False)
    clinical = read_clinical("c.csv", outcome=OUTCOME)
    assert clinical.site_conflicts == ["p7"]
    make_folds(clinical)
    with pytest.raises(InputError, match="patient p7 has two sites"):
        make_folds(clinical, site=True)


def test_validation_is_carved_from_training_patients():
    clinical = survival()
    train = list(clinical.patients.index[:80])
    rest, validation = carve_validation(clinical, train)
    assert sorted(rest + validation) == sorted(train)
    assert len(validation) == 16
    share = clinical.patients["event"].loc[validation].mean() - clinical.patients["event"].loc[train].mean()
    assert abs(share) < 0.06
    assert carve_validation(clinical, train) == (rest, validation)
    rest, validation = carve_validation(clinical, train, site=True)
    assert not set(clinical.patients["site"].loc[rest]) & set(clinical.patients["site"].loc[validation])


def test_a_csv_of_folds_is_read():
    clinical = survival()
    folds = make_folds(clinical, 3)
    folds.to_csv("s.csv")
    split = read_split("s.csv", clinical)
    assert sorted(split.folds) == [0, 1, 2]
    train, test = split.fold(1)
    assert set(test) == set(folds.index[folds == 1])
    assert set(train) == set(folds.index[folds != 1])
    assert split.folds == split_of_folds(folds, "").folds
    with pytest.raises(InputError, match=r"fold: there is no fold 3; s.csv has the folds 0, 1, 2"):
        split.fold(3)


def test_patients_of_one_table_only_are_counted():
    clinical = survival()
    Path("s.csv").write_text("patient_id,fold\nalien,0\np1,0\np2,1\np1,0\n")
    split = read_split("s.csv", clinical)
    assert split.unknown == ["alien"]
    assert len(split.unused) == 101
    assert split.fold(0) == (["p2"], ["p1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient_id,fold\np1,0\np2,1\np1,1\n", "s.csv: patient p1 is in fold 0 and in fold 1"),
        ("patient_id,fold\np1,0\np2,first\n", "line 3 must have a patient_id and the number of a fold"),
        ("patient_id,fold\np1,0\np2,0\n", r"only one fold \(0\)"),
        ("patient_id,fold\nx,0\ny,1\n", "no patient of c.csv is in this split"),
        ("patient_id,fold\n", "contains no patient"),
        (",train,val\n0,p1,p2\n1,p3,p1\n", "patient p1 is in both train and val"),
        (",train,val,test\n0,p1,p2,p3\n1,p4,,p2\n", "patient p2 is in both val and test"),
        (",train,val\n0,p1,\n", "fold 0 has no test patient"),
        ("who,which\np1,0\n", "columns train and val"),
        ("case_id,fold\np1,0\n", "no column 'patient_id'"),
    ],
)
def test_contradictory_and_incomplete_splits_are_refused(text, message):
    clinical = survival()
    Path("s.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_split("s.csv", clinical)


def test_a_patient_tested_in_two_folds_is_refused():
    clinical = survival()
    Path("f").mkdir()
    Path("f/splits_0.csv").write_text(",train,val\n0,p1,p2\n")
    Path("f/splits_1.csv").write_text(",train,val\n0,p1,p2\n")
    with pytest.raises(InputError, match=r"f/splits_1.csv: patient p2 is a test patient of fold 0 and of fold 1"):
        read_split("f", clinical)
    Path("g").mkdir()
    with pytest.raises(InputError, match=r"no splits_<k>.csv"):
        read_split("g", clinical)
    with pytest.raises(InputError, match="h: no such file"):
        read_split("h", clinical)


def test_published_folds_are_read(shared_data):
    for name, table, patients in (
        ("tcga_luad", "mcat_luad_all_clean.csv.zip", 453),
        ("tcga_gbmlgg", "porpoise_gbmlgg_all_clean.csv.zip", 569),
    ):
        clinical = read_clinical(shared_data / name / table, patient_id="case_id")
        split = read_split(shared_data / name / "splits_5fold", clinical)
        assert sorted(split.folds) == [0, 1, 2, 3, 4]
        assert not split.unknown
        assert not split.unused
        tested = [patient for k in range(5) for patient in split.fold(k)[1]]
        assert len(tested) == len(set(tested)) == patients
        for k in range(5):
            train, test = split.fold(k)
            raw = pd.read_csv(shared_data / name / f"splits_5fold/splits_{k}.csv")
            assert set(train) == set(raw["train"].dropna())
            assert set(test) == set(raw["val"].dropna())


def test_both_forms_of_clam_splits_are_read(shared_data):
    folder = shared_data / "clam_formats"
    raw = pd.read_csv(folder / "splits_0.csv")
    table = pd.read_csv(folder / "tumor_subtyping_dummy_clean.csv")
    table.assign(case_id="case_" + table["slide_id"]).to_csv("own.csv", index=False)
    clinical = read_clinical("own.csv", patient_id="case_id", outcome={"label": "label"})
    for name in ("splits_0.csv", "splits_0_bool.csv"):
        fold = read_split(folder / name, clinical)[0]
        for part, members in (("train", fold.train), ("val", fold.validation), ("test", fold.test)):
            assert set(members) == {f"case_{slide}" for slide in raw[part].dropna()}, (name, part)
    slides_of_patients = read_clinical(folder / "tumor_subtyping_dummy_clean.csv", patient_id="case_id")
    with pytest.raises(InputError, match=r"splits_0.csv: patient patient_\d+ is in both train and (val|test)"):
        read_split(folder / "splits_0.csv", slides_of_patients)  # it divides slides, some of one patient
