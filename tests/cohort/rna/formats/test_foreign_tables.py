"""Tables of portals: GEO probes, Entrez numbers, Xena's offset, parquet in both orientations, samples on mixed scales."""

import gzip
import zipfile

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
from dmml.cohort.rna.expression import (
    Expression,
    build_expression,
    model_values,
    read_expression,
    write_expression,
)
from dmml.cohort.rna.genes.gene_names import other_names
from dmml.errors import InputError

GENES = genes_of(read_gene_sets()["tumor"])[:80]
TPM = np.random.default_rng(0).gamma(0.5, size=(12, 80))
TPM[TPM < 0.05] = 0
TPM *= 1e6 / TPM.sum(1, keepdims=True)
BARCODES = [f"TCGA-05-{i:04d}-01" for i in range(12)]


def by_genes(values=TPM, samples=BARCODES, genes=GENES):
    return pd.DataFrame(values.T, index=pd.Index(genes, name="gene"), columns=samples)


def test_every_compression_and_encoding_gives_the_same_table():
    table = by_genes()
    table.to_csv("g.csv")
    table.to_csv("g.tsv", sep="\t")
    table.to_csv("g.csv.gz")
    with zipfile.ZipFile("g.csv.zip", "w") as archive:
        archive.write("g.csv")
    table.reset_index().to_parquet("g.parquet")
    table.T.rename_axis("patient_id").to_csv("p.csv")
    table.T.rename_axis("patient_id").reset_index().to_parquet("p.parquet")
    table.T.to_parquet("index.parquet")
    first = read_expression("g.csv")
    assert first.patients == [name[:12] for name in BARCODES]
    assert first.scale == "tpm"
    np.testing.assert_allclose(first.table[GENES], TPM, rtol=1e-6)
    for name in ("g.tsv", "g.csv.gz", "g.csv.zip", "g.parquet", "p.csv", "p.parquet", "index.parquet"):
        pd.testing.assert_frame_equal(read_expression(name).table, first.table)


def test_cbioportal_rows_have_two_names():
    table = by_genes().reset_index(names="Hugo_Symbol")
    table.insert(1, "Entrez_Gene_Id", range(100, 180))
    table.loc[3, "Hugo_Symbol"] = ""
    table.to_csv("data_mrna.txt", sep="\t", index=False)
    read = build_expression(["data_mrna.txt"])
    assert set(read.table.columns) == set(GENES) - {GENES[3]}
    assert read.provenance["counts"]["rows_without_gene_name_dropped"] == 1
    np.testing.assert_allclose(read.table[GENES[0]], TPM[:, 0], rtol=1e-6)


NUMBER = {symbol: number for number, symbol in other_names().entrez.items()}


@pytest.mark.parametrize("form", ["{}", "{}.0", "{}_at"])
@pytest.mark.parametrize("way", ["genes.csv", "patients.csv", "genes.parquet", "patients.parquet"])
def test_entrez_numbers_are_mapped_by_the_shipped_table(form, way):
    genes = [gene for gene in GENES if gene in NUMBER]
    numbers = [form.format(NUMBER[gene]) for gene in genes]
    numbers[3] = form.format(999999999)  # withdrawn since
    table = by_genes(TPM[:, : len(genes)], genes=numbers)
    table = table if way.startswith("genes") else table.T.rename_axis("patient_id")
    table.to_csv(way) if way.endswith("csv") else table.reset_index().to_parquet(way)
    read = build_expression([way], scale="fpkm")
    assert list(read.table.columns) == sorted(set(genes) - {genes[3]})
    assert read.provenance["counts"]["entrez_numbers_mapped"] == len(genes) - 1
    assert read.provenance["counts"]["genes_without_symbol_dropped"] == 1
    assert read.provenance["names"]["dropped"] == {"unknown Entrez number": [numbers[3]]}
    np.testing.assert_allclose(read.table[genes[5]], TPM[:, 5], rtol=1e-6)


def test_a_map_of_the_user_decides_over_the_shipped_table():
    by_genes(genes=[f"{100 + i}" for i in range(80)]).to_csv("e.csv")
    pd.DataFrame({"Entrez_Gene_Id": range(101, 180), "Hugo_Symbol": GENES[1:]}).to_csv("map.csv", index=False)
    read = build_expression(["e.csv"], probes="map.csv")
    assert read.provenance["counts"]["probes_without_one_gene_dropped"] == 1
    np.testing.assert_allclose(read.table[GENES[1:]], TPM[:, 1:], rtol=1e-6)


def test_consecutive_numbers_and_numbers_of_no_gene_are_refused():
    for numbers in (range(80), range(1, 81), range(200_000_000, 200_000_240, 3)):
        by_genes(genes=[str(number) for number in numbers]).to_csv("e.csv")
        with pytest.raises(
            InputError, match="consecutive, or mostly not the Entrez numbers of human genes; give a table"
        ):
            build_expression(["e.csv"])
    by_genes(samples=range(2000, 2012)).to_csv("s.csv")  # numbers of patients are no genes
    assert build_expression(["s.csv"]).patients == [str(number) for number in range(2000, 2012)]


def test_other_names_of_a_gene_are_mapped_unless_the_table_has_its_symbol(tmp_path):
    genes = ["ATP5A1", "KIAA0101", "SEPTIN9", "FAM175A", "MARCH1", "1-Mar", "ABRAXAS1", *GENES[7:]]
    by_genes(genes=genes).to_csv("old.csv")
    read = build_expression(["old.csv"])
    assert read.provenance["names"]["renamed"] == {
        "ATP5A1": "ATP5F1A",
        "KIAA0101": "PCLAF",
        "SEPTIN9": "SEPT9",  # the shipped sets call it so
        "MARCH1": "MARCHF1",
    }
    assert {"FAM175A", "ABRAXAS1"} <= set(read.table.columns)  # the table has both: they may be two genes
    counts = read.provenance["counts"]
    assert (counts["symbols_renamed"], counts["spreadsheet_dates_dropped"]) == (4, 1)
    assert "genes_without_symbol_dropped" not in counts
    assert read.provenance["names"]["dropped"] == {"a date of a spreadsheet": ["1-Mar"]}
    np.testing.assert_allclose(read.table["PCLAF"], TPM[:, 1], rtol=1e-6)


def test_mapping_other_names_adds_genes_of_the_sets_in_real_tables(shared_data):
    shipped = {gene for sets in read_gene_sets().values() for gene in genes_of(sets)}
    read = read_expression(shared_data / "bulk_tpm_8_samples.tsv")
    renamed = read.provenance["names"]["renamed"]
    assert len(shipped & set(renamed.values())) >= 40
    assert (renamed["ATP5B"], renamed["H2AFZ"]) == ("ATP5F1B", "H2AZ1")
    assert read.provenance["counts"]["symbols_renamed"] == len(renamed)


def test_a_geo_series_matrix_is_read_with_the_annotation_of_its_platform(shared_data, tmp_path):
    path = shared_data / "gse29016" / "GSE29016_series_matrix.txt.gz"
    with pytest.raises(InputError, match=r"rows are probes of GPL6947 \(ILMN_1343291, .*--probes"):
        read_expression(path)
    with gzip.open(path, "rt") as file:
        lines = file.read().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("!series_matrix_table_begin"))
    rows = [line.split("\t") for line in lines[at + 2 : at + 62]]
    genes = dict(zip([row[0] for row in rows], GENES, strict=False))
    text = ["^PLATFORM", "!x", "ID\tGene Symbol", *(f"{probe}\t{gene}" for probe, gene in genes.items())]
    first, second, third = list(genes)[:3]
    text[3] = f"{first}\t{GENES[0]} /// TP53"  # speaks for two genes, so for none
    text[5] = f"{third}\t{genes[second]}"  # two probes of one gene
    (tmp_path / "GPL.annot").write_text("\n".join(text) + "\n")
    read = read_expression({"path": path, "probes": tmp_path / "GPL.annot", "scale": "fpkm"})
    assert read.table.shape == (25, 58)
    values = {row[0]: np.array(row[1:26], dtype=float) for row in rows}
    np.testing.assert_allclose(read.table[genes[second]], values[second] + values[third], rtol=1e-5)
    (tmp_path / "wrong.csv").write_text("probe,symbol\nx,TP53\n")
    with pytest.raises(InputError, match=r"none of its rows .* is in the map of probes"):
        read_expression({"path": path, "probes": tmp_path / "wrong.csv"})


def test_the_offset_of_xena_is_removed():
    xena = np.log2(TPM + 0.001).round(4)
    by_genes(xena).to_csv("x.tsv", sep="\t")
    read = read_expression("x.tsv")
    assert read.scale == "tpm"
    assert read.provenance["counts"]["values_taken_back_from_log2_of_x_plus_0.001"] == TPM.size
    np.testing.assert_allclose(read.table[GENES], TPM, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(model_values(read)[GENES], np.log2(TPM + 1), atol=1e-3)
    with pytest.raises(InputError, match=r"-9.9658 is log2\(0.001\), so these are UCSC Xena"):
        read_expression({"path": "x.tsv", "scale": "log2"})
    by_genes(np.log2(TPM * 0.3 + 0.001).round(4)).to_csv("f.tsv", sep="\t")
    unknown = read_expression("f.tsv")  # TPM or FPKM: models see the same of either
    assert unknown.scale == "log2"
    np.testing.assert_allclose(model_values(unknown)[GENES], np.log2(TPM * 0.3 + 1), atol=1e-3)
    fpkm = read_expression({"path": "f.tsv", "scale": "fpkm"})
    np.testing.assert_allclose(fpkm.table[GENES], TPM * 0.3, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda x: np.log2(x + 1), "6 logarithmic .* and 6 linear"),
        (lambda x: (x - x.mean(0)) / (x.std(0) + 1e-9), "6 centred on 0 .* and 6 linear"),
        (np.rint, "6 whole numbers .* and 6 linear"),
    ],
)
@pytest.mark.parametrize("stated", [None, "tpm"])
def test_samples_on_different_scales_are_named(other, message, stated):
    values = np.concatenate([other(TPM[:6]), TPM[6:] + 0.1])
    by_genes(values).to_csv("m.csv")
    with pytest.raises(InputError, match=f"samples are on different scales: {message}.*convert them to one"):
        read_expression({"path": "m.csv", "scale": stated})


def test_a_table_on_one_scale_is_not_refused_as_mixed(shared_data):
    rng = np.random.default_rng(1)
    by_genes(TPM * rng.uniform(0.75, 1.15, (12, 1))).to_csv("t.csv")
    assert read_expression("t.csv").scale == "tpm"
    counts = rng.negative_binomial(2, 0.01, size=(12, 80)) * np.array([1, 50] * 6)[:, None]
    by_genes(counts).to_csv("c.csv")
    assert read_expression("c.csv").scale == "counts"


def test_dates_of_a_spreadsheet_are_dropped_and_extreme_values_counted():
    z = np.random.default_rng(0).normal(size=(12, 80))
    z[2, 3], z[4, 5] = 7377, -40
    by_genes(z, genes=["1-Mar", "2-Sep", *GENES[2:]]).to_csv("z.csv")
    read = read_expression("z.csv")
    assert read.table.shape == (12, 78)
    assert read.provenance["counts"]["spreadsheet_dates_dropped"] == 2
    assert read.provenance["counts"]["values_beyond_10_standard_deviations"] == 2


@pytest.mark.parametrize("scale", ["tpm", "fpkm", "counts"])
def test_a_stated_linear_scale_is_refused_for_logarithmic_values(scale):
    """Xena's star_tpm.tsv is log2(TPM + 1), although its name says TPM."""
    genes = sorted(set(NUMBER))[:300]
    values = np.random.default_rng(0).gamma(0.5, size=(12, 300))
    values *= 1e6 / values.sum(1, keepdims=True)
    by_genes(np.log2(values + 1), genes=genes).to_csv("star_tpm.tsv", sep="\t")
    with pytest.raises(InputError, match=f"stated as {scale}, but the values are logarithmic .values from .* to 1"):
        build_expression(["star_tpm.tsv"], scale=scale)
    assert build_expression(["star_tpm.tsv"]).scale == "log2"
    linear = np.rint(values) if scale == "counts" else values
    by_genes(linear, genes=genes).to_csv("linear.tsv", sep="\t")
    assert build_expression(["linear.tsv"], scale=scale).scale == scale
    by_genes(np.minimum(np.rint(values), 20.0), genes=genes).to_csv("few_reads.tsv", sep="\t")
    assert build_expression(["few_reads.tsv"], scale="counts").scale == "counts"


def test_patients_without_a_single_value_have_no_rna():
    table = by_genes().T.rename_axis("patient_id")
    table.iloc[2] = np.nan
    table.iloc[3, 1:] = np.nan
    table.to_csv("p.csv")
    read = read_expression("p.csv")
    assert len(read.table) == 11
    assert BARCODES[2][:12] not in read.patients
    assert BARCODES[3][:12] in read.patients
    assert read.provenance["counts"]["patients_without_any_value_dropped"] == 1
    expression = Expression(table, "tpm", {"counts": {"files_ignored": 2}})
    write_expression(expression, "own.parquet")
    read = read_expression("own.parquet")
    assert len(read.table) == 11
    assert read.provenance["counts"] == {"files_ignored": 2, "patients_without_any_value_dropped": 1}
    write_expression(Expression(table.iloc[2:3], "tpm", {}), "none.parquet")
    with pytest.raises(InputError, match=r"none.parquet: no patient has a single value"):
        read_expression("none.parquet")


def test_parquet_of_another_program_is_read_like_a_text_table():
    table = by_genes().T.rename_axis("case")
    wide = table.add_suffix("_rnaseq").assign(age=60.0, MYC_cnv=1.0)
    wide.reset_index().to_parquet("wide.parquet")
    options = {"patient_id": "case", "suffix": "_rnaseq"}
    read = read_expression({"path": "wide.parquet", **options})
    assert (read.table.shape, read.provenance["counts"]) == ((12, 80), {"other_columns_passed_by": 2})
    wide.to_csv("wide.csv")
    pd.testing.assert_frame_equal(read.table, read_expression({"path": "wide.csv", **options}).table)
    table.assign(age=60.0).reset_index().to_parquet("aged.parquet")
    assert "age" not in read_expression({"path": "aged.parquet", "scale": "tpm"}).table

    probes = [f"{i}_s_at" for i in range(80)]
    by_genes(genes=probes).reset_index().to_parquet("geo.parquet")
    with pytest.raises(InputError, match=r"geo.parquet: no gene names were recognised"):
        read_expression("geo.parquet")
    pd.DataFrame({"probe": probes, "symbol": GENES}).to_csv("map.csv", index=False)
    read = read_expression({"path": "geo.parquet", "probes": "map.csv", "scale": "tpm"})
    np.testing.assert_allclose(read.table[GENES], TPM, rtol=1e-6)


@pytest.mark.parametrize("option", ["patient_id", "suffix", "patients", "probes"])
def test_options_that_do_not_apply_to_a_table_of_dmml_are_refused(option):
    write_expression(Expression(by_genes().T, "tpm", {}), "own.parquet")
    with pytest.raises(InputError, match=f"{option} does not apply to own.parquet"):
        read_expression({"path": "own.parquet", option: "x"})
