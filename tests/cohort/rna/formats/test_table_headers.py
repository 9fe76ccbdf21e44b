"""Tables without a header, and tables whose header begins with `#` or is separated by spaces, as R writes it."""

import gzip

import numpy as np
import pytest
from rna_tables import COUNTS, ENSEMBL, GENES, PATIENTS, SAMPLES, TPM, by_genes, write_lines

from dmml.cohort.rna.expression import build_expression, read_expression
from dmml.errors import InputError


def without_header(table, name, **options):
    table.to_csv(name, header=False, **options)
    return name


@pytest.mark.parametrize(
    "write",
    [
        lambda: without_header(by_genes(TPM), "e.csv"),
        lambda: without_header(by_genes(COUNTS), "e.tsv", sep="\t"),
        lambda: without_header(by_genes(COUNTS[:1], SAMPLES[:1], ENSEMBL), "one.htseq.counts.tsv", sep="\t"),
        lambda: without_header(by_genes(COUNTS, genes=range(5290, 5370)), "entrez.csv"),
        lambda: without_header(by_genes(TPM).assign(chromosome="chr1")[["chromosome", *SAMPLES]], "annotated.csv"),
        lambda: without_header(by_genes(TPM).T, "patients.csv"),
        lambda: without_header(by_genes(COUNTS).T, "patients.csv"),
        lambda: without_header(by_genes(COUNTS, genes=["LOC100130426", *GENES[1:]]), "locus.csv"),
        lambda: without_header(by_genes(COUNTS, genes=["RP11-34P13.7", *ENSEMBL[1:]]), "clone.csv"),
        lambda: without_header(by_genes(TPM, genes=["an unknown gene", *GENES[1:]]), "unknown.csv"),
        lambda: without_header(by_genes(COUNTS * [0, *[1] * 79], genes=["an unknown gene", *GENES[1:]]), "zeros.csv"),
    ],
)
def test_a_table_without_a_header_is_refused_as_such(write):
    name = write()
    for scale in (None, "tpm"):
        with pytest.raises(
            InputError, match=f"{name}: has no header: its first line .* add a first line that names the"
        ):
            build_expression([name], scale=scale)


def test_a_first_gene_that_became_the_header_is_refused_in_parquet_as_well():
    import pandas as pd

    pd.read_csv(without_header(by_genes(TPM), "e.csv")).to_parquet("e.parquet")
    with pytest.raises(InputError, match=r"e.parquet: has no header"):
        read_expression("e.parquet")


@pytest.mark.parametrize("samples", [SAMPLES, [str(2000 + i) for i in range(12)]])
@pytest.mark.parametrize("comments", ["", "# made in 2019\n## with care\n"])
@pytest.mark.parametrize("separator", ["\t", ","])
def test_a_header_behind_a_hash_is_read(samples, comments, separator):
    table = by_genes(TPM, samples)
    with open("genes.txt", "w") as file:
        file.write(comments + "#" + table.to_csv(sep=separator))
    with open("patients.txt", "w") as file:
        file.write(comments + "# " + table.T.rename_axis("patient_id").to_csv(sep=separator))
    for name in ("genes.txt", "patients.txt"):
        read = read_expression(name)
        assert read.patients == [sample[:12] for sample in samples]
        np.testing.assert_allclose(read.table[GENES], TPM, rtol=1e-6)


def test_a_comment_above_a_header_stays_a_comment():
    write_lines("e.tsv", [["# 12 patients"] + ["of TCGA"] * 12])
    with open("e.tsv", "a") as file:
        file.write(by_genes(TPM, range(2000, 2012)).to_csv(sep="\t"))
    assert build_expression(["e.tsv"]).patients == [str(2000 + i) for i in range(12)]


def test_a_header_behind_a_hash_may_stand_above_comments_and_lack_the_name_of_the_genes():
    for header in ("gene\t", ""):
        with open("e.tsv", "w") as file:
            file.write(f"#{header}" + "\t".join(PATIENTS) + "\n# TPM\n" + by_genes(TPM).to_csv(sep="\t", header=False))
        assert build_expression(["e.tsv"]).patients == PATIENTS


@pytest.mark.parametrize("samples", [range(1, 13), [f"1.{i}" for i in range(1, 13)], [*"112233445566"]])
@pytest.mark.parametrize("corner", ["gene", "", "ID"])
def test_numbers_may_be_names_of_samples(samples, corner):
    samples = [str(name) for name in samples]
    by_genes(TPM, samples).rename_axis(corner).to_csv("e.csv")
    assert build_expression(["e.csv"]).patients == list(dict.fromkeys(samples))


def test_a_folder_of_tables_without_a_header_is_refused_as_such():
    for i in range(2):
        write_lines(f"counts/P{i}.txt", zip(GENES, COUNTS[i], strict=True))
    with pytest.raises(InputError, match=r"P0.txt: has no header: its first line .* is the row of a gene"):
        build_expression(["counts"])


def test_genes_whose_names_are_words_do_not_count_as_a_missing_header():
    by_genes(TPM, range(2000, 2012), ["SET", "REST", "T", *GENES[3:]]).to_csv("e.csv")
    assert build_expression(["e.csv"]).table.shape == (12, 80)


def test_real_inputs_without_a_header_are_refused(shared_faults):
    folder = shared_faults / "no_header"
    with pytest.raises(InputError, match=r"one.htseq.counts.tsv: has no header: .*'ENSG00000000003', '2210'"):
        build_expression([folder / "one.htseq.counts.tsv"])
    read = build_expression([folder / "hash_header.tsv"], scale="tpm")
    assert read.patients == PATIENTS
    assert read.table.loc[PATIENTS[0], "TSPAN6"] == pytest.approx(104.81731)  # the first row
    read = build_expression([folder / "ReadsPerGene.out.tab"])
    assert (read.patients, read.scale) == (["no_header"], "counts")
    assert read.table.loc["no_header", "TSPAN6"] == 2210
    assert read.provenance["counts"]["summary_rows_skipped"] == 4


def r_table(table, separator=" ", quote='"'):
    """As `write.table` writes it: the header has one name fewer."""
    header = separator.join(f"{quote}{name}{quote}" for name in table.columns)
    rows = [f"{quote}{name}{quote}{separator}" + separator.join(f"{x:.5f}" for x in row) for name, row in
            zip(table.index, table.to_numpy(), strict=True)]  # fmt: skip
    return "\n".join([header, *rows]) + "\n"


@pytest.mark.parametrize("quote", ['"', ""])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_tables_of_r_are_read(quote, separator):
    samples = [f"Patient {i}" for i in range(12)] if quote else SAMPLES
    with gzip.open("r.txt.gz", "wt") as file:
        file.write(r_table(by_genes(TPM, samples), separator, quote))
    with open("patients.txt", "w") as file:
        file.write(r_table(by_genes(TPM).T, separator, quote))
    for name in ("r.txt.gz", "patients.txt"):
        read = read_expression(name)
        assert len(read.patients) == 12
        np.testing.assert_allclose(read.table[GENES], TPM, rtol=1e-3, atol=1e-4)


def test_the_scale_of_an_r_table_of_few_genes_must_be_stated(shared_faults):
    path = shared_faults / "foreign_rna_messages" / "rspace.txt"
    with pytest.raises(InputError, match=r"scale cannot be detected \(values from 0.04114 to 1.49e\+04"):
        build_expression([path])
    assert build_expression([path], scale="tpm").patients == PATIENTS


def test_a_single_column_is_refused_as_such():
    for text in ("TP53\nEGFR\n", "gene   s1   s2\nTP53   1   2\n"):
        with open("e.txt", "w") as file:
            file.write(text)
        with pytest.raises(InputError, match=r"e.txt: has a single column .*separate its columns by tabs"):
            build_expression(["e.txt"])


def test_a_repeated_header_is_refused_with_its_line():
    text = by_genes(COUNTS).to_csv()
    with open("e.csv", "w") as file:
        file.write(text + text.split("\n")[0] + "\n")
    with pytest.raises(InputError, match="line 82 repeats the header"):
        build_expression(["e.csv"])
