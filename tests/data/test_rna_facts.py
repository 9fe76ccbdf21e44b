"""The description of a tested cohort's RNA: each value is counted once, and only for tested patients."""

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.clinical.table import Clinical
from dmml.cohort.cohort import Cohort
from dmml.cohort.rna.expression import Expression
from dmml.data.rna import CohortRna, describe_rna_facts

GENES = [f"G{i}" for i in range(6)]
PATIENTS = [f"P{i}" for i in range(8)]


def rna(values):
    clinical = Clinical(pd.DataFrame(index=PATIENTS), pd.DataFrame(index=PATIENTS), {}, "clinical.csv")
    return CohortRna(Cohort("x", clinical, Expression(pd.DataFrame(values, PATIENTS, GENES), "log2"), {}))


def statistics(genes):
    return {"genes": list(genes), "mean": [0.0] * len(genes), "std": [1.0] * len(genes), "scale": "log2"}


@pytest.fixture
def values():
    table = np.zeros((8, 6))
    table[0, 0], table[1, 2], table[7, 1] = 3.5, -9.0, 5.0  # P7 is not tested
    table[2, 3] = 3.0  # at the bound, not beyond it
    table[3, 4] = np.nan
    return table


def test_values_are_counted_over_the_tested_patients(values):
    both = {"tumor": statistics(GENES[:3]), "tme": statistics(GENES[3:])}
    facts = rna(values).facts(both, PATIENTS[:7])
    assert (facts["values"], facts["values_held"], facts["values_imputed"]) == (41, 2, 1)
    assert rna(values).facts(both)["values_held"] == 3
    assert "2 of 41 standardised values lie beyond ±3" in describe_rna_facts(facts)


def test_a_gene_that_both_subspaces_read_is_counted_once(values):
    shared = {"tumor": statistics(GENES), "tme": statistics(GENES[:4])}
    facts = rna(values).facts(shared, PATIENTS[:7])
    assert (facts["values"], facts["values_held"], facts["values_imputed"]) == (41, 2, 1)


def test_the_shift_of_the_median_gene_is_that_of_the_tested_patients(values):
    values[:4] += 5
    facts = rna(values).facts({"tumor": statistics(GENES)}, PATIENTS[:4])
    assert facts["median_shift"]["tumor"] == pytest.approx(5, abs=1.6)
    assert rna(values).facts({"tumor": statistics(GENES)}, PATIENTS[4:])["median_shift"]["tumor"] == 0
