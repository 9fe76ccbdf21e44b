"""Outcomes that contradict the stated meaning of their columns, in made-up and in real follow-up."""

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.clinical.plausibility import outcome_doubts
from dmml.cohort.clinical.table import read_clinical
from dmml.errors import InputError


def table(**columns):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"patient_id": [f"p{i}" for i in range(30)], "t": rng.integers(30, 900, 30)})
    frame.assign(**{"e": rng.integers(0, 2, 30)} | columns).to_csv("c.csv", index=False)
    return "c.csv"


@pytest.mark.parametrize("name", ["censorship", "Censored", "is_censored", "cens"])
def test_a_column_of_censoring_is_refused_as_an_event_unless_checked(name):
    path = table(**{name: [0, 1] * 15})
    with pytest.raises(InputError, match=f"whose name says that 1 means censored; write censored: {name}"):
        read_clinical(path, outcome={"time": "t", "event": name})
    right = read_clinical(path, outcome={"time": "t", "censored": name}).patients["event"]
    event = read_clinical(path, outcome={"time": "t", "event": name, "checked": True}).patients["event"]
    assert (right == 1 - event).all()


@pytest.mark.parametrize("name", ["OS", "os_event", "death", "Died", "vital_status_code", "relapse", "PFI"])
def test_a_column_of_events_is_refused_as_censoring(name):
    path = table(**{name: [0, 1] * 15})
    with pytest.raises(InputError, match=f"whose name says that 1 means that it happened; write event: {name}"):
        read_clinical(path, outcome={"time": "t", "censored": name})
    read_clinical(path, outcome={"time": "t", "event": name})


@pytest.mark.parametrize("words", [("Alive", "Dead"), ("LIVING", "DECEASED"), ("0:LIVING", "1:DECEASED")])
@pytest.mark.parametrize("column", ["vital_status", "OS_STATUS", "demographic.vital_status", "Vital Status"])
def test_an_event_that_contradicts_the_vital_status_is_refused(words, column):
    event = np.random.default_rng(1).integers(0, 2, 30)
    vital = [words[e] for e in event]
    read_clinical(table(e=event, **{column: vital}), outcome={"time": "t", "event": "e"})
    some = [words[1 - e] if i % 3 == 0 else words[e] for i, e in enumerate(event)]  # progression is not death
    read_clinical(table(e=event, **{column: some}), outcome={"time": "t", "event": "e"})
    with pytest.raises(InputError, match=rf"'e' contradicts '{column}' for 30 of 30 patients.*censored: e"):
        read_clinical(table(e=1 - event, **{column: vital}), outcome={"time": "t", "event": "e"})
    with pytest.raises(InputError, match="contradicts"):
        read_clinical(table(e=event, **{column: vital}), outcome={"time": "t", "censored": "e"})


def test_times_longer_than_a_life_are_refused():
    path = table(t=np.arange(30) * 100)
    with pytest.raises(InputError, match="would be 242 years, in the unit months; correct the unit"):
        read_clinical(path, outcome={"time": "t", "event": "e", "unit": "months"})
    assert read_clinical(path, outcome={"time": "t", "event": "e"}).patients["time"].max() == 2900


def test_doubtful_outcomes_are_described():
    rng = np.random.default_rng(0)
    time, event = rng.exponential(20, 60), rng.integers(0, 2, 60).astype(float)
    assert "for more than" in outcome_doubts(pd.DataFrame({"time": time, "event": event}))[0]
    assert outcome_doubts(pd.DataFrame({"time": time * 30, "event": event})) == []
    assert outcome_doubts(pd.DataFrame({"time": time, "event": 0.0})) == ["all 60 patients are censored"]
    assert outcome_doubts(pd.DataFrame({"time": time, "event": 1.0})) == ["all 60 patients have the event"]
    assert outcome_doubts(pd.DataFrame({"label": ["a", "b"]})) == []
    assert outcome_doubts(pd.DataFrame({"time": [np.nan], "event": [np.nan]})) == ["no patient has a known outcome"]


@pytest.mark.parametrize("outcome", ["os", "dss", "pfi"])
def test_real_follow_up_raises_no_doubt_and_its_opposite_does(shared_data, outcome):
    luad = pd.read_csv(shared_data / "tcga_luad" / "clinical.csv")
    right = pd.DataFrame({"time": luad[f"{outcome}_days"], "event": luad[f"{outcome}_event"]})
    assert outcome_doubts(right) == []
    assert "exchanged" in outcome_doubts(right.assign(event=1 - right["event"]))[0]


def test_a_fit_warns_of_a_doubtful_outcome(shared_data, tmp_path, capsys):
    from dmml.commands.console import show_log
    from dmml.data.module import MultimodalDataModule

    luad = shared_data / "tcga_luad"
    table = pd.read_csv(luad / "clinical.csv", dtype={"patient_id": str})
    table.assign(os_event=1 - table["os_event"]).to_csv("flipped.csv", index=False)
    rna = {"path": str(luad / "mcat_luad_all_clean.csv.zip"), "patient_id": "case_id", "suffix": "_rnaseq"}
    for clinical, flipped in ((str(luad / "clinical.csv"), False), ("flipped.csv", True)):
        outcome = {"time": "os_days", "event": "os_event", "unit": "days"}
        with show_log():
            MultimodalDataModule(clinical, name="x", outcome=outcome, expression=rna).setup("fit")
        printed = capsys.readouterr().out
        assert (
            "x: doubtful outcome: 87% of the patients followed longest have the event, but only 65% of all patients; are 0"
            in printed
        ) == flipped


def test_a_cohort_of_mostly_deaths_raises_no_doubt(shared_data):
    """Glioblastoma: 83 of 100 grade IV patients died. A share of events alone proves nothing, so it refuses nothing."""
    folder = shared_data / "tcga_gbmlgg"
    rows = pd.read_csv(
        folder / "porpoise_gbmlgg_all_clean.csv.zip", usecols=["case_id", "survival_months", "censorship"]
    )
    rows = rows.drop_duplicates("case_id").merge(pd.read_csv(folder / "grade_diagnosis.csv"), on="case_id")
    worst = rows[rows["grade"] == "G4"]
    outcome = pd.DataFrame({"time": worst["survival_months"] * 30.4375, "event": 1.0 - worst["censorship"]})
    assert outcome["event"].mean() > 0.8
    assert outcome_doubts(outcome) == []


def test_the_published_table_with_censoring_as_event_is_refused(shared_data):
    path = shared_data / "tcga_luad" / "mcat_luad_all_clean.csv.zip"
    wrong = {"time": "survival_months", "event": "censorship", "unit": "months"}
    with pytest.raises(InputError, match="write censored: censorship"):
        read_clinical(path, patient_id="case_id", outcome=wrong)
    forced = read_clinical(path, patient_id="case_id", outcome=wrong | {"checked": True})
    assert "exchanged" in outcome_doubts(forced.patients)[0]


def test_sites_are_taken_from_barcodes_if_there_is_no_column(shared_data):
    plain = pd.read_csv(shared_data / "tcga_luad" / "clinical.csv", dtype=str)
    plain.drop(columns="site").to_csv("c.csv", index=False)
    read = read_clinical("c.csv").patients["site"]
    assert (read == plain.set_index("patient_id")["site"].str.zfill(2)).all()
    assert "site" not in read_clinical(table()).patients


def test_a_short_follow_up_raises_a_doubt_even_in_small_cohorts():
    few = pd.DataFrame({"time": np.linspace(2, 60, 12), "event": [0.0, 1.0] * 6})
    assert outcome_doubts(few) == ["no patient is followed for more than 60 days; are the times in months or years?"]
    assert outcome_doubts(few.assign(time=few["time"] * 30)) == []
    assert outcome_doubts(few[:6]) == []


def test_patients_whose_rows_differ_in_a_covariate_are_recorded():
    pd.DataFrame({"patient_id": ["a", "a", "b", "b"], "age": [60, 61, 70, None], "sex": ["f", "f", "m", "m"]}).to_csv(
        "c.csv", index=False
    )
    read = read_clinical("c.csv", covariates=["age", "sex"])
    assert read.covariates["age"].to_dict() == {"a": 60.0, "b": 70.0}
    assert read.covariate_conflicts == {"age": ["a"]}


def test_a_numeric_covariate_may_have_missing_values_but_no_stray_words():
    ages = [str(age) for age in range(40, 70)]
    gaps = read_clinical(table(age=["[Not Available]", "--", "NA", *ages[3:]]), covariates=["age"]).covariates["age"]
    assert gaps.dtype == float
    assert gaps.isna().sum() == 3
    with pytest.raises(
        InputError, match=r"line 7: '>89' in 'age' \(covariates\) is not a number, but 29 other values are"
    ):
        read_clinical(table(age=[*ages[:5], ">89", *ages[6:]]), covariates=["age"])
    grades = read_clinical(table(grade=["1", "2", "3", "high", "low", "X"] * 5), covariates=["grade"]).covariates[
        "grade"
    ]
    assert set(grades) == {"1", "2", "3", "high", "low", "X"}  # half of them are words: it is a category


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("censored", ("0:LIVING", "1:DECEASED")),
        ("censored", ("0:DiseaseFree", "1:Recurred/Progressed")),
        ("event", ("0:DECEASED", "1:ALIVE")),
        ("event", ("0", "1:CENSORED")),
    ],
)
def test_the_word_after_a_code_decides_its_meaning(option, words):
    path = table(OUTCOME=[words[i % 2] for i in range(30)])
    other = {"event": "censored", "censored": "event"}[option]
    for more in ({}, {"checked": True}):
        with pytest.raises(InputError, match=f"in 'OUTCOME' contradicts the key {option}, .*; write {other}: OUTCOME"):
            read_clinical(path, outcome={"time": "t", option: "OUTCOME"} | more)
    right = read_clinical(path, outcome={"time": "t", other: "OUTCOME"}).patients["event"]
    assert right.tolist() == [float((i % 2 == 0) == (option == "event")) for i in range(30)]


@pytest.mark.parametrize("name", ["alive", "Living", "is_alive"])
def test_a_column_of_living_patients_is_refused_as_an_event(name):
    path = table(**{name: [0, 1] * 15})
    with pytest.raises(InputError, match=f"whose name says that 1 means alive; write censored: {name}"):
        read_clinical(path, outcome={"time": "t", "event": name})
    assert read_clinical(path, outcome={"time": "t", "censored": name}).patients["event"].sum() == 15
    read_clinical(table(dead_or_alive=[0, 1] * 15), outcome={"time": "t", "event": "dead_or_alive"})


def test_unknown_is_missing_among_numbers_and_a_level_among_words():
    ages = [str(40 + i) if i % 3 else ["Unknown", "none"][i % 2] for i in range(30)]
    read = read_clinical(table(age=ages), covariates=["age"]).covariates["age"]
    assert read.dtype == float
    assert read.isna().sum() == 10
    grades = read_clinical(table(grade=["low", "high", "unknown"] * 10), covariates=["grade"]).covariates["grade"]
    assert set(grades) == {"low", "high", "unknown"}
