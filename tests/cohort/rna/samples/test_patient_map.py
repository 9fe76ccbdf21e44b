"""Samples are assigned to patients by barcodes, by a map or by a sample sheet, and averaged."""

import numpy as np
import pandas as pd
import pytest
from rna_tables import GENES, SIXTY_GENES, TPM, by_genes, tpm_table

from dmml.cohort.rna.expression import build_expression, read_expression
from dmml.errors import InputError


def test_tcga_barcodes_are_cut_normal_tissue_and_recurrences_left_out_and_samples_averaged():
    table = tpm_table(6)
    kinds = ["4249-01A-01R", "4249-01B", "4249-02A", "4250-11A", "4382-01", "4390-06A"]
    table.index = [f"TCGA-05-{kind}" for kind in kinds]
    table.T.to_csv("e.csv")
    expression = build_expression(["e.csv"])
    assert expression.patients == [
        "TCGA-05-4249",
        "TCGA-05-4382",
        "TCGA-05-4390",
    ]  # a metastasis is used if there is nothing else
    np.testing.assert_allclose(
        expression.table.loc["TCGA-05-4249", SIXTY_GENES], table.iloc[:2][SIXTY_GENES].mean(), rtol=1e-5
    )
    assert expression.provenance["counts"] == {
        "normal_samples_dropped": 1,
        "samples_of_recurrences_or_metastases_left_out_beside_a_primary": 1,
        "patients_with_samples_averaged": 1,
    }


def test_equal_rows_of_a_patient_are_merged():
    table = tpm_table(3)
    table.insert(0, "case", ["a", "b", "a"])
    table.iloc[2, 1:] = table.iloc[0, 1:]
    table.to_csv("e.csv", index=False)
    expression = read_expression({"path": "e.csv", "patient_id": "case"})
    assert expression.patients == ["a", "b"]
    np.testing.assert_allclose(
        expression.table.loc["a", SIXTY_GENES].astype(float), table.iloc[0][SIXTY_GENES].astype(float), rtol=1e-6
    )


def test_a_patient_map_assigns_samples_to_patients():
    tpm_table(3).T.to_csv("e.csv")
    with open("map.csv", "w") as file:
        file.write("sample,patient_id\np0,one\np2,two\n")
    expression = build_expression(["e.csv"], patients="map.csv")
    assert expression.patients == ["one", "two"]
    assert expression.provenance["counts"] == {"samples_not_in_map_dropped": 1}
    with open("map.csv", "w") as file:
        file.write("sample,patient_id\np0,one\np0,two\n")
    with pytest.raises(InputError, match="sample 'p0' is assigned to both one and two"):
        build_expression(["e.csv"], patients="map.csv")
    with open("map.csv", "w") as file:
        file.write("sample,patient_id\nother,one\n")
    with pytest.raises(InputError, match=r"none of the 3 samples .* is in the patient map"):
        build_expression(["e.csv"], patients="map.csv")


def test_sample_sheets_before_and_since_2024_leave_normal_tissue_out():
    by_genes(TPM, samples=[f"f{i}" for i in range(12)]).to_csv("g.csv")
    for column, words in (
        ("Sample Type", ["Primary Tumor", "Solid Tissue Normal"]),
        ("Tissue Type", ["Tumor", "Normal"]),
    ):
        rows = [(f"f{i}", f"p{i}", words[i % 2]) for i in range(12)]
        pd.DataFrame(rows, columns=["File Name", "Case ID", column]).to_csv("sheet.tsv", sep="\t", index=False)
        expression = build_expression(["g.csv"], patients="sheet.tsv")
        assert expression.patients == [f"p{i}" for i in range(0, 12, 2)]
        assert expression.provenance["counts"]["normal_samples_dropped"] == 6


def test_a_map_may_contain_names_with_dots():
    names = ["TCGA.05.4249.01A", "TCGA.05.4250.01A", "S1.2", *(f"s{i}" for i in range(9))]
    by_genes(TPM, samples=names).to_csv("g.csv")
    pd.DataFrame({"sample": names, "patient_id": [f"P{i}" for i in range(12)]}).to_csv("map.csv", index=False)
    assert build_expression(["g.csv"], patients="map.csv").patients == [f"P{i}" for i in range(12)]
    by_genes(TPM, samples=["S1", *names[1:]]).to_csv("g.csv")  # S1 is not S1.2
    expression = build_expression(["g.csv"], patients="map.csv")
    assert "P2" in expression.patients  # by S1.2 itself
    assert expression.provenance["counts"]["samples_not_in_map_dropped"] == 1
    files = pd.DataFrame({"File Name": ["f0.star.tsv", "f1.star.tsv", "x.1.tsv", "x.2.tsv"], "Case ID": list("abcd")})
    files.to_csv("sheet.tsv", sep="\t", index=False)
    by_genes(TPM[:3], samples=["f0", "f1", "x"]).to_csv("g.csv")
    expression = build_expression(["g.csv"], patients="sheet.tsv")  # x is c's or d's
    assert expression.patients == ["a", "b"]


def test_recurrences_are_used_only_for_patients_without_a_primary_tumor():
    by_genes(TPM[:4], samples=["f0", "f1", "f2", "f3"]).to_csv("g.csv")
    kinds = ["Primary Tumor", "Recurrent Tumor", "Metastatic", "Solid Tissue Normal"]
    sheet = pd.DataFrame({"File Name": ["f0", "f1", "f2", "f3"], "Case ID": list("aabb"), "Sample Type": kinds})
    sheet.to_csv("sheet.tsv", sep="\t", index=False)
    expression = build_expression(["g.csv"], patients="sheet.tsv")
    assert expression.patients == ["a", "b"]
    np.testing.assert_allclose(expression.table[GENES], TPM[[0, 2]], rtol=1e-6)
    counts = expression.provenance["counts"]
    assert counts["samples_of_recurrences_or_metastases_left_out_beside_a_primary"] == 1
