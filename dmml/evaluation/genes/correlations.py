"""Correlation of each gene of a model with its prediction over the tested patients: `gene_correlations.csv`.

The file has one row per gene, subspace and score: `gene`, `subspace`, `score`, `n` (patients with both), `r` (Pearson),
`low` and `high` (Fisher's interval), `p`, and `q` (Benjamini–Hochberg over all genes and scores of the file). `null_low` and
`null_high` belong to the row's rank within its score and subspace: where that rank would lie without any association, by
permutations. The score is the risk, or of classes the log odds of each class against all others (of two, of the second).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.errors import InputError
from dmml.evaluation.statistics.correlation import benjamini_hochberg, correlations, permuted_ranks

FILE = "gene_correlations.csv"
COLUMNS = ("gene", "subspace", "score", "n", "r", "low", "high", "p", "q", "null_low", "null_high")


def gene_correlations(
    scores: Mapping[str, Mapping[str, float]], expression: Mapping[str, tuple[list[str], list[str], NDArray]]
) -> pd.DataFrame:
    """Correlate every gene with every score over the patients who have both.

    Args:
        scores: {name of a score: {patient: value}}.
        expression: {subspace: (patients, genes, (patients × genes) standardised values)}; NaN = not measured.

    Returns:
        The table of `gene_correlations.csv`, with the highest correlation of each score and subspace first.
    """
    tables = []
    for score, value_of in scores.items():
        for subspace, (patients, genes, values) in expression.items():
            score_of = [value_of.get(patient, np.nan) for patient in patients]
            result = correlations(values, score_of)
            table = pd.DataFrame({"gene": genes, "subspace": subspace, "score": score, **result._asdict()})
            is_defined = np.isfinite(result.r)
            table = table.sort_values("r", ascending=False, kind="stable")  # undefined ones are last
            table[["null_low", "null_high"]] = np.nan
            if is_defined.any():
                ranks = np.column_stack(permuted_ranks(values[:, is_defined], score_of))
                table.iloc[: is_defined.sum(), -2:] = ranks
            tables.append(table)
    if not tables:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.concat(tables, ignore_index=True)
    # A gene of both subspaces has the same correlation in both, and is one hypothesis.
    hypotheses = table.drop_duplicates(["gene", "score"])[["gene", "score", "p"]]
    hypotheses = hypotheses.assign(q=benjamini_hochberg(hypotheses["p"])).drop(columns="p")
    return table.merge(hypotheses, on=["gene", "score"], how="left", validate="many_to_one")[list(COLUMNS)]


def read_gene_correlations(folder: Path) -> pd.DataFrame | None:
    """Read `gene_correlations.csv` of a test; None without the file or without a defined correlation in it.

    Raises:
        InputError: The file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        # A gene may be called NA: only an empty number is missing.
        text, empty = {name: str for name in COLUMNS[:3]}, {name: [""] for name in COLUMNS[3:]}
        table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=empty)
        table = table[list(COLUMNS)].astype({name: float for name in COLUMNS[4:]})
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table of correlations ({error}); run `dmml test` again") from None
    return table if table["r"].notna().any() else None
