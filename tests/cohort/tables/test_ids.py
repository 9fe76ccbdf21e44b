"""Ids that a spreadsheet or pandas has changed, and rows that are not patients."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dmml.__main__ import main
from dmml.cohort.clinical.table import read_clinical
from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
from dmml.cohort.rna.expression import build_expression
from dmml.cohort.rna.samples.patient_map import read_patient_map
from dmml.cohort.section import read_cohort
from dmml.cohort.splits.read_splits import read_split
from dmml.errors import InputError
from dmml.slides.discovery.manifest import Selection, read_manifest

IDS = [str(number) for number in range(1000, 1030)]
OUTCOME = {"time": "days", "event": "died"}
GENES = genes_of(read_gene_sets()["tumor"])[:40] + genes_of(read_gene_sets()["tme"])[:40]


def clinical(ids=IDS, name: str = "c.csv", **columns) -> str:
    numbers = np.arange(len(ids))
    frame = pd.DataFrame({"patient_id": ids, "days": 100 + 10 * numbers, "died": numbers % 2} | columns)
    frame.to_csv(name, index=False)
    return name


def rna(ids, transposed: bool = False) -> str:
    values = np.random.default_rng(0).gamma(0.5, size=(len(ids), len(GENES)))
    frame = pd.DataFrame(1e6 * values / values.sum(1, keepdims=True), index=list(ids), columns=GENES)
    (frame.T if transposed else frame).to_csv("rna.csv", index_label="gene" if transposed else "patient_id")
    return "rna.csv"


def floats(ids=IDS) -> list[str]:
    return [f"{name}.0" for name in ids]


def refused(step, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        step()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), caught.value


# ---- shortened by a spreadsheet ------------------------------------------------------------------------------------

SHORTENED = [*IDS[:3], "2.02E+11", "2.02E+11", *IDS[5:]]
SHORTENED_BY_A_SPREADSHEET = "a spreadsheet has shortened the number"
WAY = "format the column of ids as text, and export the table again"


@pytest.mark.parametrize("word", ["2.02E+11", "2,02E+11", "2E+11", "1.5e+05", "1e+15"])
def test_ids_that_a_spreadsheet_has_shortened_are_refused_by_line(word):
    path = clinical([*IDS[:3], word, word, *IDS[5:]])
    refused(lambda: read_clinical(path), f"c.csv: line 5: '{word}', line 6: '{word}'", SHORTENED_BY_A_SPREADSHEET, WAY)


@pytest.mark.parametrize("word", ["#####", "#NAME?", "#REF!", "12-Mar", "Mar-45", '="2.02E+11"'])
def test_ids_that_a_spreadsheet_shows_as_an_error_or_a_date_are_refused_by_line(word):
    path = clinical(["12-45", "3-9", word, word, *IDS[5:]])
    refused(lambda: read_clinical(path), f"line 4: '{word.strip('=')}'".replace('"', ""), "a spreadsheet", WAY)


def test_ids_that_look_like_dates_are_read_if_no_other_id_is_a_pair_of_numbers():
    assert list(read_clinical(clinical(["Mar-45", "Mar-46", "May-01"])).patients.index) == [
        "Mar-45",
        "Mar-46",
        "May-01",
    ]


@pytest.mark.parametrize("word", ["12E3", "E+11", "2.02E11", "1E5", "S2.02E+11"])
def test_ids_that_contain_an_e_are_read(word):
    assert word in read_clinical(clinical([word, *IDS])).patients.index


def test_shortened_ids_are_refused_in_every_kind_of_table(tmp_path):
    cohort = read_clinical(clinical())
    pd.DataFrame({"patient_id": SHORTENED, "fold": [i % 3 for i in range(30)]}).to_csv("folds.csv", index=False)
    refused(lambda: read_split("folds.csv", cohort), "folds.csv: line 5: '2.02E+11'", SHORTENED_BY_A_SPREADSHEET)
    pd.DataFrame({"train": SHORTENED, "val": SHORTENED}).to_csv("splits_0.csv")
    refused(lambda: read_split("splits_0.csv", cohort), "splits_0.csv: line 5", SHORTENED_BY_A_SPREADSHEET)
    refused(lambda: build_expression([rna(SHORTENED)]), "rna.csv: line 5", SHORTENED_BY_A_SPREADSHEET)
    refused(
        lambda: build_expression([rna(SHORTENED)], patient_id="patient_id"),
        "rna.csv: line 5",
        SHORTENED_BY_A_SPREADSHEET,
    )
    names = [*IDS[:3], "2.02E+11", *IDS[4:]]
    refused(
        lambda: build_expression([rna(names, transposed=True)]),
        "rna.csv: column 5 of the header",
        SHORTENED_BY_A_SPREADSHEET,
    )
    pd.DataFrame({"slide_id": SHORTENED}).to_csv("m.csv", index=False)
    refused(lambda: read_manifest("m.csv"), "--manifest m.csv: line 5", SHORTENED_BY_A_SPREADSHEET)
    pd.DataFrame({"sample": range(30), "patient_id": SHORTENED}).to_csv("map.csv", index=False)
    refused(lambda: read_patient_map(tmp_path / "map.csv"), "map.csv: line 5", SHORTENED_BY_A_SPREADSHEET)
    refused(lambda: read_clinical(clinical(slide_id=SHORTENED)), "c.csv: line 5", SHORTENED_BY_A_SPREADSHEET)


# ---- whole numbers that became 1040.0 -------------------------------------------------------------------------------


def test_numbers_with_and_without_decimal_are_the_same_patients_in_every_table():
    pd.DataFrame({"train": IDS[:20], "val": [*floats(IDS[20:]), *[""] * 10]}).to_csv("splits_0.csv")
    pd.DataFrame({"patient_id": floats(), "fold": [i % 3 for i in range(30)]}).to_csv("folds.csv", index=False)
    for ids in (IDS, floats()):
        for rna_ids in (IDS, floats(), [*IDS[:15], *floats(IDS[15:])]):
            for transposed in (False, True):
                section = {"clinical": clinical(ids), "outcome": OUTCOME, "expression": rna(rna_ids, transposed)}
                cohort = read_cohort(section | {"split": "splits_0.csv"})
                assert list(cohort.clinical.patients.index) == cohort.expression.patients == IDS
                assert (cohort.split[0].train, cohort.split[0].test) == (IDS[:20], IDS[20:])
        split = read_split("folds.csv", read_clinical(clinical(ids)))
        assert split[0].test == IDS[::3]
        assert (split.unknown, split.unused) == ([], [])


def test_samples_of_a_map_are_found_with_and_without_a_decimal():
    for listed, named in ((IDS, floats()), (floats(), IDS)):
        pd.DataFrame({"sample": listed, "patient_id": [f"p{i}" for i in range(30)]}).to_csv("map.csv", index=False)
        assert build_expression([rna(named, transposed=True)], patients="map.csv").patients[:2] == ["p0", "p1"]


def test_ids_that_are_not_all_numbers_are_matched_but_not_changed():
    section = {"clinical": clinical([*IDS, "P.0"]), "outcome": OUTCOME, "expression": rna([*floats(), "P.0"])}
    cohort = read_cohort(section)
    assert list(cohort.clinical.patients.index) == cohort.expression.patients == [*IDS, "P.0"]
    named = read_clinical(clinical([*floats(), "P.0"]))
    assert list(named.patients.index) == [*floats(), "P.0"]
    pd.DataFrame({"patient_id": IDS, "fold": [i % 3 for i in range(30)]}).to_csv("folds.csv", index=False)
    assert read_split("folds.csv", named)[0].test == floats(IDS[::3])


def test_leading_zeros_distinguish_patients():
    read = read_clinical(clinical(["007", "7", "07"]))
    assert list(read.patients.index) == ["007", "7", "07"]
    assert list(read_clinical(clinical(["007.0", "7.0"])).patients.index) == ["007", "7"]


def test_two_spellings_of_a_number_in_one_table_are_never_merged():
    refused(
        lambda: read_clinical(clinical(["1040", "1041.0", "1040.0"])),
        "'1040' (line 2) and '1040.0' (line 4)",
        "one way",
    )
    mixed = [*IDS, "1000.0"]
    section = {"clinical": clinical(), "outcome": OUTCOME, "expression": rna(mixed, transposed=True)}
    refused(lambda: read_cohort(section), "'1000' and '1000.0' would both be patient '1000'")
    read = read_clinical(clinical(["1040", "1040.0", "P1"]))  # not a column of numbers: its ids are taken as they are
    assert list(read.patients.index) == ["1040", "1040.0", "P1"]


def test_a_patient_in_two_subsets_is_found_under_both_spellings():
    cohort = read_clinical(clinical())
    pd.DataFrame({"train": IDS[:20], "val": [*floats(IDS[19:]), *[""] * 9]}).to_csv("splits_0.csv")
    refused(lambda: read_split("splits_0.csv", cohort), "patient 1019 is in both train and val")


def test_slides_that_became_numbers_are_found():
    numbered = read_clinical(clinical(slide_id=floats()))
    assert numbered.match_slides(IDS) == {name: [name] for name in IDS}
    other = read_clinical(clinical(slide_id=[*floats(IDS[:-1]), "x.svs"]))
    assert other.match_slides([*IDS[:-1], "x"])["1000"] == ["1000"]
    both = read_clinical(clinical(slide_id=["1000", "1000.0", *[f"s{i}" for i in range(28)]]))
    refused(lambda: both.match_slides(["1000"]), "'1000' and '1000.0' would both be")


def test_a_manifest_with_numbers_as_ids_finds_its_slides(tmp_path):
    slides = [tmp_path / f"{name}.svs" for name in IDS[:4]]
    pd.DataFrame({"slide_id": floats(IDS[:3]), "mpp": 0.25}).to_csv("m.csv", index=False)
    manifest = read_manifest("m.csv")
    assert manifest.select(slides) == Selection(slides[:3], [], [])
    assert (manifest.mpp_of("1000", 0.5), manifest.mpp_of("1003", 0.5)) == (0.25, 0.5)
    pd.DataFrame({"slide_id": [*floats(IDS[:2]), "gone"], "mpp": 0.25}).to_csv("m.csv", index=False)
    manifest = read_manifest("m.csv")
    assert manifest.select(slides) == Selection(slides[:2], [], ["gone"])
    assert (manifest.mpp_of("1000", 0.5), manifest.mpp_from("1000")) == (0.25, "manifest")
    pd.DataFrame({"slide_id": ["z"]}).to_csv("m.csv", index=False)
    refused(lambda: read_manifest("m.csv").select(slides), "'z' in the manifest, '1000' in the folder")


def test_both_spellings_are_named_if_nothing_matches():
    cohort = read_clinical(clinical())
    pd.DataFrame({"train": IDS[:20], "val": [*(f"V{name}" for name in IDS[20:]), *[""] * 10]}).to_csv("splits_0.csv")
    refused(
        lambda: read_split("splits_0.csv", cohort),
        "fold 0 has no test patient of c.csv, but ids such as 'V1020'; use ids such as '1000'",
    )
    pd.DataFrame({"train": IDS[:20], "val": [f"V{i}" for i in range(20)], "test": [*IDS[20:], *[""] * 10]}).to_csv(
        "splits_0.csv"
    )
    refused(
        lambda: read_split("splits_0.csv", cohort),
        "fold 0 has no validation patient of c.csv, but ids such as 'V0'; use ids such as '1000'",
    )


def test_published_folds_with_numbers_are_read(shared_faults):
    folder = shared_faults / "float_ids_in_splits"
    cohort = read_clinical(folder / "c.csv", outcome={"time": "os_days", "event": "os_event"})
    for name in ("pf", "pf2", "pf3"):
        raw = pd.read_csv(folder / name / "splits_0.csv", index_col=0)
        fold = read_split(folder / name, cohort)[0]
        part = {"val": fold.validation, "test": fold.test} if "test" in raw else {"val": fold.test}
        for column, ids in part.items():
            assert ids == [str(int(number)) for number in raw[column].dropna()]


# ---- rows that are no patient's --------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["patient_id", "Patient_ID", "case_id"])
def test_a_header_in_the_middle_is_refused_with_its_line(word):
    path = clinical([*IDS[:10], word, *IDS[10:]], grade="G2")
    refused(
        lambda: read_clinical(path, outcome={"label": "grade"}), "c.csv: line 12 repeats the header", "delete the line"
    )
    pd.DataFrame({"patient_id": [*IDS, word], "fold": 0}).to_csv("folds.csv", index=False)
    refused(lambda: read_split("folds.csv", read_clinical(clinical())), "folds.csv: line 32 repeats the header")


def test_a_header_in_the_middle_of_other_tables_is_refused():
    cohort = read_clinical(clinical())
    pd.DataFrame({"train": [*IDS[:10], "train", *IDS[10:20]], "val": [*IDS[20:], "val", *[""] * 10]}).to_csv(
        "splits_0.csv"
    )
    refused(lambda: read_split("splits_0.csv", cohort), "splits_0.csv: line 12 repeats the header ('train' in 'train')")


@pytest.mark.parametrize(
    "word",
    [
        "Total", "TOTAL", "total:", "Total (n=30)", "Grand Total", "Subtotal", "Sum", "Mean", "Average", "Median", "NA count",
        "Total patients", "Mean age", "Sum of events", "Number of patients", "std", "count", "Missing values", "Total: 34", "Summary", "All patients", "Total n = 30",
        "n = 30", "Mean ± SD", "Median [IQR]", "Total.", "*Total*", "-- Total --", "=SUM(A2:A31)", "Column total", "Σ", "Percentage",
    ],
)  # fmt: skip
def test_a_summary_is_refused_with_its_line(word):
    refused(
        lambda: read_clinical(clinical([*IDS, word])),
        "c.csv: line 32 is a summary, not a patient",
        repr(word),
        "delete",
    )


@pytest.mark.parametrize(
    "word",
    ["Total-01", "TOTAL_7", "Sum01", "Meaney", "Max", "All", "N", "n1", "Average-Joe", "count-3", "Total 01", "patient_id-1", "25%", "Sum Wong", "Overall-2", "mean1"],
)  # fmt: skip
def test_patients_whose_ids_resemble_a_summary_are_read(word):
    labels = ["grade" if i == 3 else "G2" for i in range(31)]  # a label may be called as its column
    read = read_clinical(clinical([*IDS, word], grade=labels), outcome={"label": "grade"})
    assert word in read.patients.index
    assert read.classes == ["G2", "grade"]


@pytest.mark.parametrize(("word", "label"), [("Patient", "grade"), ("ID", "Grade"), ("Patient No.", "grade")])
def test_a_header_in_other_words_is_refused_if_it_repeats_a_label(word, label):
    ids, labels = [*IDS[:10], word, *IDS[10:]], ["G2"] * 10 + [label] + ["G3"] * 20
    refused(
        lambda: read_clinical(clinical(ids, grade=labels), outcome={"label": "grade"}),
        f"c.csv: line 12 repeats the header ('{label}' in 'grade')",
    )
    labels[10] = "G2"  # somebody may be called so
    assert word in read_clinical(clinical(ids, grade=labels), outcome={"label": "grade"}).patients.index


def test_real_tables_with_totals_and_headers_are_refused(capsys):
    clinical([*IDS, "Total"], died=[i % 2 for i in range(30)] + [15])
    command = ["cohort", "split", "--clinical", "c.csv", "--time", "days", "--event", "died", "--out", "s.csv"]
    assert main(command) == 2
    assert "line 32 is a summary, not a patient ('Total' in 'patient_id'); delete the line" in capsys.readouterr().err
