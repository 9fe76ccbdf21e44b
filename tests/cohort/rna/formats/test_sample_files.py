"""Formats with one file per sample: RSEM, salmon, kallisto, STAR, htseq-count, and folders of such files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rna_tables import (
    COUNTS,
    ENSEMBL,
    GENES,
    TPM,
    forms,
    values,
    write_kallisto,
    write_lines,
    write_rsem,
    write_salmon,
    write_star,
)

from dmml.cohort.rna.expression import build_expression
from dmml.cohort.rna.samples.sample_names import name_of_file
from dmml.errors import InputError

TRANSCRIPTS = [f"ENST{i:011d}.1" for i in range(160)]
GENCODE = [f"{t}|{ENSEMBL[i % 80]}.4|OTTHUMG|OTTHUMT|x-201|x|1657|protein_coding|" for i, t in enumerate(TRANSCRIPTS)]


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("P1.genes.results", "P1"),
        ("P1.rsem.genes.results.gz", "P1"),
        ("P1ReadsPerGene.out.tab", "P1"),
        ("P1_ReadsPerGene.out.tab", "P1"),
        ("P1/ReadsPerGene.out.tab", "P1"),
        ("P1/quant.sf", "P1"),
        ("P1_quant/quant.genes.sf", "P1"),
        ("P1.salmon/quant.sf", "P1"),
        ("P1/abundance.tsv", "P1"),
        ("P1.htseq.counts.gz", "P1"),
        ("P1.htseq.counts.tsv", "P1"),
        ("TCGA.05.4000.01A.genes.results", "TCGA.05.4000.01A"),
        ("accounts.genes.results", "accounts"),
    ],
)
def test_the_name_of_a_file_or_its_folder_names_the_sample(name, patient):
    assert name_of_file(Path("runs") / name) == patient


@pytest.mark.parametrize("scale", [None, "tpm", "counts", "fpkm"])
def test_rsem_files_are_read(scale):
    for i in range(3):
        write_rsem(f"rna/P{i}.genes.results", i)
    Path("rna/P0.isoforms.results").write_text("transcript_id\tgene_id\tlength\tIsoPct\n")
    read = build_expression(["rna"], scale=scale)
    expected = {"counts": COUNTS + 0.5, "fpkm": TPM / 2}.get(scale, TPM)
    np.testing.assert_allclose(values(read), expected[:3], rtol=1e-5)
    assert (read.patients, read.scale, forms(read)) == (["P0", "P1", "P2"], scale or "tpm", {"rsem_genes"})
    assert read.provenance["counts"]["files_ignored"] == 1
    assert read.provenance["read_as"][0].startswith("RSEM genes.results, column ")


def test_rsem_ids_with_appended_names_are_read_and_a_map_may_name_files_by_path():
    paths = [write_rsem(f"P{i}.genes.results", i, [f"{e}.5_NAME-{i}" for i, e in enumerate(ENSEMBL)]) for i in range(2)]
    read = build_expression(paths)
    np.testing.assert_allclose(values(read), TPM[:2], rtol=1e-5)


def test_a_patient_map_may_name_files():
    for i in range(3):
        write_rsem(f"rna/P{i}.genes.results", i)
    pd.DataFrame({"file": ["P0.genes.results", "P2.genes.results"], "patient_id": ["a", "b"]}).to_csv(
        "m.csv", index=False
    )
    assert build_expression(["rna"], patients="m.csv").patients == ["a", "b"]


def test_damaged_sample_files_are_refused():
    for i in range(3):
        write_rsem(f"rna/P{i}.genes.results", i)
    path, text = Path("rna/P2.genes.results"), Path("rna/P2.genes.results").read_text()
    path.write_text(text[: text.rindex("\t")])
    with pytest.raises(InputError, match=r"P2.genes.results: .* are not numbers of at least 0; the file is incomplete"):
        build_expression(["rna"])
    path.write_text("".join(text.splitlines(keepends=True)[:20]))
    with pytest.raises(InputError, match=r"P2.genes.results: has 19 genes, but the other files have 80"):
        build_expression(["rna"])
    path.write_text(text.splitlines(keepends=True)[0])
    with pytest.raises(InputError, match=r"P2.genes.results: RSEM genes.results with no row"):
        build_expression(["rna"])
    write_rsem("rna/more/P1.genes.results")
    with pytest.raises(InputError, match="is a second file of sample 'P1'"):
        build_expression(["rna"])
    with pytest.raises(InputError, match="gives tpm, counts, fpkm, not log2; change --scale"):
        build_expression(["rna/P1.genes.results"], scale="log2")
    write_lines("P0.isoforms.results", [("transcript_id", "gene_id", "length", "IsoPct"), ("x", "y", 1, 1)])
    with pytest.raises(InputError, match=r"holds isoforms; give the genes.results"):
        build_expression(["P0.isoforms.results"])


def test_star_reads_both_strands_unless_the_library_is_stranded():
    for i in range(3):
        write_star(f"rna/P{i}/ReadsPerGene.out.tab", seed=i)
    expected = np.stack([np.random.default_rng(i).negative_binomial(2, 0.01, size=80) for i in range(3)])
    read = build_expression(["rna"])
    np.testing.assert_allclose(values(read), expected)
    assert (read.patients, read.scale, forms(read)) == (["P0", "P1", "P2"], "counts", {"star_reads_per_gene"})
    assert read.provenance["read_as"] == ["STAR ReadsPerGene.out.tab, column unstranded"]
    assert read.provenance["counts"]["summary_rows_skipped"] == 4
    for i in range(2):
        write_star(f"rna/P{i}/ReadsPerGene.out.tab", seed=i, forward=0.02)
    assert build_expression(["rna"]).provenance["read_as"] == [
        "STAR ReadsPerGene.out.tab, column unstranded"
    ]  # one is not
    write_star("rna/P2/ReadsPerGene.out.tab", seed=2, forward=0.02)
    read = build_expression(["rna"])
    assert read.provenance["read_as"] == ["STAR ReadsPerGene.out.tab, column reverse"]
    np.testing.assert_allclose(values(read), expected - np.rint(expected * 0.02))


def test_htseq_files_are_recognised_by_their_summary():
    for i in range(2):
        rows = [*zip(ENSEMBL, COUNTS[i], strict=True), ("__no_feature", 10**6), ("__ambiguous", 5)]
        write_lines(f"rna/P{i}.htseq.counts", rows)
    read = build_expression(["rna"])
    np.testing.assert_allclose(values(read), COUNTS[:2])
    assert (read.patients, read.scale) == (["P0", "P1"], "counts")


@pytest.mark.parametrize(
    ("write", "file", "form"),
    [(write_salmon, "quant.sf", "salmon"), (write_kallisto, "abundance.tsv", "kallisto")],
)
def test_transcripts_are_summed_to_genes_by_their_names_or_a_map(write, file, form):
    for i in range(3):
        write(f"gencode/P{i}/{file}", i, GENCODE)
        write(f"plain/P{i}/{file}", i, TRANSCRIPTS)
        Path(f"plain/P{i}/abundance.h5").write_bytes(b"\x89HDF\r\n\x1a\n\xff")
    read = build_expression(["gencode"])
    np.testing.assert_allclose(values(read), 2 * TPM[:3], rtol=1e-5)
    assert (read.patients, forms(read)) == (["P0", "P1", "P2"], {form})
    np.testing.assert_allclose(values(build_expression(["gencode"], scale="counts")), 2 * COUNTS[:3])
    with pytest.raises(InputError, match=rf"P0/{file}: its rows \(ENST00000000000.1, .*--probes"):
        build_expression(["plain"])
    pd.DataFrame({"probe": TRANSCRIPTS, "symbol": GENES * 2}).to_csv("map.csv", index=False)
    np.testing.assert_allclose(values(build_expression(["plain"], probes="map.csv")), 2 * TPM[:3], rtol=1e-5)
    with pytest.raises(InputError, match="is an HDF5 file"):
        build_expression(["plain/P0/abundance.h5"])


def test_genes_of_salmon_are_preferred_to_its_transcripts():
    for i in range(3):
        write_salmon(f"rna/P{i}/quant.genes.sf", i)
        write_salmon(f"rna/P{i}/quant.sf", i, TRANSCRIPTS)
        write_lines(f"rna/P{i}/cmd_info.json", [("{}",)])
    read = build_expression(["rna"])
    np.testing.assert_allclose(values(read), TPM[:3], rtol=1e-5)
    assert read.provenance["counts"]["files_ignored"] == 6
    assert build_expression(["rna/P1"]).patients == ["P1"]
