"""Tables of every kind become patients × symbols, and are written to a file with their provenance."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from rna_tables import SIXTY_GENES as GENES
from rna_tables import tpm_table

from dmml.cohort.rna.expression import (
    build_expression,
    read_expression,
    write_expression,
)
from dmml.cohort.rna.scale import settle_scale
from dmml.errors import InputError


def test_both_orientations_give_the_same_table():
    table = tpm_table()
    table.to_csv("patients.csv", index_label="patient_id")
    table.T.to_csv("genes.tsv", sep="\t", index_label="Hugo_Symbol")
    table.T.to_csv("zipped.csv.zip")
    with_entrez = table.T.rename_axis("Hugo_Symbol").reset_index()
    with_entrez.insert(1, "Entrez_Gene_Id", range(len(GENES)))
    with_entrez.to_csv("cbioportal.txt", sep="\t", index=False)
    r_style = table.T.to_csv(sep="\t").split("\t", 1)[1]
    with open("r.txt", "w") as file:  # R leaves the name of the row names out
        file.write(r_style)
    for name in ("patients.csv", "genes.tsv", "zipped.csv.zip", "cbioportal.txt", "r.txt"):
        expression = build_expression([name])
        assert expression.scale == "tpm", name
        assert expression.patients == list(table.index), name
        np.testing.assert_allclose(expression.table[sorted(GENES)], table[sorted(GENES)], rtol=1e-6, err_msg=name)
        assert expression.table.dtypes.unique().tolist() == [np.float32]


def test_ids_keep_leading_zeros_and_other_columns_are_skipped():
    table = tpm_table()
    table.index = [f"00{i}" for i in range(10)]
    table.insert(0, "age", 60)
    table.to_csv("e.csv", index_label="case")
    expression = read_expression({"path": "e.csv", "patient_id": "case"})
    assert expression.patients[:2] == ["000", "001"]
    assert "age" not in expression.table
    assert expression.provenance["counts"] == {"other_columns_passed_by": 1}


def test_ensembl_rows_of_one_symbol_are_summed_on_a_linear_scale_and_averaged_on_log2():
    rows = {"ENSG00000141510.18": 3e5, "ENSG00000141510.99": 1e5, "ENSG00000111640": 6e5, "ENSG00000999999": 7.0}
    others = {gene: 0.5 for gene in GENES if gene not in ("TP53", "GAPDH")}
    frame = pd.DataFrame({"s1": rows | others, "s2": rows | others})
    frame.to_csv("e.csv", index_label="gene")
    linear = build_expression(["e.csv"])
    assert linear.table.loc["s1", "TP53"] == 4e5
    assert linear.provenance["counts"] == {
        "ensembl_ids_mapped": 3,
        "genes_without_symbol_dropped": 1,
        "rows_merged_into_a_symbol": 1,
    }
    assert linear.provenance["names"] == {
        "merged": {"TP53": ["ENSG00000141510.18", "ENSG00000141510.99"]},
        "dropped": {"unknown Ensembl id": ["ENSG00000999999"]},
    }
    np.log2(frame + 1).to_csv("l.csv", index_label="gene")
    logged = build_expression(["l.csv"])
    assert logged.scale == "log2"
    assert logged.table.loc["s2", "TP53"] == pytest.approx((np.log2(3e5 + 1) + np.log2(1e5 + 1)) / 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("probe,s1\n1007_s_at,5\n1053_at,6\n", "no gene names were recognised"),
        ("gene,s1,s2\nTP53,5,high\nEGFR,1,2\n", "line 2, column 's2': 'high' is not a number"),
        ("gene,s1\nTP53,inf\nEGFR,1\n", "line 2: infinite value in column 's1'"),
        ("gene,s1\nTP53,\nEGFR,NA\n", "contains no number"),
        ("!Series_title\tx\n", "a GEO series matrix without a table"),
        (
            "!a\tx\n!Series_platform_id\tGPL1\n!series_matrix_table_begin\nID_REF\tG1\n7_at\t1\n8_at\t2\n",
            "rows are probes of GPL1",
        ),
        ("gene,s1\n7157,5\n7158,6\n", "its first column holds numbers .* that are consecutive"),
        ("", "is empty"),
    ],
)
def test_files_that_are_not_rna_tables_are_refused(text, message):
    with open("e.csv", "w") as file:
        file.write(text)
    with pytest.raises(InputError, match=message):
        build_expression(["e.csv"])


def test_a_suffix_selects_the_gene_columns_of_a_wider_table():
    with open("e.csv", "w") as file:
        file.write("case_id,age,TP53_rnaseq\na,1,2\n")
    with open("wide.csv", "w") as file:
        file.write(",case_id,age,TP53_rnaseq,EGFR_rnaseq,MYC_cnv\n0,a,1,2,3,1\n1,b,1,2,3,1\n")
    with pytest.raises(InputError, match="no column ends with '_rna'"):
        read_expression({"path": "e.csv", "patient_id": "case_id", "suffix": "_rna"})
    with pytest.raises(InputError, match="names of its gene columns end with '_rnaseq'; add --suffix _rnaseq"):
        read_expression("wide.csv")
    with pytest.raises(InputError, match=r"no column 'case'.*name one of its columns: case_id"):
        read_expression({"path": "e.csv", "patient_id": "case", "suffix": "_rnaseq"})
    with pytest.raises(InputError, match="unknown key 'sufix'"):
        read_expression({"path": "e.csv", "sufix": "_rnaseq"})


def test_the_expression_file_keeps_table_scale_and_provenance():
    table = tpm_table()
    table.iloc[0, 0] = np.nan
    table.to_csv("e.csv", index_label="patient_id")
    expression = build_expression(["e.csv"], scale="fpkm")
    write_expression(expression, "folder/e.parquet")
    read = read_expression("folder/e.parquet")
    pd.testing.assert_frame_equal(read.table, expression.table)
    assert read.scale == "fpkm"
    assert read.provenance == expression.provenance == json.loads(open("folder/e.parquet.json").read())
    with pytest.raises(InputError, match="already exists; add --overwrite"):
        write_expression(expression, "folder/e.parquet")
    write_expression(expression, "folder/e.parquet", overwrite=True)
    with pytest.raises(InputError, match=r"name the file e.parquet"):
        write_expression(expression, "e.csv")
    with open("bad.parquet", "w") as file:
        file.write("no parquet")
    with pytest.raises(InputError, match=r"bad.parquet: is not a parquet file"):
        read_expression("bad.parquet")
    with pytest.raises(InputError, match="write it with `dmml cohort expression"):
        read_expression("none.parquet")


def test_the_scale_of_foreign_parquet_is_detected():
    table = tpm_table().rename(columns={GENES[5]: "ENSG00000164032.12"})
    table.rename_axis("patient_id").reset_index().to_parquet("e.parquet")
    read = read_expression("e.parquet")
    assert read.scale == "tpm"
    np.testing.assert_allclose(read.table["H2AZ1"], table["ENSG00000164032.12"], rtol=1e-6)
    pd.concat([table, table]).rename_axis("patient_id").reset_index().to_parquet("g.parquet")
    with pytest.raises(InputError, match="patient 'p0' is in two rows"):
        read_expression("g.parquet")
    (tpm_table() * 0.3).rename_axis("patient_id").reset_index().to_parquet("f.parquet")
    with pytest.raises(InputError, match="its scale cannot be detected"):
        read_expression("f.parquet")


def test_reading_a_cohort_loads_no_torch():
    """Commands check their input before anything heavy is imported."""
    code = "import sys, dmml.cohort.cohort; print([m for m in ('torch', 'lightning', 'zarr', 'pyarrow') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() in ("[]", "['pyarrow']")  # some releases of pandas load pyarrow


def test_several_tables_must_share_scale_and_genes():
    tpm_table(8).to_csv("a.csv", index_label="patient_id")
    other = tpm_table(8, GENES[:50], seed=1)
    other.index = [f"q{i}" for i in range(8)]
    other.to_csv("b.csv", index_label="patient_id")
    both = build_expression(["a.csv", "b.csv"])
    assert both.table.shape == (16, 50)
    assert both.provenance["counts"] == {"genes_not_in_every_input_dropped": 10}
    np.log2(other + 1).to_csv("b.csv", index_label="patient_id")
    with pytest.raises(InputError, match=r"different scales \(log2, tpm\)"):
        build_expression(["a.csv", "b.csv"])
    with pytest.raises(InputError, match="is in two inputs"):
        build_expression(["a.csv", "a.csv"])


def test_the_published_luad_and_gbmlgg_tables_are_read(shared_data):
    path = shared_data / "tcga_luad/mcat_luad_all_clean.csv.zip"
    spec = {"path": path, "patient_id": "case_id", "suffix": "_rnaseq"}
    luad = read_expression(spec)
    assert (luad.table.shape, luad.scale) == ((453, 2812), "zscore")
    raw = pd.read_csv(path, usecols=["case_id", "AAK1_rnaseq"]).drop_duplicates("case_id").set_index("case_id")
    np.testing.assert_allclose(luad.table["AAK1"], raw["AAK1_rnaseq"].loc[luad.patients], rtol=1e-6)
    assert luad.table.max().max() > 7000
    assert luad.provenance["counts"]["patients_with_equal_rows_merged"] == 21
    with pytest.raises(InputError, match="stated as log2"):
        settle_scale(luad.table.to_numpy(), "log2", "luad")
    gbmlgg = read_expression({**spec, "path": shared_data / "tcga_gbmlgg/porpoise_gbmlgg_all_clean.csv.zip"})
    assert (gbmlgg.table.shape, gbmlgg.scale) == ((569, 1544), "zscore")


def test_two_real_tables_on_unusual_scales_are_read(shared_data):
    """A background-subtracted TPM table with negatives, and a microarray in log2."""
    tpm = read_expression(shared_data / "bulk_tpm_8_samples.tsv")
    assert (tpm.table.shape, tpm.scale) == ((8, 19373), "tpm")
    raw = pd.read_csv(shared_data / "bulk_tpm_8_samples.tsv", sep="\t", index_col=0)
    assert tpm.provenance["counts"]["negative_values_set_to_0"] == (raw < 0).sum().sum()
    np.testing.assert_allclose(tpm.table["A1BG"], raw.loc["A1BG"], rtol=1e-6)
    log2 = read_expression(shared_data / "gse29016/GSE29016_log2_symbols.csv.gz")
    assert (log2.table.shape, log2.scale) == ((25, 19236), "log2")
    with gzip.open(shared_data / "gse29016/GSE29016_log2_symbols.csv.gz", "rt") as file:
        file.readline()
        gene, first, *_ = file.readline().strip().split(",")
    assert log2.table.loc["GSM718902", gene] == np.float32(first)
    with pytest.raises(InputError, match="a GEO series matrix, whose rows are probes"):
        read_expression(shared_data / "gse29016/GSE29016_series_matrix.txt.gz")
