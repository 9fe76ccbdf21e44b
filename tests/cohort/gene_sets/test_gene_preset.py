"""The preset of the released code's numbers of genes, against a slow computation of its rule."""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from dmml.cohort.gene_sets.gene_preset import PRESETS, choose_genes
from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets


def by_hand(programs, values, number):
    """Rank correlations with the other genes of the program, one gene at a time; then the programs choose in turn."""
    genes = genes_of(programs)
    z = {}
    for gene in genes:
        ranks = rankdata(values[gene])
        spread = ranks.std()
        z[gene] = (ranks - ranks.mean()) / spread if spread else ranks * 0
    orders = []
    for names in programs.values():
        r = {}
        for gene in names:
            others = sum((z[name] for name in names if name != gene), np.zeros(len(values)))
            norm = np.linalg.norm(others) * np.linalg.norm(z[gene])
            r[gene] = round(abs(others @ z[gene]) / norm, 9) if norm else 0.0
        orders.append(sorted(names, key=lambda gene, r=r: (-r[gene], gene)))
    narrowed, turn = [], 0
    while len(narrowed) < min(number, len(genes)):
        for order in orders:
            if turn < len(order) and order[turn] not in narrowed and len(narrowed) < number:
                narrowed.append(order[turn])
        turn += 1
    return set(narrowed)


def test_the_preset_follows_its_rule_computed_by_hand():
    sets = read_gene_sets()
    genes = genes_of(sets["tumor"]) + genes_of(sets["tme"])
    rng = np.random.default_rng(0)
    values = pd.DataFrame(rng.normal(size=(50, len(genes))), columns=genes)
    values.iloc[:, ::7] = 0.0  # never expressed
    values.iloc[0, 5] = 7377  # as published tables have it
    narrowed = choose_genes(sets, values, "released_code")
    for s, number in PRESETS["released_code"].items():
        assert len(genes_of(narrowed[s])) == number
        assert set(genes_of(narrowed[s])) == by_hand(sets[s], values, number)
        assert set(narrowed[s]) == set(sets[s])  # every program keeps its best
        assert all(gene in sets[s][program] for program, kept in narrowed[s].items() for gene in kept)
    shuffled = values.iloc[rng.permutation(50), rng.permutation(len(genes))]
    assert choose_genes(sets, shuffled, "released_code") == narrowed  # neither rows nor columns have an order


def test_correlated_genes_are_preferred():
    rng = np.random.default_rng(0)
    driver = rng.normal(size=(80, 1))
    speaking = pd.DataFrame(driver + 0.1 * rng.normal(size=(80, 40)), columns=[f"S{i}" for i in range(40)])
    silent = pd.DataFrame(rng.normal(size=(80, 60)), columns=[f"N{i}" for i in range(60)])
    values = speaking.join(silent).assign(E=1.0)
    narrowed = choose_genes({"tumor": {"A": list(values)[:100]}, "tme": {"B": ["E"]}}, values, "released_code")
    assert {f"S{i}" for i in range(40)} < set(narrowed["tumor"]["A"])
    assert narrowed["tme"] == {"B": ["E"]}  # fewer than wanted: all
