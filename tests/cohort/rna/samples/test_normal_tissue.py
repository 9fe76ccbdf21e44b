"""Normal tissue is left out if a table of RNA itself describes which samples are normal."""

import numpy as np
import pandas as pd
import pytest
from rna_tables import ENSEMBL, GENES, TPM, by_genes, write_lines

from dmml.cohort.rna.expression import build_expression
from dmml.errors import InputError

PATIENTS = [f"P{i // 2}" for i in range(12)]  # a tumor and normal tissue of each
DESCRIPTIONS = {
    "sample_type": ["Primary Tumor", "Solid Tissue Normal"] * 6,
    "Sample Type ID": [1, 11] * 6,
    "condition": ["T", "N"] * 6,
    "group": ["tumour", "normal"] * 6,
}


def patients_by_genes(column, values):
    table = by_genes(TPM, PATIENTS).T.rename_axis("patient_id").reset_index()
    table.insert(1, column, values)
    return table


@pytest.mark.parametrize("column", DESCRIPTIONS)
@pytest.mark.parametrize("suffix", [None, "_rna"])
def test_rows_of_normal_tissue_are_left_out(column, suffix):
    table = patients_by_genes(column, DESCRIPTIONS[column])
    if suffix:
        table = table.rename(columns={gene: gene + suffix for gene in GENES})
    table.to_csv("e.csv", index=False)
    read = build_expression(["e.csv"], patient_id="patient_id", suffix=suffix)
    assert read.patients == PATIENTS[::2]
    np.testing.assert_allclose(read.table[GENES], TPM[::2], rtol=1e-6)
    assert read.provenance["counts"]["normal_samples_dropped"] == 6


@pytest.mark.parametrize(("column", "values"), [("sex", ["T", "T"] * 6), ("smoker", ["Y", "N"] * 6), ("stage", "I")])
def test_rows_with_other_words_are_kept(column, values):
    patients_by_genes(column, values).to_csv("e.csv", index=False)
    read = build_expression(["e.csv"])
    assert read.provenance["counts"]["patients_with_samples_averaged"] == 6


def test_a_table_of_only_normal_tissue_is_refused():
    patients_by_genes("sample_type", "Solid Tissue Normal").to_csv("e.csv", index=False)
    with pytest.raises(InputError, match=r"e.csv: describes all of its samples as normal tissue or cell lines"):
        build_expression(["e.csv"])


@pytest.mark.parametrize("name", ["Type", "sample_type"])
def test_columns_of_normal_tissue_in_a_gct_file_are_left_out(name):
    samples = [f"S{i}" for i in range(12)]
    lines = [("id", "symbol", *samples), ("age", "na", *[50] * 12), (name, "na", *["Tumor", "Normal"] * 6)]
    genes = [(ENSEMBL[i], GENES[i], *TPM[:, i]) for i in range(80)]
    write_lines("e.gct", [("#1.3",), (80, 12, 1, 2), *lines, *genes])
    read = build_expression(["e.gct"])
    assert read.patients == samples[::2]
    assert read.provenance["counts"]["normal_samples_dropped"] == 6


def test_a_file_of_a_single_row_keeps_its_patient():
    pd.DataFrame([["P1", "Tumor", *TPM[0]]], columns=["patient_id", "tissue_type", *GENES]).to_csv("e.csv", index=False)
    assert build_expression(["e.csv"], patient_id="patient_id").patients == ["P1"]
