"""Names of classes, columns, slides and patients that are markup, formulae or several lines are shown literally."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from html_page import Page

from dmml.__main__ import main
from dmml.slides.failures import Failure
from dmml.slides.qc.page import write_qc
from dmml.store import FeatureStore, SlideFeatures

pytestmark = pytest.mark.slow

IMAGE = "<img src=x onerror=alert(1)>"
GRADES = {"G2": "<script>alert(2)</script>", "G3": "$\\frac$", "G4": "a\"b'&\nc"}
"""Markup, what a picture would read as a broken formula, and two lines with quotation marks"""


@pytest.fixture
def renamed(cohorts, tmp_path):
    """Makes a config of a cohort whose classes, columns and patients have such names."""

    def make(name, cohort, kind=None):
        table = pd.read_csv(cohorts.root / cohort / "clinical.csv", dtype=str)
        table["grade"] = table["grade"].map(GRADES)
        patients = sorted(table["patient_id"].unique())
        odd = [IMAGE, "two\nlines", "$a_{$", '"><script>alert(3)</script>', "tab\tid"]
        new = {patient: f"{id_}{cohort}" for patient, id_ in zip(patients, odd, strict=False)}  # each cohort's own
        slides = {"slide_id": table["slide_id"] if "slide_id" in table else table["patient_id"]}
        table = table.assign(patient_id=table["patient_id"].replace(new), **slides)
        table = table.rename(columns={"grade": "<b>grade</b>", "age": "<i>age</i>"})
        table.to_csv(tmp_path / f"{cohort}.csv", index=False)
        outcome = {"label": "<b>grade</b>"}
        path = cohorts.config(
            name, kind, cohort, outcome=outcome, **({"model": {"task": "Classification"}} if kind else {})
        )
        content = yaml.safe_load(path.read_text())
        section = content["data"]["init_args"]
        section |= {"clinical": str(tmp_path / f"{cohort}.csv"), "slide_id": "slide_id", "expression": None}
        section["covariates"] = ["<i>age</i>"]
        path.write_text(yaml.safe_dump(content))
        return path

    return make


def test_a_report_displays_such_names_and_runs_nothing(cohorts, renamed, capsys):
    assert main(["fit", "--config", str(renamed("h_fit", "development", "SubspaceTeacher"))]) == 0
    held_out = str(renamed("h_test", "held_out"))
    assert main(["test", "--config", held_out, "--ckpt_path", cohorts.best("h_fit")]) == 0
    folder = cohorts.run("h_fit") / "test" / "held_out"
    page = Page((folder / "report.html").read_text()).check()
    assert "<script>alert(2)</script>" in page.text, "as text"
    assert "$\\frac$" in page.text
    assert set(GRADES.values()) <= set(pd.read_csv(folder / "predictions.csv")["label"])
    assert (folder / "plots" / "confusion.png").stat().st_size > 1000
    capsys.readouterr()


def test_the_contact_sheet_displays_such_names_and_runs_nothing(tmp_path):
    store = FeatureStore.create(tmp_path / "<b>f.zarr", {"name": IMAGE, "dim": 4}, {10: 1.0, 20: 0.5})
    bag = SlideFeatures(np.ones((3, 4), np.float16), np.zeros((3, 2), np.float32))
    store.write(IMAGE, {10: bag, 20: bag}, {"mpp": 0.5, "mpp_source": IMAGE, "dimensions": [9, 9]})
    failures = [Failure(IMAGE, "<i>", f"cannot read {IMAGE}")]
    page = Page(Path(write_qc(store, failures, str(tmp_path / "qc.html"))).read_text())
    assert page.scripts == 0
    assert page.links == []
    assert page.text.count(IMAGE) == 5, "encoder, slide, source of the scale, file, reason"


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "\udc80"])
def test_a_message_stays_one_line_without_control_codes(name, capsys):
    assert main(["report", name]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.strip().isprintable()
    assert name.encode("unicode_escape", "surrogatepass").decode() in message
