import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.clinical.table import read_clinical
from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
from dmml.cohort.rna.expression import read_expression
from dmml.cohort.splits.read_splits import read_split
from dmml.commands.cohort import expression as cohort_expression
from dmml.commands.cohort import split as cohort_split
from dmml.errors import InputError


def run(command, *arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_cohort_expression_writes_the_table_and_reports_it(capsys):
    genes = genes_of(read_gene_sets()["tme"])[:40]
    values = np.random.default_rng(0).gamma(1, size=(5, 40))
    table = pd.DataFrame(1e6 * values / values.sum(1, keepdims=True), index=[f"p{i}" for i in range(5)], columns=genes)
    table.T.to_csv("e.csv")
    run(cohort_expression, "e.csv", "--out", "out/e.parquet")
    assert "5 patients × 40 genes, tpm (detected)" in capsys.readouterr().out
    assert sorted(path.name for path in Path("out").iterdir()) == ["e.parquet", "e.parquet.json"]
    np.testing.assert_allclose(read_expression("out/e.parquet").table[genes], table, rtol=1e-6)
    with pytest.raises(InputError, match="add --overwrite"):
        run(cohort_expression, "e.csv", "--out", "out/e.parquet")
    run(cohort_expression, "e.csv", "--out", "out/e.parquet", "--overwrite", "--scale", "fpkm")
    assert "fpkm (as stated)" in capsys.readouterr().out


def test_cohort_split_writes_folds_and_reports_them(capsys):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"patient_id": [f"p{i}" for i in range(80)], "months": rng.exponential(30, 80)})
    table["cens"] = rng.integers(0, 2, 80)
    table["ward"] = rng.choice(list("abcdefghij"), 80)
    table.loc[0, "months"] = np.nan
    table.to_csv("c.csv", index=False)
    survival = ["--clinical", "c.csv", "--time", "months", "--censored", "cens", "--unit", "months"]
    run(cohort_split, *survival, "--out", "s.csv", "--folds", "4", "--site", "ward")
    printed = capsys.readouterr().out
    assert "80 patients in 4 folds, stratified by event and time, each site in one fold (ward), seed 0" in printed
    assert "patients without outcome: 1" in printed
    assert "patients_with_shared_site" in printed
    split = read_split("s.csv", read_clinical("c.csv"))
    assert sorted(len(split.fold(k)[1]) for k in range(4))[0] >= 10
    with pytest.raises(InputError, match="add --overwrite"):
        run(cohort_split, *survival, "--out", "s.csv")
    run(cohort_split, "--clinical", "c.csv", "--out", "plain.csv")
    assert "not stratified" in capsys.readouterr().out
    with pytest.raises(InputError, match="no column 'weeks'"):
        run(cohort_split, "--clinical", "c.csv", "--out", "x.csv", "--time", "weeks", "--censored", "cens")
    assert not Path("x.csv").exists()


def test_published_folds_are_summarised_and_written_as_one_file(shared_data, capsys):
    luad = shared_data / "tcga_luad"
    words = ["--clinical", luad / "clinical.csv", "--time", "os_days", "--event", "os_event", "--from"]
    run(cohort_split, *words, luad / "splits_5fold")
    printed = capsys.readouterr().out
    assert "in 5 folds, as " in printed
    table = [line.split() for line in printed.splitlines() if line[:1].isdigit() and line.split()[0] in list("01234")]
    clinical = read_clinical(luad / "clinical.csv", outcome={"time": "os_days", "event": "os_event"})
    for k, row in enumerate(table[-5:]):
        test = read_split(luad / "splits_5fold", clinical).fold(k)[1]
        events = int(clinical.patients.loc[test, "event"].sum())
        sites = clinical.patients.loc[test, "site"].nunique()
        assert [int(word) for word in row[:4]] == [k, len(test), events, sites]
    assert not list(Path().iterdir())
    run(cohort_split, *words, luad / "splits_5fold", "--out", "folds.csv")
    written, named = read_split("folds.csv", clinical), read_split(luad / "splits_5fold", clinical)
    assert all(set(written.fold(k)[1]) == set(named.fold(k)[1]) for k in range(5))
    with pytest.raises(InputError, match="some patients are tested in several folds or in none"):
        run(cohort_split, *words, luad / "splits_5fold" / "splits_0.csv")
    with pytest.raises(InputError, match="--out is missing: name the file"):
        run(cohort_split, *words[:-1])
