"""Simulated RNA: the form of the files, TPM by hand, and that RNA carries each subspace's own factors."""

import io

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_predict

from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
from dmml.simulate.expression import draw_counts, gene_model, star_counts, tpm
from dmml.simulate.truth import FACTOR_NAMES, FACTORS, draw_patients

HEADER = (
    "gene_id gene_name gene_type unstranded stranded_first stranded_second tpm_unstranded fpkm_unstranded "
    "fpkm_uq_unstranded"
).split()


@pytest.fixture(scope="module")
def study():
    patients = draw_patients("development", 300, seed=5)
    values = np.log1p(tpm(np.stack([draw_counts(patient) for patient in patients])))
    return np.stack([patient.factors for patient in patients]), (values - values.mean(0)) / (values.std(0) + 1e-6)


def program_scores(standardised, subspace):
    row = {symbol: k for k, symbol in enumerate(gene_model().symbols)}
    programs = read_gene_sets(None)[subspace]
    return np.stack([standardised[:, [row[g] for g in genes]].mean(axis=1) for genes in programs.values()], axis=1)


def cross_validated_r2(features, target):
    predicted = cross_val_predict(RidgeCV(np.logspace(-2, 3, 12)), features / features.std(0), target, cv=5)
    return r2_score(target, predicted)


@pytest.mark.parametrize("subspace", ["tumor", "tme"])
def test_programs_carry_their_own_factors(study, subspace):
    factors, values = study
    scores = program_scores(values, subspace)
    for name in FACTORS[subspace]:
        assert 0.75 < cross_validated_r2(scores, factors[:, FACTOR_NAMES.index(name)]) < 0.96, name


def test_programs_follow_the_other_subspace_only_by_correlation(study):
    factors, values = study
    scores = program_scores(values, "tumor")
    for name in FACTORS["tme"]:
        assert cross_validated_r2(scores, factors[:, FACTOR_NAMES.index(name)]) < 0.30, name


def test_genes_are_the_shipped_ones_and_nuisance_genes_without_duplicates():
    genes = gene_model()
    programs = read_gene_sets(None)
    listed = set(genes_of(programs["tumor"])) | set(genes_of(programs["tme"]))
    assert listed <= set(genes.symbols)
    assert len(genes.symbols) == len(set(genes.symbols)) == len(listed) + 1500
    assert len({gene.split(".")[0] for gene in genes.ensembl}) == len(genes.ensembl)


def test_star_counts_have_the_form_of_the_gdc():
    patient = draw_patients("development", 1, seed=0)[0]
    lines = star_counts(patient).splitlines()
    assert lines[0] == "# gene-model: GENCODE v36"
    assert lines[1].split("\t") == HEADER
    specials = [line.split("\t") for line in lines[2:6]]
    assert [cells[0] for cells in specials] == ["N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous"]
    for cells in specials:
        assert len(cells) == 9
        assert cells[1:3] == cells[6:][:2] == ["", ""]
        assert all(int(value) > 0 for value in cells[3:6])
    table = pd.read_csv(io.StringIO("\n".join(lines[1:2] + lines[6:])), sep="\t")
    assert table["gene_id"].str.fullmatch(r"ENSG\d{11}\.\d+(_PAR_Y)?").all()
    assert table["gene_id"].str.endswith("_PAR_Y").sum() == 2
    assert table["gene_id"].is_monotonic_increasing
    single = table[~table["gene_id"].str.endswith("_PAR_Y")]
    assert single["gene_name"].is_unique
    np.testing.assert_array_equal(single["unstranded"], draw_counts(patient))
    assert (table["stranded_first"] + table["stranded_second"] == table["unstranded"]).all()
    assert table["tpm_unstranded"].sum() == pytest.approx(1e6, rel=1e-4)


def test_tpm_equals_that_of_a_slow_loop():
    counts = draw_counts(draw_patients("held_out", 1, seed=0)[0])
    length = gene_model().length
    total = sum(count / kb for count, kb in zip(counts, length, strict=True))
    slow = [1e6 * count / kb / total for count, kb in zip(counts, length, strict=True)]
    np.testing.assert_allclose(tpm(counts), slow)


def test_counts_scatter_more_than_poisson():
    """Negative binomial and biology: across patients the variance is far above the mean."""
    counts = np.stack([draw_counts(patient) for patient in draw_patients("development", 60, seed=2)])
    mean, variance = counts.mean(0), counts.var(0)
    high = mean > 100
    assert np.median(variance[high] / mean[high]) > 10
    assert 0.005 < (counts == 0).mean() < 0.2
