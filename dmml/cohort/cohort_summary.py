"""Describes how a cohort's tables were read: scale of the RNA, genes merged and dropped, doubts about the data."""

from __future__ import annotations

from typing import Any

from dmml.cohort.clinical.plausibility import outcome_doubts
from dmml.cohort.cohort import Cohort
from dmml.cohort.joined import joined_doubts
from dmml.cohort.rna.expression import Expression


def describe_rna(rna: Expression) -> str:
    """Describe RNA in one line: patients, genes, scale (detected or stated), and numbers mapped, merged and dropped."""
    counts = rna.provenance.get("counts", {})
    notes = "".join(f", {reason.replace('_', ' ')}: {count}" for reason, count in counts.items())
    stated = rna.provenance.get("scale_stated")
    read_as = rna.provenance.get("read_as")
    detected = f" ({'; '.join(read_as)})" if read_as else " (detected from the values)"
    origin = "" if stated is None else " (as stated)" if stated else detected
    if without := rna.provenance.get("patients_without_tumor_rna"):
        notes += f", patients without tumor RNA: {len(without)} ({', '.join(without)})"
    return f"{len(rna.table)} patients × {rna.table.shape[1]} genes, {rna.scale}{origin}{notes}"


def describe_cohort(cohort: Cohort) -> list[str]:
    """Lines that a run shows after reading its tables: the RNA of each member, and doubts about the data."""
    lines = [
        f"RNA{f' of {member.name}' if cohort.members else ''}: {describe_rna(member.expression)}"
        for member in cohort.members or [cohort]
        if member.expression is not None
    ]
    lines += [f"doubtful outcome: {doubt}" for doubt in outcome_doubts(cohort.clinical.patients)]
    return lines + [f"joined cohorts: {doubt}" for doubt in joined_doubts(cohort)]


def rna_provenance(cohort: Cohort | None) -> dict[str, Any] | None:
    """Scale and provenance of the RNA that a run used, for a joined cohort member by member; None without RNA."""
    if cohort is None or cohort.expression is None:
        return None
    return {"scale": cohort.expression.scale, **cohort.expression.provenance}
