"""Chooses the column of STAR's counts for a cohort: both strands together, or one strand of a stranded library."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from dmml.cohort.rna.genes.summary_rows import kind_of_row

_MIN_SHARE = 0.9  # minimum share of reads on one strand; a stranded library reaches 0.95, an unstranded one 0.5


def count_column(samples: Iterable[pd.DataFrame]) -> str:
    """Choose `forward` or `reverse` if every sample shows such a stranded library, else `unstranded`, as the GDC does.

    The same column is used for all samples, since different columns are not comparable between samples.

    Args:
        samples: Reads per gene, with the columns `unstranded`, `forward` and `reverse`.
    """
    shares = []
    for table in samples:
        genes = table[[kind_of_row(name) is None for name in table.index]]
        both = genes["forward"].sum() + genes["reverse"].sum()
        shares.append(genes["forward"].sum() / both if both else 0.5)
    if min(shares) >= _MIN_SHARE:
        return "forward"
    return "reverse" if max(shares) <= 1 - _MIN_SHARE else "unstranded"
