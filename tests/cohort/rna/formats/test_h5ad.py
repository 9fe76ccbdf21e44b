"""RNA from AnnData files: X, layers and raw, sparse and dense; patients and genes from names or columns; no cells."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rna_tables import COUNTS, ENSEMBL, GENES, PATIENTS, SAMPLES, TPM
from scipy import sparse

from dmml.__main__ import main
from dmml.cohort.rna.expression import build_expression, model_values, read_expression
from dmml.errors import InputError


def write(path="rna.h5ad", values=TPM, samples=PATIENTS, genes=GENES, obs=None, var=None, raw=None, **parts):
    """A file of the library itself."""
    import anndata

    table = anndata.AnnData(
        None if values is None else values,
        obs=pd.DataFrame(obs or {}, index=pd.Index(samples, dtype=str)),
        var=pd.DataFrame(var or {}, index=pd.Index(genes, dtype=str)),
        **parts,
    )
    if raw is not None:
        table.raw = anndata.AnnData(raw, obs=table.obs, var=table.var)
    table.write_h5ad(path)
    return path


def values_of(expression, patients=PATIENTS):
    assert expression.patients == list(patients)
    return expression.table[GENES].to_numpy()


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("layer", [None, "tpm", "raw"])
def test_values_are_read_from_x_and_layers_dense_and_sparse(form, layer):
    other = form(np.ones_like(TPM))
    parts = {None: {"values": form(TPM)}, "tpm": {"values": other, "layers": {"tpm": form(TPM)}}}
    write(**parts.get(layer, {"values": other, "raw": form(TPM)}))
    read = build_expression(["rna.h5ad"], layer=layer)
    assert read.scale == "tpm"
    np.testing.assert_allclose(values_of(read), TPM, rtol=1e-6)
    assert read.provenance["sources"][0]["form"] == "h5ad"


def test_counts_and_stated_scales_are_those_of_other_tables():
    write("counts.h5ad", COUNTS)
    assert build_expression(["counts.h5ad"]).scale == "counts"
    write("log.h5ad", np.log2(TPM + 1))
    assert build_expression(["log.h5ad"], scale="log2").scale == "log2"
    with pytest.raises(InputError, match="the scale is stated as log2"):
        build_expression(["counts.h5ad"], scale="log2")


@pytest.mark.parametrize("base", [None, 2, 10])
def test_logarithms_of_scanpy_become_those_of_dmml(base):
    """scanpy's log1p takes the natural logarithm unless another base is given, and notes it."""
    note = {"log1p": {"base": base}} if base else {"log1p": {}}
    write(values=np.log1p(TPM) / np.log(base or np.e), uns=note)
    write("tpm.h5ad")
    read = build_expression(["rna.h5ad"], scale="log2")
    assert read.scale == "log2"
    expected = model_values(build_expression(["tpm.h5ad"], scale="tpm"))
    np.testing.assert_allclose(model_values(read)[GENES], expected[GENES], rtol=1e-4, atol=1e-5)
    if base != 2:
        assert "converted from scanpy's" in read.provenance["read_as"][0]


def test_a_note_of_logarithms_beside_counts_changes_nothing():
    write(values=COUNTS, uns={"log1p": {}})
    read = build_expression(["rna.h5ad"])
    assert read.scale == "counts"
    np.testing.assert_array_equal(values_of(read), COUNTS)


@pytest.mark.parametrize("column", ["patient_id", "case"])
def test_patients_may_be_in_a_column_and_have_several_samples(column):
    samples = [f"sample {i}" for i in range(24)]
    ids = pd.Categorical([*PATIENTS, *PATIENTS])
    write(values=np.concatenate([TPM, 3 * TPM]), samples=samples, obs={column: ids, "age": np.arange(24.0)})
    read = build_expression(["rna.h5ad"], patient_id=None if column == "patient_id" else column, scale="tpm")
    np.testing.assert_allclose(values_of(read), 2 * TPM, rtol=1e-6)


def test_samples_of_normal_tissue_are_left_out():
    kinds = ["Solid Tissue Normal", *["Primary Tumor"] * 11]
    write(samples=SAMPLES, obs={"sample_type": kinds})
    read = build_expression(["rna.h5ad"], scale="tpm")
    np.testing.assert_allclose(values_of(read, PATIENTS[1:]), TPM[1:], rtol=1e-6)


@pytest.mark.parametrize("option", [None, "gene_symbol"])
def test_genes_may_be_in_a_column_of_var(option):
    numbers = [f"feature {i}" for i in range(len(GENES))]
    write(genes=numbers, var={"n_cells": np.arange(80.0), "gene_symbol": GENES})
    np.testing.assert_allclose(values_of(build_expression(["rna.h5ad"], gene_names=option)), TPM, rtol=1e-6)
    write(genes=ENSEMBL)
    np.testing.assert_allclose(values_of(build_expression(["rna.h5ad"])), TPM, rtol=1e-6)


def test_probes_are_mapped():
    pd.DataFrame({"probe": [f"p{i}" for i in range(80)], "symbol": GENES}).to_csv("map.csv", index=False)
    write(genes=[f"p{i}" for i in range(80)])
    np.testing.assert_allclose(values_of(build_expression(["rna.h5ad"], probes="map.csv")), TPM, rtol=1e-6)


def test_the_command_and_a_config_name_layer_and_columns(capsys):
    write(values=np.ones_like(TPM), layers={"tpm": TPM}, obs={"case": PATIENTS}, var={"name": GENES})
    argv = ["cohort", "expression", "rna.h5ad", "--out", "e.parquet", "--layer", "tpm", "--patient-id", "case"]
    assert main([*argv, "--gene-names", "name"]) == 0
    assert "12 patients × 80 genes, tpm (detected)" in capsys.readouterr().out
    assert json.loads(Path("e.parquet.json").read_text())["sources"][0]["form"] == "h5ad"
    spec = {"path": "rna.h5ad", "layer": "tpm", "patient_id": "case", "gene_names": "name"}
    pd.testing.assert_frame_equal(read_expression(spec).table, read_expression("e.parquet").table)


def spoil_hdf5(change):
    import h5py

    with h5py.File(write(), "r+") as file:
        change(file)


def cut(path):
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])


BARCODES = [f"{''.join(np.random.default_rng(i).choice(list('ACGT'), 16))}-1" for i in range(12)]
NEAR_MISSES = {
    "missing": (lambda: None, {}, "rna.h5ad: no such file"),
    "text": (lambda: Path("rna.h5ad").write_text("gene,a\n"), {}, "is not a complete .h5ad file"),
    "cut": (lambda: cut(write()), {}, "is not a complete .h5ad file"),
    "other hdf5": (lambda: spoil_hdf5(lambda file: file.pop("var")), {}, "not obs and var"),
    "old": (lambda: spoil_hdf5(lambda file: file["obs"].attrs.pop("column-order")), {}, "before 0.7"),
    "layer": (lambda: write(layers={"tpm": TPM}), {"layer": "counts"}, r"no layer 'counts'; .*: tpm"),
    "no X": (lambda: write(values=None, layers={"tpm": TPM}), {}, r"has no X; .*: tpm"),
    "patient": (lambda: write(obs={"case": PATIENTS}), {"patient_id": "patient"}, r"no column 'patient' in its obs .*case"),
    "names": (lambda: write(), {"gene_names": "symbol"}, "no column 'symbol' in its var"),
    "infinite": (lambda: write(values=np.where(TPM == TPM.max(), np.inf, TPM)), {}, "X is infinite in row"),
    "transposed": (lambda: write(values=TPM.T, samples=GENES, genes=PATIENTS), {}, r"its obs are genes .*write adata\.T"),
    "no genes": (lambda: write(genes=[f"x{i}" for i in range(80)]), {}, "no gene names were recognised"),
    "cells": (lambda: write(samples=BARCODES), {}, r"are single cells; sum their counts"),
    "cells of patients": (
        lambda: write(
            values=np.repeat(TPM, 25, 0), samples=[f"c{i}" for i in range(300)], obs={"patient_id": np.repeat(PATIENTS, 25)}
        ),
        {},
        "its 300 obs of 12 patients .* are single cells",
    ),
    "no id": (lambda: write(obs={"case": [None, *PATIENTS[1:]]}), {"patient_id": "case"}, "has no patient id"),
    "suffix": (lambda: write(), {"suffix": "_rna", "patient_id": "case"}, "suffix does not apply"),
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses_are_refused_in_one_line(name):
    make, options, message = NEAR_MISSES[name]
    make()
    with pytest.raises(InputError, match=message) as refusal:
        build_expression(["rna.h5ad"], **options)
    assert "\n" not in str(refusal.value)


def test_a_layer_of_another_table_is_refused():
    pd.DataFrame(TPM, index=pd.Index(PATIENTS, name="patient_id"), columns=GENES).to_csv("rna.csv")
    with pytest.raises(InputError, match=r"rna\.csv: .* layer is for tables of AnnData alone; leave layer out"):
        build_expression(["rna.csv"], layer="tpm")


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    import sys

    write()
    monkeypatch.setitem(sys.modules, "anndata.io", None)
    with pytest.raises(InputError, match=r"pip install 'dmml\[anndata\]'"):
        build_expression(["rna.h5ad"])
