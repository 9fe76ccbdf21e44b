"""STAR-counts files as the GDC writes them."""

from pathlib import Path

import numpy as np
import pytest
from star_counts_files import star

from dmml.cohort.rna.expression import build_expression
from dmml.cohort.rna.formats.star_counts import is_star_counts, read_star_counts
from dmml.errors import InputError


def test_one_star_counts_file_is_read():
    sample = read_star_counts(star("abc.rna_seq.augmented_star_gene_counts.tsv"))
    assert sample.sample == "abc"
    assert sample.values.to_dict() == {
        "TSPAN6": 10.5,
        "TP53": 20.0,
        "PLCXD1": 2.25,
        "H2AZ1": 4.0,
        "IGKC": 90.0,
        "Y_RNA": 2.0,
    }
    assert sample.notes == {
        "summary_rows_skipped": 4,
        "par_y_rows_summed": 1,
        "symbols_renamed": 1,
        "rows_merged_into_a_symbol": 2,
        "rows_of_other_gene_types_dropped": 1,
        "rows_without_symbol_dropped": 0,
    }
    assert sample.genes.renamed == {"H2AFZ": "H2AZ1"}
    assert sample.genes.merged == {
        "PLCXD1": ["ENSG00000182378.14", "ENSG00000182378.14_PAR_Y"],
        "Y_RNA": ["ENSG00000274559.1", "ENSG00000252010.1"],
    }
    everything = read_star_counts(Path("abc.rna_seq.augmented_star_gene_counts.tsv"), all_genes=True)
    assert everything.values["RN7SL1"] == 5.0


def test_the_scale_chooses_the_column():
    path = star("a.tsv")
    assert read_star_counts(path, "counts").values["TP53"] == 50
    assert read_star_counts(path, "fpkm").values["PLCXD1"] == 0.625
    with pytest.raises(InputError, match="give tpm, counts, fpkm, not log2"):
        read_star_counts(path, "log2")


def test_a_folder_of_gdc_client_is_read():
    star("dl/1f/one.rna_seq.augmented_star_gene_counts.tsv")
    star("dl/2f/two.rna_seq.augmented_star_gene_counts.tsv", factor=2.0)
    Path("dl/MANIFEST.txt").write_text("id\tfilename\n")
    Path("dl/2f/logs").mkdir()
    Path("dl/2f/logs/two.parcel").write_text("x")
    expression = build_expression(["dl"])
    assert expression.patients == ["one", "two"]
    assert expression.scale == "tpm"
    assert expression.table.loc["two", "TP53"] == 40.0
    assert expression.provenance["counts"]["files_ignored"] == 2
    assert {source["form"] for source in expression.provenance["sources"]} == {"star_counts"}
    assert len({source["sha256"] for source in expression.provenance["sources"]}) == 2


def test_a_sample_sheet_of_the_gdc_maps_files_to_cases():
    for name in ("one", "two", "three"):
        star(f"dl/{name}.rna_seq.augmented_star_gene_counts.tsv")
    Path("sheet.tsv").write_text(
        "File ID\tFile Name\tProject ID\tCase ID\tSample ID\tSample Type\n"
        "1\tone.rna_seq.augmented_star_gene_counts.tsv\tTCGA-LUAD\tTCGA-05-4249\tTCGA-05-4249-01A\tPrimary Tumor\n"
        "2\ttwo.rna_seq.augmented_star_gene_counts.tsv\tTCGA-LUAD\tTCGA-05-4250\tTCGA-05-4250-11A\tSolid Tissue Normal\n"
    )
    expression = build_expression(["dl"], patients="sheet.tsv")
    assert expression.patients == ["TCGA-05-4249"]
    counts = expression.provenance["counts"]
    assert (counts["normal_samples_dropped"], counts["samples_not_in_map_dropped"]) == (1, 1)


def test_counts_become_counts_per_million():
    from dmml.cohort.rna.expression import model_values

    star("a.tsv")
    expression = build_expression(["a.tsv"], scale="counts")
    assert expression.scale == "counts"
    total = expression.table.loc["a"].sum()
    assert model_values(expression).loc["a", "TP53"] == pytest.approx(np.log2(1e6 * 50 / total + 1), rel=1e-6)


def test_damaged_and_missing_files_are_refused():
    path = star("a.tsv")
    whole = path.read_text().rstrip("\n")
    path.write_text(whole[: whole.rindex("\t0.75\t")].rsplit("\t", 1)[0] + "\n")  # cut inside the last line
    with pytest.raises(InputError, match="its last line is incomplete"):
        read_star_counts(path)
    path.write_text(whole.replace("\t20.0\t", "\t\t", 1) + "\n")
    with pytest.raises(InputError, match="is not a number of at least 0 in column tpm_unstranded"):
        read_star_counts(path)
    for value in ("inf", "-1", "many"):
        path.write_text(whole.replace("\t20.0\t", f"\t{value}\t", 1) + "\n")
        with pytest.raises(InputError, match=r"gene 'ENSG00000141510.18' is not a number of at least 0"):
            read_star_counts(path)
    star("b.tsv", rows=[])
    with pytest.raises(InputError, match="no gene in column"):
        read_star_counts(Path("b.tsv"))
    Path("c.tsv").write_text("gene\tvalue\nTP53\t1\n")
    assert not is_star_counts(Path("c.tsv"))
    Path("empty").mkdir()
    with pytest.raises(InputError, match=r"empty: contains no RNA file .*STAR-counts"):
        build_expression(["empty"])
    with pytest.raises(InputError, match="no such file"):
        build_expression(["none.tsv"])


def test_two_files_of_the_same_name_are_refused():
    star("x/a.tsv")
    star("y/a.tsv")
    with pytest.raises(InputError, match="two files are of sample 'a'"):
        build_expression(["x", "y"])
