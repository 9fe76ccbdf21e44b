"""Sentences and tables about the correlation of genes with the prediction."""

from __future__ import annotations

import pandas as pd

from dmml.evaluation import interval_settings
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.plots.programs import SUBSPACE_NAMES
from dmml.evaluation.report.formatting import joined, number, p_text
from dmml.evaluation.report.tables import Cell, Table, interval, value_cell
from dmml.evaluation.report.text.shift import GENE_NAMES

MAX_GENES = 20
"""Maximum number of genes in a table"""
WHAT_IT_DOES_NOT_SHOW = (
    "This shows which genes vary with the prediction from patient to patient. It does not show that the model uses a gene, "
    "that the gene is a cause of the outcome, or that it tells more than the many genes that vary with it."
)


def gene_sentences(table: pd.DataFrame, evaluation: Evaluation) -> list[str]:
    """Sentences about the patients, the number of correlated genes of each score, and what the correlations do not show.

    Args:
        table: Content of `gene_correlations.csv`.
        evaluation: The test.
    """
    n, of = evaluation.count("has_expression") or int(table["n"].max()), len(evaluation.predictions)
    patients = f"all {n} tested patients" if n == of else f"the {n} of {of} tested patients who have RNA"
    reads = " The model, a student, reads no RNA." if evaluation.model == "student" else ""
    start = f"Pearson correlation of each gene's standardised expression with the prediction, over {patients}.{reads}"
    by_score = [_score_sentence(rows, str(score)) for score, rows in table.groupby("score", sort=False)]
    return [start, *(sentence for sentence in by_score if sentence), WHAT_IT_DOES_NOT_SHOW]


def _score_sentence(rows: pd.DataFrame, score: str) -> str:
    """How many genes of each subspace are correlated with a score, and which are so most."""
    parts = []
    for subspace, genes in rows.groupby("subspace", sort=False):
        defined = genes.dropna(subset=["r"])
        if defined.empty:
            continue
        strongest = defined.loc[defined["r"].abs().idxmax()]
        n = int((defined["q"] < interval_settings.alpha()).sum())
        name = GENE_NAMES.get(str(subspace), str(subspace))
        parts.append(f"{n} of {len(defined)} {name} (strongest: {strongest['gene']}, {number(strongest['r'])})")
    level = f"{100 * interval_settings.alpha():g} %"
    return f"At a false discovery rate below {level}, {joined(parts)} correlate with the {score}." if parts else ""


def strongest_genes_table(rows: pd.DataFrame, score: str) -> Table:
    """Table of the genes whose correlation with one score is strongest, of either sign.

    Args:
        rows: Rows of `gene_correlations.csv` of one score.
        score: Name of the score.
    """
    defined = rows.dropna(subset=["r"])
    strongest = defined.loc[defined["r"].abs().sort_values(ascending=False, kind="stable").index[:MAX_GENES]]
    cells = [
        [
            Cell(row["gene"]),
            Cell(SUBSPACE_NAMES.get(row["subspace"], row["subspace"])),
            value_cell(row["r"], 2, strong=True),
            Cell(interval(row, 2), order=row["low"]),
            Cell(p_text(row["q"]).removeprefix("= "), order=row["q"]),
            Cell(str(row["n"]), order=row["n"]),
        ]
        for row in strongest.to_dict("records")
    ]
    caption = f"Genes whose correlation with the {score} is strongest: {len(cells)} of {len(defined)}, all in gene_correlations.csv"
    columns = ["gene", "subspace", "r", f"{interval_settings.level_text()} interval", "q", "patients"]
    return Table(caption, columns, cells, frozenset({2, 3, 4, 5}), wide=True)
