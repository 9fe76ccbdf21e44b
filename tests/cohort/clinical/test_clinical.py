import csv
import io
import zipfile

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.clinical.table import read_clinical, slide_stem
from dmml.errors import InputError

DAYS = {"time": "t", "event": "e", "unit": "days"}


def write(text, name="c.csv"):
    with open(name, "w") as file:
        file.write(text)
    return name


def test_rows_of_slides_become_patients():
    path = write(
        "patient_id,slide_id,site,t,e,age,sex\n"
        "007,a.svs,x,10,1,60,f\n"
        "007,folder/b.ndpi,x,10,1,,f\n"
        "p2,,y,[Not Available],0,70,m\n"
        "p3,c.d.e,y,0,0,NA,\n"
    )
    clinical = read_clinical(path, outcome=DAYS, covariates=["age", "sex"])
    assert list(clinical.patients.index) == ["007", "p2", "p3"]
    assert clinical.slides == {"007": ["a", "b"], "p2": [], "p3": ["c.d.e"]}
    assert clinical.patients["time"].tolist()[::2] == [10.0, 0.0]
    assert clinical.patients.loc["p2", ["time", "event"]].isna().all()  # a time or an event alone says nothing
    assert clinical.observed.tolist() == [True, False, True]
    assert clinical.covariates["age"].dtype == float
    assert clinical.covariates["age"].iloc[0] == 60
    assert clinical.covariates["sex"].tolist() == ["f", "m", None]
    assert clinical.patients["site"].tolist() == ["x", "y", "y"]


@pytest.mark.parametrize(
    ("outcome", "days", "event"),
    [
        ({"time": "t", "censored": "e", "unit": "months"}, 365.25, 0.0),
        ({"time": "t", "event": "e", "unit": "years"}, 12 * 365.25, 1.0),
        ({"time": "t", "event": "e"}, 12.0, 1.0),
    ],
)
def test_times_are_converted_to_days_and_censoring_to_events(outcome, days, event):
    clinical = read_clinical(write("patient_id,t,e\np,12,1\n"), outcome=outcome)
    assert clinical.patients.loc["p", "time"] == days
    assert clinical.patients.loc["p", "event"] == event


@pytest.mark.parametrize(
    ("word", "event"), [("1:DECEASED", 1), ("0:LIVING", 0), ("Dead", 1), ("alive", 0), ("True", 1), ("0.0", 0)]
)
def test_events_may_be_written_in_words(word, event):
    assert read_clinical(write(f"patient_id,t,e\np,12,{word}\n"), outcome=DAYS).patients.loc["p", "event"] == event


@pytest.mark.parametrize(
    ("table", "arguments", "message"),
    [
        (
            "patient_id,t,e\np,1,1\n",
            {"outcome": {"time": "tt", "event": "e"}},
            r"no column 'tt' \(outcome\); name one of its columns: t, ",
        ),
        ("case,t,e\np,1,1\n", {}, "no column 'patient_id'"),
        ("patient_id,t,e\np,soon,1\n", {"outcome": DAYS}, "line 2: 'soon' in 't' is not a number"),
        ("patient_id,t,e\n\np,1,2\n", {"outcome": DAYS}, r"line 3: '2' in 'e' is not 0 or 1 \(1 = happened\)"),
        (
            "patient_id,t,e\np,1,dead\n",
            {"outcome": {"time": "t", "censored": "e"}},
            "'dead' in 'e' contradicts the key censored, because its words say what happened; write event: e",
        ),
        ("patient_id,t,e\np,-1,1\n", {"outcome": DAYS}, "line 2: negative time -1"),
        ("patient_id,t,e\np,1,1\np,2,1\n", {"outcome": DAYS}, "patient p has both 1 and 2 days in 't'"),
        ("patient_id,t,e\np,1,1\np,1,0\n", {"outcome": {"time": "t", "censored": "e"}}, "patient p has both 0 and 1"),
        ("patient_id,g\np,G2\np,G3\n", {"outcome": {"label": "g"}}, "patient p has both 'G2' and 'G3' in 'g'"),
        ("patient_id,slide_id\np,a.svs\nq,a\n", {}, "slide a belongs to both p and q"),
        ("patient_id,t\n,1\n", {"outcome": {"label": "t"}}, "line 2 has no patient_id"),
        ("patient_id,t\n", {}, "has a header but no patient"),
        ("", {}, "is empty"),
        ("patient_id,t_months,e\np,1,1\n", {"outcome": {"time": "t_months", "event": "e"}}, "state unit: months"),
        ("patient_id,t,e\np,1,1\n", {"outcome": {"time": "t", "event": "e", "unit": "weeks"}}, "unknown unit 'weeks'"),
        ("patient_id,t,e\np,1,1\n", {"outcome": {"time": "t"}}, "give {time, event}"),
        (
            "patient_id,t,e\np,1,1\n",
            {"outcome": {"label": "t", "event": "e"}},
            "give a label, or a value, or a time and an event",
        ),
        ("patient_id,t,e\np,1,1\n", {"site": "hospital"}, "no column 'hospital'"),
        ("patient_id,t,t\np,1,1\n", {"covariates": ["t"]}, "2 columns are called 't'"),
    ],
)
def test_a_refusal_names_the_line_and_the_column(table, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        read_clinical(write(table), **arguments)
    assert "\n" not in str(caught.value)


def test_missing_and_damaged_files_are_refused():
    with pytest.raises(InputError, match=r"nope.csv: no such file"):
        read_clinical("nope.csv")
    with open("c.csv.zip", "w") as file:
        file.write("no zip")
    with pytest.raises(InputError, match="damaged, or not compressed"):
        read_clinical("c.csv.zip")
    with open("c.csv", "wb") as file:
        file.write(b"patient_id,name\n1,M\xfcller\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_clinical("c.csv")


def test_other_separators_and_comments_are_read():
    for text in (
        "#a comment\npatient_id\tt\te\np\t5\t1\n",
        "patient_id;t;e\np;5;1\n",
        "\ufeffpatient_id,t,e\r\np,5,1\r\n",
    ):
        assert read_clinical(write(text), outcome=DAYS).patients.loc["p", "time"] == 5


def test_slides_are_matched_by_patient_id_if_the_table_names_none():
    clinical = read_clinical(write("patient_id\nP1\nP1-2\nP10\n"))
    matched = clinical.match_slides(["P1-DX1", "P1-2-DX1", "P10", "other", "P1x"])
    assert matched == {"P1": ["P1-DX1"], "P1-2": ["P1-2-DX1"], "P10": ["P10"]}


def test_only_available_slides_are_matched():
    clinical = read_clinical(write("patient_id,slide_id\nP1,b\nP1,a\nP2,P2\n"))
    assert clinical.match_slides(["a", "b", "P2-x"]) == {"P1": ["b", "a"], "P2": []}


def test_a_slide_id_is_the_name_without_folder_and_ending():
    assert slide_stem("TCGA-49-4506-01Z-00-DX3.a05a3969.svs") == "TCGA-49-4506-01Z-00-DX3.a05a3969"
    assert slide_stem("C:\\slides\\x.TIFF") == "x"
    assert slide_stem("x.1") == "x.1"


def test_two_published_luad_tables_give_the_same_outcomes(shared_data):
    """One table has months and 1 = censored, the other days and 1 = died; patients and outcomes are the same."""
    published = read_clinical(
        shared_data / "tcga_luad/mcat_luad_all_clean.csv.zip",
        patient_id="case_id",
        outcome={"time": "survival_months", "censored": "censorship", "unit": "months"},
        covariates=["age"],
    )
    days = read_clinical(
        shared_data / "tcga_luad/clinical.csv",
        outcome={"time": "os_days", "event": "os_event", "unit": "days"},
        covariates=["age", "sex", "stage"],
    )
    with zipfile.ZipFile(shared_data / "tcga_luad/mcat_luad_all_clean.csv.zip") as archive:
        text = io.TextIOWrapper(archive.open(archive.namelist()[0]), "utf-8")
        rows = list(csv.DictReader(text))
    assert len(published.patients) == len({row["case_id"] for row in rows}) == 453
    assert sum(map(len, published.slides.values())) == 516
    assert not any(slide.endswith(".svs") for slides in published.slides.values() for slide in slides)
    assert sum(len(slides) > 1 for slides in published.slides.values()) == 21
    both = days.observed & published.observed.reindex(days.patients.index)
    assert both.sum() == 450
    a, b = published.patients.loc[both.index[both]], days.patients.loc[both.index[both]]
    assert (a["event"] == b["event"]).all()
    assert (a["time"] - b["time"]).abs().max() < 1.0
    assert days.patients["site"].iloc[0] == "05"
    assert days.covariates["stage"].dtype == object
    assert published.covariates["age"].isna().any()


def test_the_grades_of_gbmlgg_are_read_as_labels(shared_data):
    grade = read_clinical(
        shared_data / "tcga_gbmlgg/grade_diagnosis.csv", patient_id="case_id", outcome={"label": "grade"}
    )
    frame = pd.read_csv(shared_data / "tcga_gbmlgg/grade_diagnosis.csv")
    assert grade.classes == ["G2", "G3", "G4"]
    assert grade.kind == "classification"
    assert grade.observed.sum() == frame["grade"].notna().sum()
    diagnosis = read_clinical(
        shared_data / "tcga_gbmlgg/grade_diagnosis.csv", patient_id="case_id", outcome={"label": "diag"}
    )
    assert (~diagnosis.observed).sum() == 51
    assert np.array_equal(diagnosis.patients.index, frame["case_id"])
