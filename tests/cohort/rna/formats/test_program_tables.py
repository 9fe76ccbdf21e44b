"""Formats with many samples per file: featureCounts, GCT, Firebrowse, Xena; and files that are not RNA tables."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rna_tables import (
    COUNTS,
    ENSEMBL,
    GENES,
    LENGTHS,
    PATIENTS,
    SAMPLES,
    TPM,
    by_genes,
    forms,
    values,
    write_feature_counts,
    write_lines,
)

from dmml.__main__ import main
from dmml.cohort.rna.expression import build_expression, model_values, read_expression
from dmml.cohort.rna.samples.sample_names import names_of_columns
from dmml.errors import InputError

BAMS = [f"/data/bam/{sample}.bam" for sample in SAMPLES]


def expected_tpm(rows=12):
    rate = COUNTS[:rows] / LENGTHS
    return 1e6 * rate / rate.sum(1, keepdims=True)


def test_feature_counts_become_tpm_by_the_lengths_of_genes():
    write_feature_counts("fc.txt", BAMS)
    read = build_expression(["fc.txt"])
    np.testing.assert_allclose(values(read), expected_tpm(), rtol=1e-5)
    assert (read.patients, read.scale, forms(read)) == (PATIENTS, "tpm", {"featurecounts"})
    assert read.provenance["read_as"] == ["featureCounts, TPM computed from counts and the lengths of genes"]
    np.testing.assert_allclose(values(build_expression(["fc.txt"], scale="counts")), COUNTS)
    with pytest.raises(
        InputError, match="featureCounts gives counts, and TPM computed from the lengths of genes, but not log2"
    ):
        build_expression(["fc.txt"], scale="log2")


def test_feature_counts_files_of_one_sample_each_are_read_without_their_summaries():
    for i in range(3):
        write_feature_counts(
            f"rna/P{i}.featureCounts.txt", [f"/x/P{i}Aligned.sortedByCoord.out.bam"], COUNTS[i : i + 1]
        )
    write_lines("rna/P0.featureCounts.txt.summary", [("Status", "x.bam"), ("Assigned", 5)])
    read = build_expression(["rna"])
    np.testing.assert_allclose(values(read), expected_tpm(3), rtol=1e-5)
    assert read.patients == ["P0", "P1", "P2"]
    with pytest.raises(InputError, match="is the summary of reads that featureCounts writes"):
        build_expression(["rna/P0.featureCounts.txt.summary"])


def test_feature_counts_may_name_genes_in_an_attribute_and_must_not_count_exons():
    write_feature_counts("fc.txt", BAMS, names=[f"gene:{i}" for i in range(80)], gene_name=GENES)
    np.testing.assert_allclose(values(build_expression(["fc.txt"])), expected_tpm(), rtol=1e-5)
    write_feature_counts("fc.txt", BAMS, names=[ENSEMBL[i // 2] for i in range(80)])
    with pytest.raises(InputError, match="is in several rows, so exons were counted; run featureCounts without -f"):
        build_expression(["fc.txt"])


def test_columns_named_after_files_get_sample_names():
    assert names_of_columns(["/a/P1.sorted.bam", "/a/P2.sorted.bam"]) == ["P1", "P2"]
    assert names_of_columns(["P1/accepted_hits.bam", "P2/accepted_hits.bam"]) == ["P1", "P2"]
    assert names_of_columns(["a/x.bam", "a/x.sam"]) == ["a/x.bam", "a/x.sam"]  # never one sample of two files
    assert names_of_columns(["P1.genes.results", "P2.genes.results"]) == ["P1", "P2"]
    assert names_of_columns(["P1.1", "P1.2", "bam"]) == ["P1.1", "P1.2", "bam"]
    write_feature_counts("fc.txt", BAMS)
    for names in (BAMS, SAMPLES):
        pd.DataFrame({"sample": names[:2], "patient_id": ["a", "b"]}).to_csv("map.csv", index=False)
        assert build_expression(["fc.txt"], patients="map.csv").patients == ["a", "b"]


def write_gct(path, version="1.2", fields=0):
    header = ["Name", "Description", *SAMPLES] if version == "1.2" else ["id", "a", "b", *SAMPLES]
    described = [["7"], ["7", "x"]][version == "1.3"]
    rows = [[f"#{version}"], [80, 12] if version == "1.2" else [80, 12, 2, fields], header]
    rows += [[f"field{i}", "na", "na", *["x"] * 12] for i in range(fields)]
    return write_lines(path, [*rows, *([name, *described, *TPM[:, i]] for i, name in enumerate(ENSEMBL))])


def test_gct_is_read_in_both_versions():
    for name, version, fields in (("a.gct", "1.2", 0), ("b.gct", "1.3", 3), ("c.gct", "1.3", 0)):
        read = build_expression([write_gct(name, version, fields)])
        np.testing.assert_allclose(values(read), TPM, rtol=1e-5)
        assert (read.patients, read.scale, forms(read)) == (PATIENTS, "tpm", {"gct"})
    Path("a.gct.gz").write_bytes(gzip.compress(Path("a.gct").read_bytes()))
    np.testing.assert_allclose(values(build_expression(["a.gct.gz"])), TPM, rtol=1e-5)
    with pytest.raises(InputError, match="is a table of GCT, whose columns are samples, so patient_id does not apply"):
        read_expression({"path": "a.gct", "patient_id": "Name"})
    write_lines("d.gct", [("#1.2",), ("Name", "Description", "x"), ("TP53", "na", 5)])
    with pytest.raises(InputError, match=r"the second line of a GCT file holds its numbers of rows and columns"):
        build_expression(["d.gct"])


def write_firebrowse(path, quantities):
    """{kind of value: (samples, genes)}."""
    header = ["Hybridization REF", *(sample for sample in SAMPLES for _ in quantities)]
    rows = [
        [f"{gene}|{i + 1}", *(quantity[j][i] for j in range(12) for quantity in quantities.values())]
        for i, gene in enumerate(GENES)
    ]
    return write_lines(path, [header, ["gene_id", *list(quantities) * 12], *rows])


def test_firebrowse_is_read_on_the_stated_scale():
    write_firebrowse("n.txt", {"normalized_count": COUNTS + 0.5})
    read = build_expression(["n.txt"])
    np.testing.assert_allclose(values(read), COUNTS + 0.5)
    assert (read.patients, read.scale, forms(read)) == (PATIENTS, "counts", {"firebrowse"})
    with pytest.raises(InputError, match="normalized_count is on the scale counts, not tpm"):
        build_expression(["n.txt"], scale="tpm")
    transcripts = np.full((12, 80), "uc001,uc002", dtype=object)
    write_firebrowse("t.txt", {"raw_count": COUNTS, "scaled_estimate": TPM / 1e6, "transcript_id": transcripts})
    read = build_expression(["t.txt"])
    np.testing.assert_allclose(values(read), TPM, rtol=1e-5)
    assert read.scale == "tpm"
    np.testing.assert_allclose(values(build_expression(["t.txt"], scale="counts")), COUNTS)
    write_firebrowse("m.txt", {"Beta_value": TPM / 1e6})
    with pytest.raises(InputError, match=r"holds methylation, not RNA .Firebrowse's Beta_value"):
        build_expression(["m.txt"])
    write_firebrowse("x.txt", {"reads_per_million_miRNA_mapped": TPM})
    with pytest.raises(InputError, match="table of Firebrowse names reads_per_million_mirna_mapped"):
        build_expression(["x.txt"])


def test_the_messages_on_foreign_inputs_are_specific(shared_faults, capsys):
    folder = shared_faults / "foreign_rna_messages"
    with pytest.raises(
        InputError,
        match=r"gtex.gct \(GCT 1.2\): its scale cannot be detected \(values from 0.0411 to .*state it with --scale",
    ):
        build_expression([folder / "gtex.gct"])
    scales = {"fc.txt": "tpm", "firebrowse.txt": "counts", "P1.genes.results": "tpm", "gtex.gct": None}
    for name, scale in scales.items():
        stated = [] if scale else ["--scale", "tpm"]  # 57 genes of TPM tell no scale
        assert main(["cohort", "expression", str(folder / name), *stated, "--out", f"{name}.parquet"]) == 0
        printed = capsys.readouterr().out
        assert "  read as: " in printed
        read = read_expression(f"{name}.parquet")
        assert read.scale == (scale or "tpm")
        assert read.patients == (["P1"] if name.startswith("P1") else PATIENTS)


def test_r_objects_are_refused_as_such():
    for name, start in (("e.rds", b"X\n\x00\x00\x00\x03\xff"), ("e.RData", b"RDX3\nX\n\xff")):
        Path(name).write_bytes(gzip.compress(start * 9))
        with pytest.raises(InputError, match=f"{name}: is an R object; export its table with write.csv"):
            build_expression([name])


def test_a_folder_without_rna_is_refused_with_the_formats_that_are_read():
    write_lines("rna/notes.txt", [("hello",)])
    with pytest.raises(InputError, match=r"rna: contains no RNA file .*RSEM genes.results, salmon quant.sf, kallisto"):
        build_expression(["rna"])


def test_a_table_of_few_genes_is_stored_on_the_scale_of_models(shared_faults):
    for genes, factor in ((10, 1.0), (80, 0.3)):
        x = np.where(TPM < 50, 0, TPM)[:, :genes] * factor
        by_genes(np.log2(x + 0.001).round(4), genes=GENES[:genes]).to_csv("x.csv")
        read = build_expression(["x.csv"])
        assert read.scale == "log2"
        np.testing.assert_allclose(model_values(read)[GENES[:genes]], np.log2(x + 1), atol=1e-3)
        stated = build_expression(["x.csv"], scale="tpm")
        np.testing.assert_allclose(model_values(read), model_values(stated), atol=1e-4)
    path = shared_faults / "xena_few_genes" / "survpath_blca_12x300.csv"
    read, raw = build_expression([path]), pd.read_csv(path, index_col=0)
    assert (read.table.shape, read.scale) == ((12, 300), "log2")
    np.testing.assert_allclose(read.table["FMO2"], np.log2(np.exp2(raw["FMO2"]) - 0.001 + 1), atol=1e-3)


def test_an_unknown_scale_is_described_by_the_values():
    by_genes((np.log2(np.maximum(TPM, 500) + 0.001) - 10).round(4)).to_csv("x.csv")
    with pytest.raises(InputError, match=r"scale cannot be detected \(values from -1.034 to "):
        build_expression(["x.csv"])


@pytest.mark.parametrize("header", ["count", "TPM", "raw_counts"])
def test_a_sample_is_named_by_its_file_if_its_column_names_the_quantity(header):
    values = TPM if header == "TPM" else COUNTS
    for i in range(2):
        write_lines(f"files/P{i}.txt", [("gene", header), *zip(GENES, values[i], strict=True)])
    assert build_expression(["files/P0.txt", "files/P1.txt"]).patients == ["P0", "P1"]
