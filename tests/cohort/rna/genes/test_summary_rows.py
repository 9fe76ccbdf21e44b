"""Summaries of reads, totals and spike-ins are not genes: a table with them gives the same result as one without them."""

import numpy as np
import pandas as pd
import pytest
from rna_tables import ENSEMBL, GENES, TPM, by_genes, write_feature_counts

from dmml.cohort.cohort_summary import describe_rna
from dmml.cohort.rna.expression import build_expression, model_values, read_expression
from dmml.cohort.rna.formats.star_counts import read_star_counts
from dmml.cohort.rna.genes.gene_names import all_symbols
from dmml.cohort.rna.genes.summary_rows import SPIKE_IN, SUMMARY, kind_of_row

SUMMARIES = [
    "__no_feature",
    "__alignment_not_unique",
    "N_unmapped",
    "n_multimapping",
    "Total",
    "ambiguous",
    "X__not_aligned",
]
SPIKE_INS = ["ERCC-00002", "ERCC.00171"]
REAL = ["ERCC1", "ERCC8", *GENES[:78]]


def clean():
    return by_genes(genes=REAL)


def with_summaries():
    table = clean()
    for i, name in enumerate([*SUMMARIES, *SPIKE_INS]):
        table.loc[name] = 10**6 + i
    return table


@pytest.mark.parametrize(
    "form", ["genes.csv", "genes.tsv.gz", "patients.csv", "genes.parquet", "patients.parquet", "wide.csv"]
)
def test_summaries_are_dropped_and_counted_in_both_orientations(form):
    table = with_summaries()
    options = {}
    if form.startswith("patients"):
        table = table.T.rename_axis("patient_id")
    elif form.startswith("wide"):
        table = table.T.rename_axis("case_id").add_suffix("_rnaseq")
        options = {"patient_id": "case_id", "suffix": "_rnaseq"}
    if form.endswith("parquet"):
        table.reset_index().to_parquet(form)
    else:
        table.to_csv(form, sep="\t" if ".tsv" in form else ",")
    clean().to_csv("clean.csv")
    expected, read = read_expression("clean.csv"), read_expression({"path": form, **options})
    pd.testing.assert_frame_equal(read.table, expected.table)
    pd.testing.assert_frame_equal(model_values(read), model_values(expected))
    assert {"ERCC1", "ERCC8"} <= set(read.table.columns)
    counts = read.provenance["counts"]
    assert (counts["summary_rows_skipped"], counts["spike_ins_skipped"]) == (7, 2)
    assert read.provenance["names"]["dropped"] == {SUMMARY: SUMMARIES, SPIKE_IN: SPIKE_INS}
    assert "summary rows skipped: 7, spike ins skipped: 2" in describe_rna(read)


def test_sums_over_samples_are_not_patients():
    table = by_genes(TPM)
    table.assign(Total=table.sum(axis=1)).to_csv("genes.csv")
    patients = by_genes(TPM).T.rename_axis("patient_id")
    pd.concat([patients, patients.sum().to_frame("Total").T]).to_csv("patients.csv", index_label="patient_id")
    for name in ("genes.csv", "patients.csv"):
        read = read_expression(name)
        assert len(read.patients) == 12
        assert read.provenance["counts"] == {"sums_over_samples_skipped": 1}


def test_a_clinical_column_named_like_a_summary_is_skipped():
    by_genes(TPM).T.rename_axis("patient_id").assign(assigned="arm A", Total="many").to_csv("e.csv")
    read = read_expression("e.csv")
    assert read.table.shape == (12, 80)
    assert read.provenance["counts"] == {"other_columns_passed_by": 2}


def test_no_gene_symbol_is_taken_for_a_summary():
    assert not [symbol for symbol in all_symbols() if kind_of_row(symbol)]
    assert not any(map(kind_of_row, ["NFE2L2", "SUMO1", "SPIN1", "TOTALLY", "ENSG00000141510.18", "patient_id", ""]))


@pytest.mark.parametrize(
    "name",
    [
        "__too_low_aQual",
        "no_feature",
        "N_noFeature",
        "total",
        "TOTAL",
        "library size",
        "Unassigned_NoFeatures",
        "Assigned",
    ],
)
def test_summaries_of_programs_are_recognised(name):
    assert kind_of_row(name) == SUMMARY


@pytest.mark.parametrize(
    "name", ["ERCC-00002", "ercc_00171", "gSpikein_ERCC-00003", "gSpikein_phiX174", "SIRV101", "phiX174"]
)
def test_spike_ins_are_recognised_in_the_spellings_of_laboratories(name):
    assert kind_of_row(name) == SPIKE_IN


def test_spike_ins_do_not_count_in_tpm():
    write_feature_counts("fc.txt", [f"P{i}.bam" for i in range(12)], names=[*ENSEMBL[:79], "ERCC-00002"])
    read = build_expression(["fc.txt"])
    np.testing.assert_allclose(read.table.sum(axis=1), 1e6, rtol=1e-5)
    assert read.table.shape == (12, 79)


def test_star_counts_files_may_hold_spike_ins(tmp_path):
    from star_counts_files import ROWS, star

    path = star(tmp_path / "a.tsv", rows=[*ROWS, ("ERCC-00002", "ERCC-00002", "ERCC", 900, 9.0, 9.0)])
    sample = read_star_counts(path, all_genes=True)
    assert "ERCC-00002" not in sample.values
    assert (sample.notes["summary_rows_skipped"], sample.notes["spike_ins_skipped"]) == (4, 1)


def test_a_merged_htseq_table_equals_one_without_summaries(shared_faults):
    folder = shared_faults / "htseq_summary_rows"
    merged, without = (read_expression(folder / f"htseq_{name}.tsv") for name in ("merged", "clean"))
    pd.testing.assert_frame_equal(model_values(merged), model_values(without))
    assert merged.provenance["counts"]["summary_rows_skipped"] == 5


def test_sums_and_means_are_left_out_in_both_orientations():
    table = clean()
    table["rowSums"], table["row_mean"] = table.sum(axis=1), table.mean(axis=1)
    table.loc["Mean"], table.loc["colSums"], table.loc["column total"] = table.mean(), table.sum(), 1.5
    table.to_csv("genes.csv")
    table.T.to_csv("patients.csv")
    for name in ("genes.csv", "patients.csv"):
        read = build_expression([name])
        assert (read.scale, read.table.shape) == ("counts", (12, 80))
        assert read.provenance["counts"]["summary_rows_skipped"] == 3
        assert read.provenance["counts"]["sums_over_samples_skipped"] == 2


def test_lengths_and_strands_of_genes_are_not_patients():
    table = clean().assign(gene_length=1000, Strand="+")
    table[["gene_length", *table.columns[:-2], "Strand"]].to_csv("g.csv")
    assert build_expression(["g.csv"]).patients == list(clean().columns.str[:12])


@pytest.mark.parametrize(
    "name",
    ["N_unmapped.1", "TotalReads", "Total (all genes)", "TOTAL:", "mapped_reads", "Number of reads", "nCount_RNA"],
)
def test_usual_names_for_a_sum_of_reads_are_not_genes(name):
    table = clean()
    table.loc[name] = 10**6
    table.to_csv("g.csv")
    read = build_expression(["g.csv"])
    assert (read.table.shape[1], read.provenance["counts"]["summary_rows_skipped"]) == (80, 1)
