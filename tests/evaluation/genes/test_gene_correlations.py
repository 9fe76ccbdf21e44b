"""The table of gene correlations, and its section in the report."""

import numpy as np
import pandas as pd
import pytest
from html_page import Page
from scipy import stats

from dmml.errors import InputError
from dmml.evaluation.evaluation_result import read_evaluation
from dmml.evaluation.genes.correlations import COLUMNS, gene_correlations, read_gene_correlations
from dmml.evaluation.plots.gene_correlations import gene_correlations_plot
from dmml.evaluation.plots.style import MUTED
from dmml.evaluation.report.build import write_evaluation, write_report
from dmml.evaluation.result_folders import find_tests
from dmml.evaluation.statistics.correlation import permuted_ranks

BAD = '"><img src=x onerror=alert(1)>'


def expression_of(patients, genes, score=None, seed=0):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(len(patients), len(genes)))
    if score is not None:
        values[:, 0] += 2 * np.asarray(score)
        values[:, -1] -= 2 * np.asarray(score)
    return list(patients), list(genes), values


def test_genes_are_correlated_over_the_patients_with_rna_and_adjusted_once_each():
    patients = [f"P{i}" for i in range(30)]
    score = dict(zip(patients, np.random.default_rng(1).normal(size=30), strict=True))
    with_rna = [*patients[5:], "without a prediction"]
    tumor = expression_of(with_rna, ["A", "B", "C"], [*[score[p] for p in patients[5:]], 0.0])
    tme = (tumor[0], ["C", "NA"], tumor[2][:, [2, 1]])  # C is in both; NA is a gene's name here
    tme[2][:4, 1] = np.nan
    table = gene_correlations({"risk": score, "other": {p: -v for p, v in score.items()}}, {"tumor": tumor, "tme": tme})
    assert list(table) == list(COLUMNS)
    assert len(table) == 10
    for score_name, sign in (("risk", 1), ("other", -1)):
        rows = table[table["score"] == score_name].set_index(["subspace", "gene"])
        for k, gene in enumerate("ABC"):
            expected = stats.pearsonr(tumor[2][:-1, k], [sign * score[p] for p in patients[5:]])
            assert rows.loc[("tumor", gene), ["r", "p"]].tolist() == pytest.approx(
                [expected.statistic, expected.pvalue]
            )
            assert rows.loc[("tumor", gene), "n"] == 25
        assert rows.loc[("tme", "NA"), "n"] == 21
        numbers = ["r", "low", "high", "p", "q"]
        assert rows.loc[("tme", "C"), numbers].tolist() == pytest.approx(rows.loc[("tumor", "C"), numbers].tolist())
        assert rows.loc["tumor", "r"].is_monotonic_decreasing
        expected = permuted_ranks(tumor[2][:-1], [sign * score[p] for p in patients[5:]])
        assert rows.loc["tumor", ["null_low", "null_high"]].to_numpy() == pytest.approx(np.column_stack(expected))
    once = table.drop_duplicates(["gene", "score"])
    assert len(once) == 8  # C counts once for each score
    assert once["q"].tolist() == pytest.approx(stats.false_discovery_control(once["p"]).tolist())


def write_correlations(folder, scores, genes=40, n_missing=12):
    table = pd.read_csv(folder / "predictions.csv", dtype={"patient_id": str})
    kept = table.iloc[n_missing:]
    values = {name: dict(zip(table["patient_id"], score, strict=True)) for name, score in scores(table).items()}
    first = next(iter(values.values()))
    standard = stats.zscore([first[p] for p in kept["patient_id"]])
    expression = {
        "tumor": expression_of(kept["patient_id"], [BAD, *(f"T{i}" for i in range(genes - 2)), "$T_{last}$"], standard),
        "tme": expression_of(kept["patient_id"], [f"E{i}" for i in range(7)], seed=2),
    }
    result = gene_correlations(values, expression)
    result.to_csv(folder / "gene_correlations.csv", index=False)
    predictions = table.assign(has_expression=(np.arange(len(table)) >= n_missing).astype(int))
    predictions.to_csv(folder / "predictions.csv", index=False)
    return result


def test_the_report_has_the_correlations_of_a_survival_test_and_none_without_the_file(tmp_path, make, cohort):
    folder = make.survival(tmp_path / "run", cohort)
    write_evaluation(folder)
    assert "Genes and the prediction" not in (folder / "report.html").read_text()
    table = write_correlations(folder, lambda rows: {"risk": rows["risk"]})
    back = read_gene_correlations(folder)
    pd.testing.assert_frame_equal(back.reset_index(drop=True), table, check_dtype=False)
    write_evaluation(folder)
    page = Page((folder / "report.html").read_text()).check()
    assert "over the 48 of 60 tested patients who have RNA. The model, a student, reads no RNA." in page.text
    tumor = table[table["subspace"] == "tumor"]
    n, strongest = (tumor["q"] < 0.05).sum(), tumor.loc[tumor["r"].abs().idxmax()]
    assert (
        f"{n} of 40 tumor genes (strongest: {strongest['gene']}, {strongest['r']:.2f})".replace("-", "−") in page.text
    )
    assert "It does not show that the model uses a gene" in page.text
    assert BAD in page.text
    assert "$T_{last}$" in page.text  # no formula
    [rows] = [t["rows"] for t in page.tables if t["caption"].startswith("Genes whose correlation with the risk")]
    assert len(rows) == 21
    assert abs(float(rows[1][2].replace("−", "-"))) >= abs(float(rows[20][2].replace("−", "-")))
    assert (folder / "plots" / "gene_correlations.svg").is_file()
    out = write_report([folder], tmp_path / "page.html")
    assert "Genes and the prediction" in out.read_text()
    (folder / "gene_correlations.csv").write_text("gene,subspace\nA,tumor\n")
    with pytest.raises(
        InputError, match=r"gene_correlations.csv cannot be read as a table of correlations .*dmml test"
    ):
        write_evaluation(folder)


def test_classes_are_correlated_by_log_odds_one_score_each_and_two_classes_by_the_second(tmp_path, make):
    folder = make.classes(tmp_path / "three")
    test = read_evaluation(find_tests([folder])[0])
    scores = test.endpoint.scores(test.predictions, test.context)
    assert list(scores) == ["log odds of G2", "log odds of G3", "log odds of G4"]
    p = test.predictions["prob_G3"].to_numpy()
    assert scores["log odds of G3"] == pytest.approx(np.log(p / (1 - p)))
    write_correlations(folder, lambda rows: scores)
    write_evaluation(folder)
    page = Page((folder / "report.html").read_text()).check()
    assert page.text.count("At a false discovery rate below 5 %") == 3
    assert sorted(path.name for path in (folder / "plots").glob("gene_correlations*.svg")) == [
        "gene_correlations_1.svg", "gene_correlations_2.svg", "gene_correlations_3.svg",
    ]  # fmt: skip
    two = read_evaluation(find_tests([make.classes(tmp_path / "two", classes=("a", "b"))])[0])
    assert list(two.endpoint.scores(two.predictions, two.context)) == ["log odds of b"]
    certain = two.predictions.assign(prob_a=0.0, prob_b=1.0)
    assert np.isfinite(two.endpoint.scores(certain, two.context)["log odds of b"]).all()


def test_a_file_without_a_defined_correlation_has_no_section(tmp_path, make, cohort):
    folder = make.survival(tmp_path / "run", cohort)
    write_correlations(folder, lambda rows: {"risk": rows["risk"]}, n_missing=55)
    assert read_gene_correlations(folder) is None
    write_evaluation(folder)
    assert "Genes and the prediction" not in (folder / "report.html").read_text()


@pytest.mark.parametrize("n_genes", [1, 3, 30, 3000])
def test_the_plot_draws_every_rank_where_it_is_and_stays_small_with_many_genes(n_genes):
    patients = [f"P{i}" for i in range(30)]
    score = dict(zip(patients, np.random.default_rng(1).normal(size=30), strict=True))
    expression = expression_of(patients, [f"G{i}" for i in range(n_genes)])
    table = gene_correlations({"risk": score}, {"tumor": expression})
    plot = gene_correlations_plot(table, "risk")
    [axes] = plot.figure.axes
    curve = max(axes.lines, key=lambda line: len(line.get_xdata()) if line.get_color() != MUTED else 0)
    rank, r = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    assert r == pytest.approx(table["r"].to_numpy()[rank - 1])
    assert (rank[0], rank[-1]) == (1, n_genes)
    assert len(rank) == n_genes or 350 < len(rank) <= 400
    assert len(plot.tooltips) == min(n_genes, 8)
    names = {text.get_text() for text in axes.texts}
    assert {table["gene"].iloc[0], table["gene"].iloc[-1]} <= names
    assert len(plot.inline_svg("f1")) < 100_000
