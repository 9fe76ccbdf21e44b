"""What `dmml cohort gdc` prints of a cohort."""

from __future__ import annotations

from collections import Counter

from dmml.cohort.gdc.join import GdcCohort, patients_without_tumor


def summary(cohort: GdcCohort) -> list[str]:
    """Summarise a cohort in lines: counts of patients, and how many were left out for each reason."""
    clinical, expression = cohort.clinical, cohort.expression
    rna = set(expression.patients) if expression is not None else set()
    with_outcome = clinical["os_days"].notna()
    lines = [
        f"{len(clinical)} patients with clinical data, {int(with_outcome.sum())} with outcome, "
        f"{int(clinical['os_event'].sum())} died"
    ]
    if expression is not None:
        both = with_outcome & clinical.index.isin(rna)
        lines += [
            f"{len(rna)} patients with RNA, {expression.table.shape[1]} genes, {expression.scale}",
            f"{int(both.sum())} patients with both",
        ]
    if without := patients_without_tumor(cohort.left_out, rna):
        lines.append(
            f"patients without RNA of a tumor, because all of their samples are of other tissue: {len(without)} "
            f"({', '.join(without)})"
        )
    reasons = Counter((what, reason.split(":")[0]) for what, reason in cohort.left_out[["what", "reason"]].to_numpy())
    return lines + [f"  {count} without {what}: {reason}" for (what, reason), count in sorted(reasons.items())]
