import json

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.rna.expression import model_values, read_expression
from dmml.cohort.rna.standardise import CLIP, GeneStatistics, check_fit, fit_statistics, median_shift, standardise
from dmml.errors import InputError


def frame(values, genes=None):
    return pd.DataFrame(values, columns=genes or [f"G{i}" for i in range(values.shape[1])])


def loop(x):
    """Statistics of one gene, step by step."""
    x = [float(v) for v in x if not np.isnan(v)]
    low, high, median = np.percentile(x, 1), np.percentile(x, 99), np.median(x)
    spread = 1.4826 * np.median([abs(v - median) for v in x])
    if spread > 0:
        low, high = max(low, median - 5 * spread), min(high, median + 5 * spread)
    drawn = [min(max(v, low), high) for v in x]
    mean = sum(drawn) / len(drawn)
    std = (sum((v - mean) ** 2 for v in drawn) / len(drawn)) ** 0.5
    return mean, std if std > 1e-6 else 1.0


def test_the_statistics_equal_those_of_a_loop():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, size=(200, 6))
    values[:5, 0] = 7377
    values[:, 1] = 4.0
    values[rng.random(200) < 0.9, 2] = 0.0  # mostly not expressed: no robust spread
    values[::3, 3] = np.nan
    statistics = fit_statistics(frame(values), ["G3", "G0", "G1", "G2"], "log2")
    for gene, mean, std in zip(statistics.genes, statistics.mean, statistics.std, strict=True):
        expected = loop(values[:, int(gene[1])])
        assert (mean, std) == pytest.approx(expected, rel=1e-9), gene
    assert statistics.std[1] < 4  # not the 1,166 that five outliers would make
    assert statistics.std[2] == 1.0


def test_values_are_standardised_and_clipped():
    rng = np.random.default_rng(1)
    values = frame(rng.normal(5, 3, size=(500, 3)))
    statistics = fit_statistics(values, list(values.columns), "log2")
    z = standardise(values, statistics, "log2")
    assert z.dtype == np.float32
    assert np.abs(z.mean(0)).max() < 0.05
    assert np.abs(z.std(0) - 1).max() < 0.05
    other = frame(np.array([[1e6, np.nan], [-1e6, 5.0]]), ["G2", "G0"])  # other order, G1 absent
    z = standardise(other, statistics, "log2")
    assert z[:, 2].tolist() == [CLIP, -CLIP]
    assert z[:, 1].tolist() == [0.0, 0.0]
    assert z[0, 0] == 0.0
    assert z[1, 0] == pytest.approx((5.0 - statistics.mean[0]) / statistics.std[0], rel=1e-6)
    assert check_fit(other.columns, statistics, "log2") == ["G1"]


def test_tables_that_do_not_fit_the_statistics_are_refused():
    statistics = fit_statistics(
        frame(np.random.default_rng(0).normal(size=(20, 5))), [f"G{i}" for i in range(5)], "tpm"
    )
    with pytest.raises(InputError, match=r"t.csv: is on the scale zscore, but the model was trained on tpm"):
        standardise(frame(np.zeros((2, 5))), statistics, "zscore", "t.csv")
    with pytest.raises(InputError, match=r"3 of the model's 5 genes are absent \(G2, G3, G4\)"):
        standardise(frame(np.zeros((2, 2))), statistics, "tpm")
    with pytest.raises(InputError, match=r"1 gene\(s\) are not in the RNA table \(X\)"):
        fit_statistics(frame(np.zeros((2, 2))), ["G0", "X"], "tpm")
    with pytest.raises(InputError, match="no training patient has RNA"):
        fit_statistics(frame(np.zeros((0, 2))), ["G0"], "tpm")


def test_the_statistics_can_be_stored_as_plain_values():
    statistics = fit_statistics(frame(np.random.default_rng(0).normal(size=(20, 5))), ["G1", "G3"], "tpm")
    assert GeneStatistics.from_dict(json.loads(json.dumps(statistics.to_dict()))) == statistics


def test_published_outliers_do_not_compress_the_other_values(shared_data):
    """With plain scaling, a gene with one z-score in the thousands has no spread among the other patients."""
    spec = {
        "path": shared_data / "tcga_luad/mcat_luad_all_clean.csv.zip",
        "patient_id": "case_id",
        "suffix": "_rnaseq",
        "scale": "zscore",
    }
    values = model_values(read_expression(spec))
    z = standardise(values, fit_statistics(values, list(values.columns), "zscore"), "zscore")
    assert np.isfinite(z).all()
    assert np.abs(z).max() <= CLIP
    expressed = (values - values.median()).abs().median().to_numpy() > 0  # the other genes are equal in most patients
    assert expressed.mean() > 0.9
    spread = z.std(axis=0)[expressed]
    plain = ((values - values.mean()) / values.std()).clip(-CLIP, CLIP).to_numpy().std(axis=0)[expressed]
    assert plain.min() < 0.2
    assert spread.min() > 0.6


def test_the_shift_of_the_median_gene_shows_another_platform():
    rng = np.random.default_rng(0)
    training = frame(rng.normal(3, 1, (100, 40)))
    statistics = fit_statistics(training, list(training.columns), "log2")
    assert median_shift(frame(rng.normal(3, 1, (20, 40))), statistics) < 0.5
    array = frame(rng.normal(8, 1, (20, 40)))
    array.iloc[:, 0] = np.nan  # unknown genes say nothing
    assert median_shift(array.drop(columns="G1"), statistics) == pytest.approx(5, abs=0.3)
    assert np.isnan(median_shift(array[["G0"]], statistics))
