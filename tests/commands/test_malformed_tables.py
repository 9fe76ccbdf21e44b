"""More than eighty malformed tables: each is refused in one line, within a second, before Lightning is imported."""

from __future__ import annotations

import gzip
import lzma
import re
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from dmml.__main__ import main
from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets

PATIENTS = [f"p{i:02d}" for i in range(24)]
GENES = genes_of(read_gene_sets()["tumor"])[:60] + genes_of(read_gene_sets()["tme"])[:40]
OUTCOME = {"time": "days", "event": "died", "unit": "days"}


def clinical(**columns) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "patient_id": PATIENTS,
            "days": rng.integers(30, 2000, 24),
            "died": rng.integers(0, 2, 24),
            "grade": rng.choice(["G2", "G3"], 24),
            "age": rng.integers(40, 80, 24),
            "site": rng.choice(list("abcd"), 24),
        }
    )
    return table.assign(**columns)


def rna(patients=PATIENTS, genes=GENES) -> pd.DataFrame:
    values = np.random.default_rng(1).gamma(0.5, size=(len(patients), len(genes)))
    return pd.DataFrame(1e6 * values / values.sum(1, keepdims=True), index=list(patients), columns=list(genes))


def csv(table: pd.DataFrame, name: str, **options) -> None:
    table.to_csv(name, index=name == "rna.csv", index_label="patient_id" if name == "rna.csv" else None, **options)


def text(name: str, content: str | bytes) -> None:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())


def at(column: str, row: int, value) -> pd.DataFrame:
    table = clinical().astype({column: object})
    table.loc[row, column] = value
    return table


def spoilt_rna(row: int, gene: int, value) -> pd.DataFrame:
    table = rna().astype(object)
    table.iloc[row, gene] = value
    return table


def half_logarithmic() -> pd.DataFrame:
    table = rna()
    table.iloc[:12] = np.log2(table.iloc[:12] + 1)
    return table


def clinical_with(**columns):
    return lambda: csv(clinical(**columns), "clinical.csv")


def cell(column: str, row: int, value):
    return lambda: csv(at(column, row, value), "clinical.csv")


def rna_is(make):
    return lambda: csv(make(), "rna.csv")


def file(name: str, content: str | bytes):
    return lambda: text(name, content)


def zipped(name: str, members: dict[str, str], locked: bool = False, spoilt: bool = False) -> None:
    with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    raw = bytearray(Path(name).read_bytes())
    if locked:  # the mark of a password, in the member's own header and in the archive's list
        raw[6] |= 1
        raw[raw.rfind(b"PK\x01\x02") + 8] |= 1
    if spoilt:
        raw[3000] ^= 255
    Path(name).write_bytes(raw)


def renamed(ids):
    return lambda: csv(rna([ids(patient) for patient in PATIENTS]), "rna.csv")


def rna_text(sep: str = ",", **options) -> str:
    return rna().to_csv(index_label="patient_id", sep=sep, **options)


def folds(rows) -> None:
    pd.DataFrame(rows, columns=["patient_id", "fold"]).to_csv("folds.csv", index=False)


EVERY = [(patient, i % 3) for i, patient in enumerate(PATIENTS)]

# name: (what is spoilt, changes of the data section, what the line must tell)
TABLES = {
    # the clinical table
    "empty file": (file("clinical.csv", ""), {}, r"clinical.csv: is empty"),
    "header alone": (file("clinical.csv", "patient_id,days,died\n"), {}, r"has a header but no patient"),
    "no column of patients": (lambda: csv(clinical().rename(columns={"patient_id": "case"}), "clinical.csv"), {}, r"no column 'patient_id'.*case"),
    "a patient column twice": (lambda: text("clinical.csv", "patient_id,patient_id,days,died\na,a,1,1\n"), {}, r"2 columns are called 'patient_id'"),
    "a row without patient": (cell("patient_id", 4, ""), {}, r"line 6 has no patient_id"),
    "time in words": (cell("days", 2, "two years"), {}, r"line 4: 'two years' in 'days' is not a number"),
    "negative time": (cell("days", 3, -5), {}, r"line 5: negative time -5"),
    "infinite time": (cell("days", 3, "inf"), {}, r"line 5: 'inf' in 'days' is not a number"),
    "time of a date": (cell("days", 1, "2019-03-01"), {}, r"line 3: '2019-03-01' in 'days' is not a number"),
    "time of centuries": (clinical_with(), {"outcome": {**OUTCOME, "unit": "months"}}, r"would be 1\d\d years, in the unit months"),
    "event of 2": (cell("died", 5, 2), {}, r"line 7: '2' in 'died' is not 0 or 1"),
    "event in other words": (cell("died", 5, "perhaps"), {}, r"'perhaps' in 'died' is not 0 or 1"),
    "two times of a patient": (lambda: csv(pd.concat([clinical(), clinical(days=9999)[:1]]), "clinical.csv"), {}, r"patient p00 has both .* days in 'days'"),
    "two labels of a patient": (lambda: csv(pd.concat([clinical(grade="G2"), clinical(grade="G3")[:1]]), "clinical.csv"), {"outcome": {"label": "grade"}}, r"p00 has both 'G2' and 'G3'"),
    "censoring named as event": (lambda: csv(clinical().rename(columns={"died": "censorship"}), "clinical.csv"), {"outcome": {"time": "days", "event": "censorship"}}, r"write censored: censorship"),
    "event named as censoring": (clinical_with(), {"outcome": {"time": "days", "censored": "died"}}, r"write event: died"),
    "event against the vital status": (lambda: csv(clinical().assign(vital_status=lambda t: t.died.map({0: "Dead", 1: "Alive"})), "clinical.csv"), {}, r"'died' contradicts 'vital_status' for 24 of 24"),
    "months without a unit": (lambda: csv(clinical().rename(columns={"days": "os_months"}), "clinical.csv"), {"outcome": {"time": "os_months", "event": "died"}}, r"suggests months; state unit"),
    "age with a stray word": (cell("age", 7, ">89"), {"covariates": ["age"]}, r"line 9: '>89' in 'age' \(covariates\)"),
    "a slide of two patients": (clinical_with(slide_id="s1"), {}, r"slide s1 belongs to both p00 and p01"),
    "Latin-1 text": (file("clinical.csv", "patient_id,days,died\nJosé,1,1\n".encode("latin-1")), {}, r"is not UTF-8 text"),
    "a zip that is none": (file("clinical.csv.zip", b"no zip"), {"clinical": "clinical.csv.zip"}, r"clinical.csv.zip: is damaged, or not compressed"),
    "a row too long": (file("clinical.csv", "patient_id,days,died\np00,1,1\np01,2,0,x,y\n"), {}, r"line 3 has 5 fields, but the header has 3"),
    "a comma too many": (file("clinical.csv", "patient_id,days,died\np00,1,1\nSmith, J,2,0\n"), {}, r"line 3 has 4 fields, but the header has 3"),
    "lines of an old Mac": (lambda: text("clinical.csv", clinical().to_csv(index=False).replace("\n", "\r")), {}, r"lines end with CR alone, as on an old Mac"),
    "NUL characters": (lambda: text("clinical.csv", clinical().to_csv(index=False).replace("p05", "p\0" + "05")), {}, r"contains NUL characters"),
    "a last line broken off": (file("clinical.csv", "patient_id,days,died\np00,10,1\np01,20,0\np02,3"), {}, r"line 4 has 2 of the 3 fields in the header; the file ends"),
    "a workbook": (lambda: zipped("clinical.xlsx", {"[Content_Types].xml": "<x/>", "xl/workbook.xml": "<x/>"}), {"clinical": "clinical.xlsx"}, r"clinical.xlsx: is an Excel workbook; save its sheet as CSV"),
    "a workbook of old": (file("clinical.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99)), {}, r"clinical.csv: is an Excel workbook"),
    "parquet for a clinical table": (lambda: clinical().to_parquet("clinical.parquet"), {"clinical": "clinical.parquet"}, r"is a parquet file; save it as CSV"),
    "days with decimal commas": (lambda: csv(clinical().assign(days=lambda t: t.days.astype(str) + ",5"), "clinical.csv", sep=";"), {}, r"line 2: '\d+,5' in 'days' is not a number: write numbers with a decimal point"),
    "ages with decimal commas": (lambda: csv(clinical().assign(age=lambda t: t.age.astype(str) + ",5"), "clinical.csv", sep=";"), {"covariates": ["age"]}, r"line 2: '\d+,5' in 'age' \(covariates\) is not a number: write numbers"),
    "an endless age": (cell("age", 7, "inf"), {"covariates": ["age"]}, r"line 9: 'inf' in 'age' \(covariates\)"),
    "the outcome as a covariate": (clinical_with(), {"covariates": ["age", "days"]}, r"'days' is a column of the outcome and a covariate"),
    "a time with its unit": (cell("days", 3, "300 d"), {}, r"line 5: '300 d' in 'days' is not a number"),
    "events of 1 and 2": (lambda: csv(clinical().assign(died=lambda t: t.died + 1), "clinical.csv"), {}, r"'2' in 'died' is not 0 or 1"),
    "two events of a patient": (lambda: csv(pd.concat([clinical(died=0), clinical(died=1)[:1]]), "clinical.csv"), {}, r"patient p00 has both 0 and 1 \(1 = happened\)"),
    "a label in two spellings": (clinical_with(grade=["G2", "g2", "G3"] * 8), {"outcome": {"label": "grade"}}, r"'G2' and 'g2' in 'grade' are spellings of one label"),
    "a line of totals": (lambda: text("clinical.csv", clinical().to_csv(index=False) + "Total,,12,,,\n"), {}, r"line 26 is a summary, not a patient \('Total' in 'patient_id'\)"),
    "merged cells of patients": (cell("patient_id", 6, " "), {}, r"line 8 has no patient_id"),
    # the RNA table
    "RNA without genes": (rna_is(lambda: rna(genes=[f"gene{i}" for i in range(100)])), {}, r"no gene names were recognised.*gene0"),
    "RNA of Entrez numbers": (lambda: rna(genes=range(100, 200)).T.to_csv("rna.csv"), {}, r"Entrez numbers"),
    "RNA of probes": (lambda: rna(genes=[f"{i}_s_at" for i in range(100)]).T.to_csv("rna.csv"), {}, r"no gene names were recognised.*0_s_at"),
    "RNA with a word": (rna_is(lambda: spoilt_rna(3, 5, "high")), {}, r"rna.csv: line 5, column .*: 'high' is not a number"),
    "RNA with infinity": (rna_is(lambda: spoilt_rna(3, 5, np.inf)), {}, r"line 5: infinite value"),
    "RNA without numbers": (rna_is(lambda: rna() * np.nan), {}, r"contains no number"),
    "RNA of unknown scale": (rna_is(lambda: rna() * 0.3), {}, r"scale cannot be detected \(values from .* samples sum to"),
    "RNA half in log2": (rna_is(half_logarithmic), {}, r"different scales: 12 logarithmic .* and 12 linear"),
    "RNA of counts with negatives": (rna_is(lambda: rna() - 5000), {"expression": {"path": "rna.csv", "scale": "counts"}}, r"stated as counts, but there are negative"),
    "RNA of strangers": (rna_is(lambda: rna([f"q{i}" for i in range(24)])), {}, r"no patient of the RNA table"),
    "RNA of none of the genes": (rna_is(lambda: rna(genes=["TP53", *(f"OR{i}A1" for i in range(1, 13)), *(f"KRTAP{i}-1" for i in range(1, 30))])), {"expression": {"path": "rna.csv", "scale": "tpm"}}, r"none of the \d+ (tumor|tme) genes"),
    "parquet that is none": (file("rna.parquet", b"PAR0 nothing"), {"expression": "rna.parquet"}, r"rna.parquet: is not a parquet file"),
    "RNA of commas": (lambda: text("rna.csv", rna_text(";", decimal=",")), {}, r"line 2, column .* is not a number: write numbers with a decimal point"),
    "RNA with marks of thousands": (rna_is(lambda: rna().map(lambda x: f"{x:,.2f}")), {}, r"is not a number: write numbers with a decimal point"),
    "RNA of one value": (rna_is(lambda: rna() * 0), {}, r"every value is 0"),
    "RNA of a header alone": (file("rna.csv", "gene,p00,p01\n"), {}, r"has a header but no row"),
    "RNA cut off": (lambda: text("rna.csv", rna_text()[:-400]), {}, r"line 25 has \d+ of the 101 fields in the header; the file ends"),
    "RNA with a row too short": (lambda: text("rna.csv", re.sub(r"(p05)[^\n]*", r"\1,1,2", rna_text())), {}, r"line 7 has 3 of the 101 fields in the header; complete it"),
    "RNA with an open quote": (lambda: text("rna.csv", rna_text().replace("p05", '"p05')), {}, r"rna.csv: cannot be read as a table"),
    "RNA of ids in capitals": (renamed(str.upper), {}, r"24 patients of clinical.csv are spelled differently .*'p00' here, 'P00' there"),
    "RNA half of ids in capitals": (renamed(lambda p: p.upper() if p < "p12" else p), {}, r"12 patients of clinical.csv are spelled differently"),
    "RNA of ids that lost their zeros": (renamed(lambda p: f"p{int(p[1:])}"), {}, r"10 patients of clinical.csv are spelled differently .*'p00' here, 'p0' there"),
    "RNA gzipped without saying so": (lambda: text("rna.csv", gzip.compress(rna_text().encode())), {}, r"rna.csv: is gzipped; rename it, so that its name ends with .gz"),
    "RNA that is not gzipped": (lambda: text("rna.csv.gz", rna_text()), {"expression": "rna.csv.gz"}, r"damaged, or not compressed as its name says"),
    "RNA gzipped and broken off": (lambda: text("rna.csv.gz", gzip.compress(rna_text().encode())[:5000]), {"expression": "rna.csv.gz"}, r"damaged, or not compressed"),
    "RNA in xz": (lambda: text("rna.csv.xz", lzma.compress(rna_text().encode())), {"expression": "rna.csv.xz"}, r"is compressed with xz; unpack it"),
    "a zip of two tables": (lambda: zipped("rna.zip", {"a.csv": rna_text(), "b.csv": rna_text()}), {"expression": "rna.zip"}, r"contains 2 files"),
    "a zip with a password": (lambda: zipped("rna.zip", {"a.csv": rna_text()}, locked=True), {"expression": "rna.zip"}, r"is protected by a password"),
    "a zip with a wrong byte": (lambda: zipped("rna.zip", {"a.csv": rna_text()}, spoilt=True), {"expression": "rna.zip"}, r"rna.zip: is damaged"),
    "an error page for RNA": (file("rna.csv", "<!DOCTYPE html>\n<html><title>403 Forbidden</title></html>\n"), {}, r"rna.csv: is a web page"),
    "an error in JSON for RNA": (file("rna.csv", '{"error": "not found"}\n'), {}, r"rna.csv: is JSON"),
    "a pointer of Git LFS": (file("rna.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:ab\n"), {}, r"pointer of Git LFS"),
    # gene sets
    "a gene in both subspaces": (lambda: [text(f"{s}.txt", "TP53\nEGFR\n") for s in ("tumor", "tme")], {"gene_sets": {"tumor": "tumor.txt", "tme": "tme.txt"}}, r"2 gene\(s\) are in both"),
    "a gene set of commas": (lambda: [text("t.gmt", "SET,desc,TP53\n"), text("e.gmt", "SET\td\tEGFR\n")], {"gene_sets": {"tumor": "t.gmt", "tme": "e.gmt"}}, r"t.gmt: line 1 is not a gene set"),
    "a preset that is not": (clinical_with(), {"gene_sets": {"preset": "papier"}}, r"unknown preset 'papier'; give most_variable"),
    # splits
    "a patient in two folds": (lambda: folds([*EVERY, ("p00", 2)]), {"split": "folds.csv"}, r"patient p00 is in fold 0 and in fold 2"),
    "one fold": (lambda: folds([(p, 0) for p in PATIENTS]), {"split": "folds.csv"}, r"only one fold"),
    "folds of strangers": (lambda: folds([("x", 0), ("y", 1)]), {"split": "folds.csv"}, r"no patient of clinical.csv is in this split"),
    "folds in words": (lambda: folds([("p00", "first"), ("p01", "second")]), {"split": "folds.csv"}, r"line 2 must have a patient_id and the number of a fold"),
    "sites that cannot fill the folds": (clinical_with(site="a"), {"split": {"folds": 5, "site": True}}, r"1 sites cannot fill 5 folds"),
    "more folds than patients": (clinical_with(), {"split": {"folds": 50}}, r"24 patients cannot fill 50 folds"),
    # two cohorts
    "a patient in two cohorts": (clinical_with(), [{"name": "a"}, {"name": "b"}], r"24 patient\(s\) are in both a and b \(first: p00\)"),
    "two cohorts of one name": (clinical_with(), [{}, {}], r"two cohorts are called"),
}  # fmt: skip


def test_more_than_forty_malformed_tables_are_tested():
    assert len(TABLES) >= 80


@pytest.mark.parametrize("name", TABLES)
def test_each_malformed_table_is_refused_in_one_line_before_anything_heavy_is_imported(name, capsys, monkeypatch):
    spoil, change, message = TABLES[name]
    csv(clinical(), "clinical.csv")
    csv(rna(), "rna.csv")
    spoil()
    section = {"clinical": "clinical.csv", "outcome": OUTCOME, "expression": "rna.csv"}
    several = isinstance(change, list)
    data = [section | one for one in change] if several else section | change
    content = {"model": {"class_path": "SubspaceTeacher"}, "data": data, "trainer": {"default_root_dir": "runs/x"}}
    Path("c.yaml").write_text(yaml.safe_dump(content))
    before = sorted(Path().rglob("*"))
    monkeypatch.setitem(sys.modules, "dmml.cli", None)  # an import of the Lightning CLI would raise
    start = time.process_time()
    assert main(["fit", "--config", "c.yaml"]) == 2
    seconds = time.process_time() - start
    out, err = capsys.readouterr()
    assert re.fullmatch(r"dmml: error: [^\n]+\n", err), err
    assert re.search(message, err), err
    assert len(err) < 600, err
    assert out == ""
    assert sorted(Path().rglob("*")) == before  # nothing was written
    assert seconds < 1.0


def test_the_tables_are_valid_without_their_mistake(monkeypatch):
    """The tables above are refused because of their mistake: without it, the same config reaches the Lightning CLI."""
    csv(clinical(), "clinical.csv")
    csv(rna(), "rna.csv")
    section = {"clinical": "clinical.csv", "outcome": OUTCOME, "expression": "rna.csv", "covariates": ["age"]}
    content = {"model": {"class_path": "SubspaceTeacher"}, "data": section | {"split": {"folds": 3, "site": True}}}
    Path("c.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setitem(sys.modules, "dmml.cli", None)
    with pytest.raises(ImportError):
        main(["fit", "--config", "c.yaml"])
