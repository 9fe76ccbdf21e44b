"""Recognises rows that are not genes: summaries of reads, totals and spike-ins from counting programs and laboratories.

If they stayed in a table, they would add to the library size and change the counts per million of every gene.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dmml.cohort.rna.genes.gene_names import is_gene

SUMMARY = "summary of a counting program"
SPIKE_IN = "spike-in"
COUNTS = {SUMMARY: "summary_rows_skipped", SPIKE_IN: "spike_ins_skipped"}
"""{kind of row: key of its count in the provenance}"""

_TOTALS = {"total", "totals", "grand_total", "sum"}
_SUMMARIES = _TOTALS | {
    # HTSeq, since version 0.6 with two leading underscores
    "no_feature", "ambiguous", "too_low_aqual", "not_aligned", "alignment_not_unique",
    # STAR
    "n_unmapped", "n_multimapping", "n_nofeature", "n_no_feature", "n_ambiguous",
    # featureCounts
    "assigned",
    # usual names for a sum of reads
    "total_counts", "total_reads", "totalcounts", "totalreads", "number_of_reads", "mapped_reads", "unmapped_reads", "reads",
    "unmapped", "multimapped", "library_size", "lib_size", "libsize", "ncount_rna", "nfeature_rna",
}  # fmt: skip
_AVERAGES = {"mean", "average", "median"}
_OF_AXIS = re.compile(r"(?:rows?|cols?|columns?|genes?|samples?)_?(?:totals?|sums?|means?|averages?|medians?)")
"""R's `rowSums` and `colMeans`, and their usual variants."""
_SPIKE_IN = re.compile(r"gspikein_.+|(?:gspikein_)?ercc_?0\d{4}(?:_.*)?|sirv\w*|phix(?:_?174)?|spike_?ins?(?:_.*)?")


def kind_of_row(name: object) -> str | None:
    """`SUMMARY` or `SPIKE_IN`; None for genes (including ERCC1 to ERCC8) and for all other names."""
    name = str(name).strip()
    if name.startswith("ENSG"):  # shortcut for most rows of most tables
        return None
    plain = _plain(name)
    if name.startswith(("__", "X__")) or plain in _SUMMARIES or _is_statistic(plain) or plain.startswith("unassigned_"):
        kind = SUMMARY
    elif _SPIKE_IN.fullmatch(plain):
        kind = SPIKE_IN
    else:
        return None
    return None if is_gene(name) else kind


def is_statistic(sample: object) -> bool:
    """Whether a sample's name means a sum or a mean over samples, as appended in spreadsheets."""
    return _is_statistic(_plain(str(sample)))


def rows_by_kind(names: Sequence[object]) -> dict[str, list[str]]:
    """Group all rows that are not genes: {kind: names}."""
    by_kind: dict[str, list[str]] = {}
    for name in names:
        if kind := kind_of_row(name):
            by_kind.setdefault(kind, []).append(str(name).strip())
    return by_kind


def _is_statistic(plain: str) -> bool:
    return plain in _TOTALS or plain in _AVERAGES or _OF_AXIS.fullmatch(plain) is not None


def _plain(name: str) -> str:
    """Normalise to lower case and single underscores, without brackets, text after a bar, and affixes of R/pandas."""
    plain = re.sub(r"(?<=[a-z])\.\d{1,2}$|\s*\(.*\)$|:$", "", name.split("|")[0].strip().lower())
    plain = re.sub(r"[-_. ]+", "_", plain)
    return plain.removeprefix("x_").strip("_")
