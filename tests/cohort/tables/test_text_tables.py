"""One table, as spreadsheets, portals, pandas and R write it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from dmml.__main__ import main
from dmml.cohort.clinical.table import read_clinical
from dmml.cohort.splits.read_splits import read_split
from dmml.cohort.tables.separators import separator_of
from dmml.errors import InputError
from dmml.slides.discovery.manifest import read_manifest

ROWS = [("patient_id", "days", "died", "note"), *((f"p{i}", 100 + i, i % 2, "x") for i in range(10))]
OUTCOME = {"time": "days", "event": "died"}


def text(separator: str, header: str = "note", cell: str = "x", end: str = "\n") -> str:
    rows = [[*ROWS[0][:3], header], *([*row[:3], cell] for row in ROWS[1:])]
    return end.join(separator.join(map(str, row)) for row in rows) + end


TABLES = {
    "commas in a TSV's header": text("\t", "note (a, b, c, d, e)"),
    "commas in a TSV's header and cells": text("\t", "note (a, b, c, d, e)", "1, 2, 3, 4, 5"),
    "semicolons in a TSV's header": text("\t", "note (a; b; c; d; e)"),
    "commas in the header of a European CSV": text(";", "note (a, b, c, d)"),
    "decimal commas in a European CSV": text(";", "size (mm, long axis)", "2,5"),
    "semicolons in a CSV's header": text(",", "note (a; b; c; d; e)"),
    "commas in quotes": text(",", '"note (a, b, c)"', '"x, y"'),
    "tabs in quotes": text(",", '"note\t(a)"'),
    "a semicolon CSV of Windows": text(";", end="\r\n"),
    "a line that tells Excel the separator": "sep=;\n" + text(";"),
    "R's spaces": text(" ", '"a note"', '"x y"'),
    "bars": text("|", "note (a, b; c)"),
    "a header that goes on in the next line": text(",", '"note\n(a, b)"'),
    "R's row names": "patient_id days died note\n"
    + "".join(f'"{i}" "p{i}" {100 + i} {i % 2} "x"\n' for i in range(10)),
    "empty fields at the ends of the lines": text(",").replace("x\n", "x,\n"),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gzip"])
def test_the_separator_is_detected(name, encoding):
    path = Path("c.csv.gz" if encoding == "gzip" else "c.csv")
    raw = TABLES[name].encode("utf-8" if encoding == "gzip" else encoding)
    path.write_bytes(gzip.compress(raw) if encoding == "gzip" else raw)
    read = read_clinical(path, outcome=OUTCOME)
    assert list(read.patients.index) == [f"p{i}" for i in range(10)]
    assert read.patients["time"].tolist() == [100 + i for i in range(10)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_separator_of_splits_and_manifests_is_detected(separator, encoding):
    Path("c.csv").write_text(text(","))
    rows = [("patient_id", "fold", "from (a, b)"), *((f"p{i}", i % 2, "x") for i in range(10))]
    Path("s.csv").write_text("\n".join(separator.join(f'"{field}"' for field in row) for row in rows), encoding)
    assert read_split("s.csv", read_clinical("c.csv"))[0].test == [f"p{i}" for i in range(0, 10, 2)]
    rows = [("Slide_ID", "MPP", "from (a, b)"), ("a.svs", 0.25, "x"), ("b", "", "x")]
    Path("m.csv").write_text("\n".join(separator.join(f'"{field}"' for field in row) for row in rows), encoding)
    assert read_manifest("m.csv").mpp == {"a": 0.25, "b": None}


def test_a_header_without_rows_is_split_by_its_tabs():
    assert separator_of("a\tb (c, d, e)") == "\t"
    assert separator_of("patient_id") == ","
    assert separator_of("Patient ID", ["P 1", "P 2"]) == ","
    assert separator_of("note on the patient", ["P 1", "P 2"]) == ","


def test_a_real_tsv_with_commas_in_its_header_is_read(shared_faults, capsys):
    path = str(shared_faults / "tsv_commas_in_header" / "commas.tsv")
    assert (
        main(["cohort", "split", "--clinical", path, "--time", "os_days", "--event", "os_event", "--out", "s.csv"]) == 0
    )
    assert "60 patients in 5 folds" in capsys.readouterr().out


def test_utf_16_without_a_byte_order_mark_is_refused_as_such():
    Path("c.csv").write_bytes(text("\t").encode("utf-16-le"))
    with pytest.raises(InputError, match=r"c.csv: contains NUL characters, as UTF-16 without a byte order mark does"):
        read_clinical("c.csv")


def test_a_header_with_an_unclosed_quote_is_refused():
    Path("c.csv").write_text(text(",", '"note'))
    with pytest.raises(InputError, match=r"c.csv: line 1: a quote in the header is never closed"):
        read_clinical("c.csv")


def test_spaces_written_by_pandas_are_read():
    pd.DataFrame(ROWS[1:], columns=ROWS[0]).to_csv("c.csv", sep=" ")
    assert len(read_clinical("c.csv", outcome=OUTCOME).patients) == 10


def test_a_header_that_is_read_as_a_comment_is_named():
    Path("c.csv").write_text("#" + text(","))
    with pytest.raises(InputError, match=r"c.csv: line 1 names 'patient_id' .* begins with '#', .* remove the '#'"):
        read_clinical("c.csv")
