"""The scale of a table is detected, checked if it is stated, and converted to the scale of models."""

import time

import numpy as np
import pandas as pd
import pytest
from rna_tables import tpm_table

from dmml.cohort.rna.expression import (
    Expression,
    build_expression,
    model_values,
)
from dmml.cohort.rna.scale import detect_scale, settle_scale
from dmml.errors import InputError


def test_the_scale_of_a_table_is_detected():
    rng = np.random.default_rng(0)
    tpm = tpm_table(12).to_numpy()
    assert detect_scale(tpm) == "tpm"
    assert detect_scale(rng.negative_binomial(2, 0.01, size=(12, 60)).astype(float)) == "counts"
    assert detect_scale(np.log2(tpm + 1)) == "log2"
    z = rng.normal(size=(40, 60))
    z[0, :5] = 7000  # as published tables have them
    assert detect_scale(z) == "zscore"
    assert detect_scale(tpm * 0.3) is None  # FPKM, or a part of a TPM table: who knows
    assert detect_scale(np.log2(tpm + 0.001)) is None  # Xena's log2 with an offset
    assert detect_scale(np.log10(tpm + 1) / 3) is None
    assert detect_scale(z[:4]) is None
    assert detect_scale(np.full((3, 60), np.nan)) is None


def test_every_scale_of_a_real_table_is_detected_or_refused(shared_data):
    table = pd.read_csv(shared_data / "bulk_tpm_8_samples.tsv", sep="\t", index_col=0).clip(lower=0).T
    coding, raw = list(table.columns), table.to_numpy()
    whole = [
        f"MT-ND{i}" if i < 13 else gene for i, gene in enumerate(coding)
    ]  # this table has none of the mitochondrion
    rng = np.random.default_rng(0)
    tpm = np.concatenate([raw, raw * rng.lognormal(0, 0.4, raw.shape)])
    tpm *= 1e6 / tpm.sum(1, keepdims=True)
    depth = rng.lognormal(0, 0.2, (16, 1))
    fpkm, counts = 0.35 * tpm * depth, np.rint(40 * tpm * depth)
    log2 = np.log2(tpm + 1)
    z = (log2 - log2.mean(0)) / np.where(log2.std(0) > 0, log2.std(0), 1.0)
    tables = {"tpm": tpm, "fpkm": fpkm, "counts": counts, "log2": log2, "zscore": z}
    for scale, values in tables.items():
        assert detect_scale(values, whole) == scale
        assert settle_scale(values, None, "t", genes=whole) == settle_scale(values, scale, "t") == scale
    for scale, values in {"log2": np.log2(fpkm + 1), "zscore": np.where(rng.random(z.shape) < 0.1, np.nan, z)}.items():
        assert detect_scale(values) == scale
    # A third of the genes of TPM, TPM without its per-sample closure known, RSEM's estimates, the logarithm to base ten
    for values, genes in (
        (tpm[:, ::3], whole[::3]),
        (0.35 * tpm, whole),
        (20 * tpm, whole),
        (np.log10(tpm + 1), whole),
        (fpkm[:4], whole),
        (fpkm, coding),  # it may be TPM without the mitochondrial genes
        (fpkm[:, :15_000], whole[:15_000]),
    ):
        assert detect_scale(values, genes) is None
        with pytest.raises(
            InputError, match=r"scale cannot be detected \(values from 0 to .* samples sum to .*; state it with --scale"
        ):
            settle_scale(values, None, "t")


def test_genes_without_a_value_raise_no_warning(recwarn):
    z = np.random.default_rng(0).normal(size=(20, 60))
    z[:, 3] = np.nan
    assert detect_scale(z) == "zscore"
    with pytest.raises(InputError, match="its scale cannot be detected"):
        settle_scale(z[:4], None, "t")
    assert not recwarn.list


def test_an_unknown_scale_is_refused_within_a_second():
    table = tpm_table(30) * 0.3
    table.to_csv("e.csv", index_label="patient_id")
    start = time.process_time()
    with pytest.raises(
        InputError,
        match=r"e.csv: its scale cannot be detected .* state it with --scale tpm\|counts\|fpkm\|log2\|zscore",
    ):
        build_expression(["e.csv"])
    assert time.process_time() - start < 0.5  # the rest of the second is imports
    assert build_expression(["e.csv"], scale="fpkm").scale == "fpkm"


@pytest.mark.parametrize(
    ("shift", "scale", "message"),
    [
        (-5.0, "counts", "stated as counts, but there are negative numbers"),
        (-1e4, "fpkm", "stated as fpkm, but .* are negative"),
        (0.0, "log2", "stated as log2, which does not have values"),
        (0.0, "zscore", "stated as zscore, but there is no negative"),
        (0.0, "rpkm", "unknown --scale 'rpkm'"),
    ],
)
def test_a_stated_scale_must_be_possible(shift, scale, message):
    (tpm_table() + shift).to_csv("e.csv", index_label="patient_id")
    with pytest.raises(InputError, match=message):
        build_expression(["e.csv"], scale=scale)


def test_values_are_converted_to_the_scale_of_models():
    table = pd.DataFrame([[1.0, 3.0], [0.0, 7.0]], columns=["A", "B"], dtype=np.float32)
    np.testing.assert_allclose(model_values(Expression(table, "tpm")), [[1, 2], [0, 3]])
    np.testing.assert_allclose(model_values(Expression(table, "log2")), table)
    np.testing.assert_allclose(model_values(Expression(table, "zscore")), table)
    counts = model_values(Expression(table, "counts"))
    np.testing.assert_allclose(counts, np.log2([[250001, 750001], [1, 1000001]]), rtol=1e-6)
