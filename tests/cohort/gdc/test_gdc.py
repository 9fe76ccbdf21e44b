"""From downloads of the GDC to a cohort: values, outcomes, and all patients who are left out, with the reason."""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import pytest
from gdc_downloads import Downloads, cart, star_text

from dmml.cohort.gdc.clinical import read_gdc_clinical
from dmml.cohort.rna.expression import read_expression
from dmml.cohort.section import read_cohort
from dmml.commands.cohort import gdc as cohort_gdc
from dmml.errors import InputError

LOST = {
    ("TCGA-05-0002", "RNA"): "recurrent or metastatic",
    ("TCGA-44-0004", "RNA"): "normal tissue",
    ("TCGA-44-0005", "RNA"): "not downloaded",
    ("TCGA-44-0006", "RNA"): "damaged",
    ("TCGA-44-0007", "RNA"): "damaged: has 4 genes, but the other files have 5",
    ("TCGA-44-0008", "RNA"): "download was broken off",
    ("TCGA-44-0009", "clinical"): "no case in the clinical export",
    ("TCGA-44-0010", "RNA"): "no RNA file in the sample sheet",
    ("TCGA-44-0011", "outcome"): "died, but days_to_death is empty",
    ("TCGA-44-0012", "outcome"): "vital status is not given",
    ("TCGA-44-0013", "outcome"): "last follow-up 3 days before diagnosis",
    ("TCGA-44-0014", "outcome"): "alive, but no follow-up is given",
    ("", "clinical"): "RNA file that the sample sheet does not list",
}


def command(*argv):
    parser = argparse.ArgumentParser()
    cohort_gdc.add_arguments(parser)
    cohort_gdc.run(parser.parse_args([str(word) for word in argv]))


def exported(made: Downloads, form: str) -> list:
    if form == "json":
        return [made.write_json()]
    return [made.write_archive()] if form == "archive" else made.write_tsv(old=form == "old tsv")


@pytest.mark.parametrize(("form", "new"), [("json", True), ("archive", True), ("new tsv", True), ("old tsv", False)])
def test_every_form_of_export_gives_the_same_cohort_and_lists_who_is_left_out(tmp_path, capsys, form, new):
    made = cart(tmp_path / "gdc", new_sheet=new)
    if form == "old tsv":  # the portal's old columns say nothing of the primary diagnosis: the first row counts
        for case in made.cases:
            case["diagnoses"] = case["diagnoses"][1:]
    command(made.rna, "--sample-sheet", made.write_sheet(), "--clinical", *exported(made, form), "--out", "out")
    printed = capsys.readouterr().out

    clinical = pd.read_csv("out/clinical.csv", dtype={"patient_id": str, "site": str}).set_index("patient_id")
    assert sorted(clinical.index) == sorted(case["submitter_id"] for case in made.cases)
    assert clinical.loc["TCGA-05-0001", ["os_days", "os_event"]].tolist() == [400, 1]
    assert clinical.loc["TCGA-05-0002", ["os_days", "os_event"]].tolist() == [900, 0]  # the latest follow-up
    assert clinical.loc[["TCGA-44-0011", "TCGA-44-0012", "TCGA-44-0013"], "os_days"].isna().all()
    assert clinical.loc["TCGA-05-0001", ["site", "age", "sex", "stage"]].tolist() == ["05", 61, "female", "II"]
    assert pd.isna(clinical.loc["TCGA-05-0002", "stage"])

    rna = read_expression("out/expression.parquet")
    assert rna.scale == "tpm"
    assert rna.patients == [
        "TCGA-05-0001", "TCGA-05-0002", "TCGA-44-0003", "TCGA-44-0009", "TCGA-44-0011", "TCGA-44-0012",
        "TCGA-44-0013", "TCGA-44-0014",
    ]  # fmt: skip
    tpm = {row["File Name"]: row["Case ID"] for row in made.sheet}
    files = sorted(path for path in made.rna.rglob("*.tsv") if tpm.get(path.name) == "TCGA-05-0002")[:2]
    values = [float(next(line for line in path.open() if "\tTP53\t" in line).split("\t")[6]) for path in files]
    assert rna.table.loc["TCGA-05-0002", "TP53"] == pytest.approx(np.mean(values))
    assert "H2AZ1" in rna.table  # the current symbol

    left_out = pd.read_csv("out/left_out.csv", dtype=str, keep_default_na=False)
    reasons = {(row.patient_id, row.what): row.reason for row in left_out.itertuples()}
    assert reasons.keys() == LOST.keys()
    assert all(reason in reasons[key] for key, reason in LOST.items())
    assert "13 patients with clinical data, 9 with outcome, 2 died" in printed
    assert "3 patients with both" in printed
    assert "1 without RNA: not downloaded" in printed

    cohort = read_cohort(
        {
            "clinical": "out/clinical.csv",
            "outcome": {"time": "os_days", "event": "os_event"},
            "expression": "out/expression.parquet",
        }
    )
    assert cohort.summary()["patients with outcome"] == 9
    with pytest.raises(InputError, match="already exists; add --overwrite"):
        command(made.rna, "--sample-sheet", "x", "--clinical", "x", "--out", "out")


@pytest.mark.parametrize(
    "kind",
    [
        "manifest",
        "slides",
        "strangers",
        "no folder",
        "text for JSON",
        "no cases",
        "no archive",
        "a cut archive",
        "a page",
    ],
)
def test_files_that_cannot_be_joined_are_refused_and_nothing_is_written(tmp_path, kind):
    made = Downloads(tmp_path / "gdc")
    made.sample("TCGA-05-0001", text=star_text(1))
    made.case("TCGA-05-0001", last=5)
    sheet, clinical, rna = made.write_sheet(), made.write_json(), made.rna
    messages = {
        "manifest": "sample sheet of the cart",
        "slides": "lists no RNA file",
        "strangers": "is in the clinical export",
        "no folder": "no such folder",
        "text for JSON": "is not valid JSON",
        "no cases": "contains no case",
        "no archive": r"x.tar.gz: is not a readable archive \([^\n]+\); download it again$",
        "a cut archive": r"is not a readable archive \([^\n]+\); download it again$",
        "a page": "gdc_sample_sheet.tsv: is a web page",
    }[kind]
    if kind == "manifest":
        sheet.write_text("id\tfilename\tmd5\tsize\tstate\nx\ty\tz\t1\tok\n")
    elif kind == "slides":
        sheet.write_text(sheet.read_text().replace("Gene Expression Quantification", "Slide Image"))
    elif kind == "strangers":
        clinical.write_text(clinical.read_text().replace("TCGA-05-0001", "TCGA-05-9999"))
    elif kind == "no folder":
        rna = tmp_path / "none"
    elif kind == "no archive":
        clinical = tmp_path / "x.tar.gz"
        clinical.write_text("no")
    elif kind == "a cut archive":
        clinical = made.write_archive()
        clinical.write_bytes(clinical.read_bytes()[:200])
    elif kind == "a page":
        sheet.write_text("<!DOCTYPE html>\n<html></html>\n")
    else:
        clinical.write_text("nothing" if kind == "text for JSON" else "[]")
    with pytest.raises(InputError, match=messages):
        command(rna, "--sample-sheet", sheet, "--clinical", clinical, "--out", "out")
    assert not (tmp_path / "out").exists()


def test_the_stage_of_another_cancer_does_not_replace_that_of_the_primary_one(tmp_path):
    made = Downloads(tmp_path)
    made.case("TCGA-05-0001", last=100, stage=None)
    made.case("TCGA-05-0002", last=100, stage="Stage II")
    made.case("TCGA-05-0003", last=100, stage=None)
    for entry in made.cases[2]["diagnoses"]:
        del entry["diagnosis_is_primary_disease"]  # nothing says which is the primary one: the first counts
    table, _ = read_gdc_clinical([made.write_json()])
    assert pd.isna(table.loc["TCGA-05-0001", "stage"])
    assert table.loc[["TCGA-05-0002", "TCGA-05-0003"], "stage"].tolist() == ["II", "IV"]


def test_clinical_data_alone_make_a_clinical_table(tmp_path, capsys):
    made = cart(tmp_path / "gdc")
    command("--clinical", made.write_json(), "--out", "out")
    out = capsys.readouterr().out
    assert "out: clinical.csv, left_out.csv" in out
    assert "with RNA" not in out
    command(made.rna, "--sample-sheet", made.write_sheet(), "--clinical", made.write_json(), "--out", "both")
    pd.testing.assert_frame_equal(pd.read_csv("out/clinical.csv"), pd.read_csv("both/clinical.csv"))
    reasons = pd.read_csv("out/left_out.csv").set_index(["patient_id", "what"])["reason"]
    assert reasons.to_dict() == {key: reason for key, reason in LOST.items() if key[1] == "outcome"}
    with pytest.raises(InputError, match="name both or none"):
        command(made.rna, "--clinical", made.write_json(), "--out", "third")
