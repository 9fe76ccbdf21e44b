"""Blocks of columns: the design to which a model is fitted, and the readout that computes the same from raw columns."""

import numpy as np
import pytest
import torch

from dmml.backbone.blocks import Readout, fit_block, fit_gene_block


def random_columns(n=40, d=7, seed=0):
    """Columns (n, d) of unequal scales and their presence; the last five patients lack the first three columns."""
    rng = np.random.default_rng(seed)
    raw = rng.standard_normal((n, d)) * np.geomspace(0.01, 100, d) + 50
    present = np.ones((n, d), bool)
    present[-5:, :3] = False
    return raw, present


@pytest.mark.parametrize("options", [{}, {"standardise": False, "clip": np.inf}, {"whiten": 3}])
def test_a_design_is_centred_and_its_rows_have_a_mean_squared_norm_of_one(options):
    raw, present = random_columns()
    design = fit_block(raw, present, **options).design(raw, present)
    assert (design**2).sum(1).mean() == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(design.mean(0), 0, atol=1e-9)


def test_standardised_columns_have_equal_variance_and_others_keep_their_proportions():
    raw, present = random_columns()
    present[:] = True
    design = fit_block(raw, present, clip=np.inf).design(raw, present)
    z = (raw - raw.mean(0)) / raw.std(0) / np.sqrt(raw.shape[1])
    np.testing.assert_allclose(design @ design.T, z @ z.T, atol=1e-9)
    design = fit_block(raw, present, standardise=False, clip=np.inf).design(raw, present)
    centred = raw - raw.mean(0)
    np.testing.assert_allclose(design @ design.T, centred @ centred.T / (centred**2).sum(1).mean(), atol=1e-9)


def test_whitened_components_have_the_same_variance_and_are_those_of_a_pca():
    raw, present = random_columns()
    present[:] = True
    design = fit_block(raw, present, standardise=False, whiten=3, clip=np.inf).design(raw, present)
    np.testing.assert_allclose(design.T @ design / len(raw), np.eye(3) / 3, atol=1e-9)
    left = np.linalg.svd(raw - raw.mean(0), full_matrices=False)[0][:, :3]
    assert np.abs(np.linalg.lstsq(left, design, rcond=None)[0]).size == 9
    np.testing.assert_allclose(left @ (left.T @ design), design, atol=1e-9)


def test_a_readout_of_raw_columns_is_the_design_times_the_weights():
    raw, present = random_columns()
    block = fit_block(raw, present)
    weights = np.random.default_rng(1).standard_normal((block.basis.shape[1], 2))
    new, has = random_columns(seed=2)
    new[3] += 1e4  # far outside: held to the clip in both
    readout = block.readout(weights)
    computed = readout(torch.tensor(new, dtype=torch.float32), torch.tensor(has)).numpy()
    np.testing.assert_allclose(computed, block.design(new, has) @ weights, atol=2e-4)
    again = Readout.empty(*readout.weight.shape)
    again.load_state_dict(readout.state_dict())
    assert torch.equal(
        again(torch.ones(1, 7), torch.ones(1, 7).bool()), readout(torch.ones(1, 7), torch.ones(1, 7).bool())
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_values_of_missing_columns_affect_neither_fit_nor_readout(value):
    raw, present = random_columns()
    clean = fit_block(np.where(present, raw, 0.0), present)
    rubbish = np.where(present, raw, value)
    dirty = fit_block(rubbish, present)
    for name in ("mean", "scale", "basis"):
        np.testing.assert_array_equal(getattr(clean, name), getattr(dirty, name))
    readout = clean.readout(np.ones((clean.basis.shape[1], 1)))
    a, b = (readout(torch.tensor(x, dtype=torch.float32), torch.tensor(present)) for x in (raw, rubbish))
    torch.testing.assert_close(a, b)


def test_no_patients_a_constant_or_a_single_patient_give_no_block():
    raw, present = random_columns()
    assert fit_block(raw, np.zeros_like(present)) is None
    assert fit_block(np.ones_like(raw), present) is None
    assert fit_block(raw[:1], present[:1]) is None
    assert fit_gene_block(np.ones_like(raw), present, 3) is None


def test_genes_are_whitened_leading_components_and_all_components_in_proportion():
    rng = np.random.default_rng(3)
    genes = rng.standard_normal((30, 80)) * np.geomspace(3, 0.1, 80)
    present = np.ones_like(genes, bool)
    block = fit_gene_block(genes, present, 4)
    design = block.design(genes, present)
    centred = genes - genes.mean(0)
    left = np.linalg.svd(centred, full_matrices=False)[0][:, :4]
    # A third of the prior variance whitened, the rest in the genes' own proportions; traces are those of n rows.
    kernel = left @ left.T * 30 / 4 / 3 + centred @ centred.T / (centred**2).sum(1).mean() * 2 / 3
    np.testing.assert_allclose(design @ design.T, kernel, atol=1e-8)
