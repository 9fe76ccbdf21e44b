"""Prediction of patients without RNA: through predicted RNA, directly from the slide, or a mean of the two."""

import numpy as np
import pytest

from dmml.backbone.blocks import fit_block
from dmml.backbone.designs import GeneDesigns
from dmml.backbone.fit_outcome import OutcomeData, fit_outcome, weight_of_composed
from dmml.linear.likelihoods import CoxLikelihood

N_TRAIN, N_TEST, DIM = 160, 400, 12


def block_design(values):
    """A block of columns that every patient has, and its design."""
    present = np.ones(values.shape, bool)
    block = fit_block(values, present, standardise=False)
    return block, block.design(values, present)


def patients(seed, rna_hides):
    """Outcome data of `N_TRAIN` patients and {name: (n,)} true log-hazards; the last `N_TEST` are kept for testing.

    Args:
        seed: Seed of all random numbers.
        rna_hides: Whether the outcome depends on a factor that is visible in slides and not in genes.
    """
    rng = np.random.default_rng(seed)
    n = N_TRAIN + N_TEST
    factors = rng.standard_normal((n, 2))
    genes = np.outer(factors[:, 0], rng.standard_normal(20)) + 0.5 * rng.standard_normal((n, 20))
    slides = factors @ rng.standard_normal((2, DIM)) + 2.0 * rng.standard_normal((n, DIM))
    hazard = 1.2 * (factors[:, 1] if rna_hides else factors[:, 0])
    time = rng.exponential(np.exp(-hazard))
    end = rng.uniform(0, 3, n)
    return {"genes": genes, "slides": slides, "hazard": hazard, "time": np.minimum(time, end), "event": time < end}


def folds(n):
    return [np.arange(n) % 5 == k for k in range(5)]


def fitted(simulated, statistic="contrasts", has_rna=None):
    """Outcome model of the first patients, and the design of all patients' slides.

    Args:
        simulated: Return value of `patients`.
        statistic: Name under which the slides' columns are given.
        has_rna: (N_TRAIN,) bool, whether a patient has RNA; None = all have.
    """
    train = {name: values[:N_TRAIN] for name, values in simulated.items()}
    gene_block, gene_design = block_design(train["genes"])
    slide_block, slide_design = block_design(train["slides"])
    everyone = np.ones(N_TRAIN, bool)
    has_rna = everyone if has_rna is None else has_rna
    genes = GeneDesigns({"tumor": gene_block}, {"tumor": np.where(has_rna[:, None], gene_design, 0)})
    likelihood = CoxLikelihood(train["time"], train["event"])
    data = OutcomeData(likelihood, everyone, has_rna, everyone, genes, {statistic: slide_design})
    outcome = fit_outcome(data, folds(N_TRAIN))
    all_slides = slide_block.design(simulated["slides"], np.ones(simulated["slides"].shape, bool))
    return outcome, all_slides


@pytest.mark.parametrize("rna_hides", [False, True])
def test_patients_without_rna_are_predicted_in_the_way_that_the_cohort_supports(rna_hides):
    in_subspaces, agreement = [], []
    for seed in range(5):
        simulated = patients(seed, rna_hides)
        outcome, slides = fitted(simulated)
        parts = slides @ outcome.from_slide["contrasts"]  # (n, 3)
        in_subspaces.append(parts[:, 0].std() / (parts[:, 0].std() + parts[:, 2].std()))
        agreement.append(np.corrcoef(parts[N_TRAIN:].sum(1), simulated["hazard"][N_TRAIN:])[0, 1])
    # Contrasts are not used with RNA, so the whole tissue part comes from the direct predictor.
    assert np.mean(in_subspaces) < 0.35 if rna_hides else np.mean(in_subspaces) > 0.5
    assert np.mean(agreement) > 0.35


def test_the_weight_follows_the_likelihood_and_is_a_half_if_both_predictors_are_equal():
    rng = np.random.default_rng(0)
    hazard = rng.standard_normal((300, 1))
    time = rng.exponential(np.exp(-hazard[:, 0]))
    likelihood = CoxLikelihood(time, np.ones(300))
    noise = rng.standard_normal((300, 1))
    assert weight_of_composed(likelihood, hazard, noise) > 0.9
    assert weight_of_composed(likelihood, noise, hazard) < 0.1
    assert weight_of_composed(likelihood, hazard, hazard) == pytest.approx(0.5)


def test_cross_fitted_parts_of_patients_without_rna_do_not_depend_on_their_rna():
    has_rna = np.arange(N_TRAIN) >= 20
    with_rna, without = fitted(patients(0, rna_hides=False), "shift", has_rna)[0].cross_fitted
    np.testing.assert_array_equal(with_rna[~has_rna], without[~has_rna])
    assert np.abs(with_rna[has_rna] - without[has_rna]).max() > 0.1
