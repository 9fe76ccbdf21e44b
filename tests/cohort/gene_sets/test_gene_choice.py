"""Rules that narrow gene sets on training patients: the most variable genes by a slow computation, and what is refused."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.gene_sets.gene_choice import GeneChoice, split_choice
from dmml.cohort.gene_sets.gene_sets import SUBSPACES, genes_of, read_gene_sets
from dmml.errors import InputError


def slow_variance(column) -> Fraction:
    """Population variance of the known values, exact, one value after the other."""
    finite = [Fraction(float(value)) for value in column if not np.isnan(value)]
    if not finite:
        return Fraction(0)
    mean = sum(finite) / len(finite)
    return sum((value - mean) ** 2 for value in finite) / len(finite)


def slow_choice(programs: dict[str, list[str]], values: pd.DataFrame, share: Fraction) -> dict[str, list[str]]:
    """Remove the gene with the least variance, the last name among equals, until as many are left as wanted."""
    left = sorted({gene for genes in programs.values() for gene in genes})
    wanted = max(1, (2 * share * len(left) + 1) // 2)
    variance = {gene: slow_variance(values[gene]) for gene in left}
    while len(left) > wanted:
        least = left[0]
        for gene in left:
            if variance[gene] < variance[least] or (variance[gene] == variance[least] and gene > least):
                least = gene
        left.remove(least)
    kept = {}
    for program, genes in programs.items():
        names = [gene for gene in genes if gene in left]
        if names:
            kept[program] = names
    return kept


def log_tpm(rng, n: int, genes) -> pd.DataFrame:
    """Made-up log2(TPM + 1) whose genes have very different spreads, in exactly representable numbers."""
    spread = rng.gamma(1.0, 1.0, size=len(genes))
    values = np.maximum(0, rng.normal(4, 1, size=(n, len(genes))) * spread)
    return pd.DataFrame(np.round(values * 256) / 256, columns=list(genes))


@pytest.mark.parametrize("share", ["0.3", "0.07", "1"])
def test_the_genes_by_variance_are_those_of_a_slow_computation(share):
    rng = np.random.default_rng(0)
    shipped = read_gene_sets()
    sets = {s: {program: genes[::8] for program, genes in shipped[s].items()} for s in SUBSPACES}
    genes = genes_of(sets["tumor"]) + genes_of(sets["tme"])
    values = log_tpm(rng, 23, genes)
    values.iloc[:, ::7] = 0.0  # never expressed: all are equal, and ties are broken by name
    values.iloc[:, 3] = values.iloc[:, 2]
    values = values.mask(rng.random(values.shape) < 0.05)
    values.iloc[:, 11] = np.nan
    narrowed = GeneChoice(variable_share=float(share)).choose(sets, values, "tpm")
    for subspace in SUBSPACES:
        assert narrowed[subspace] == slow_choice(sets[subspace], values, Fraction(share))
    if share == "0.3":
        assert {s: len(genes_of(narrowed[s])) for s in SUBSPACES} == {
            s: round(0.3 * len(genes_of(sets[s]))) for s in SUBSPACES
        }
    shuffled = values.iloc[rng.permutation(len(values)), rng.permutation(len(genes))]
    assert GeneChoice(variable_share=float(share)).choose(sets, shuffled, "tpm") == narrowed


def test_programs_keep_their_chosen_genes_and_empty_ones_go():
    values = pd.DataFrame({"A": [0.0, 4.0], "B": [0.0, 2.0], "C": [1.0, 1.0], "D": [0.0, 3.0], "E": [2.0, 2.0]})
    sets = {"tumor": {"P": ["B", "A", "C"], "Q": ["C", "E"], "R": ["D", "A"]}, "tme": {"S": ["E"]}}
    narrowed = GeneChoice(variable_share=0.5).choose(sets, values, "log2")
    # 2.5 of five tumor genes are three; a subspace keeps at least one gene, even if it does not vary.
    assert narrowed == {"tumor": {"P": ["B", "A"], "R": ["D", "A"]}, "tme": {"S": ["E"]}}
    assert GeneChoice(variable_share=0.2).choose(sets, values, "log2")["tumor"] == {"P": ["A"], "R": ["A"]}


def test_z_scores_are_refused_also_where_they_are_called_log2():
    rng = np.random.default_rng(1)
    genes = [f"G{i}" for i in range(60)]
    sets = {"tumor": {"P": genes[:30]}, "tme": {"Q": genes[30:]}}
    spread = rng.gamma(2.0, 1.0, size=60)
    ratios = pd.DataFrame(rng.normal(size=(50, 60)) * spread, columns=genes)  # log2 ratios of a two-colour array
    z_scores = ratios / spread
    message = "compares the genes' variances, and this RNA table contains z-scores.*give a table of TPM"
    for scale in ("zscore", "log2"):
        with pytest.raises(InputError, match=message):
            GeneChoice(variable_share=0.3).choose(sets, z_scores, scale)
    assert len(genes_of(GeneChoice(variable_share=0.3).choose(sets, ratios, "log2")["tumor"])) == 9


def test_a_rule_is_named_in_gene_sets():
    assert split_choice(None) == (None, None)
    assert split_choice("a.csv") == ("a.csv", None)
    assert split_choice({"tumor": "t", "tme": "e"}) == ({"tumor": "t", "tme": "e"}, None)
    assert split_choice({"most_variable": 0.3}) == (None, GeneChoice(variable_share=0.3))
    files = {"tumor": "t", "tme": "e", "overlap": "drop"}
    assert split_choice({**files, "most_variable": 1}) == (files, GeneChoice(variable_share=1.0))
    assert split_choice({**files, "preset": "released_code"}) == (files, GeneChoice(preset="released_code"))
    assert [str(GeneChoice(variable_share=0.3)), str(GeneChoice("released_code"))] == [
        "most_variable: 0.3",
        "preset: released_code",
    ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"preset": "paper"}, r"preset: paper was removed.*most_variable: 0.3.*or preset: released_code"),
        ({"preset": "small"}, r"unknown preset 'small'; give most_variable: 0.3.*or preset: released_code"),
        ({"preset": "released_code", "most_variable": 0.3}, "both choose genes; give one of them"),
        *(({"most_variable": share}, "must be a share of the genes above 0 and at most 1") for share in (0, 30, -0.3)),
        *(({"most_variable": share}, "must be a share of the genes") for share in ("0.3", None, True, float("nan"))),
    ],
)
def test_impossible_rules_are_refused(spec, message):
    with pytest.raises(InputError, match=message):
        split_choice(spec)
