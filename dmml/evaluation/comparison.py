"""Compare models on a cohort by paired differences on the patients that both have predicted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from dmml.evaluation.bootstrap import Difference, holm, resamples, weighted_difference
from dmml.evaluation.evaluation_result import Evaluation


@dataclass(frozen=True)
class Pair:
    """Difference of two models on the patients that both predicted.

    Attributes:
        a: The first model.
        b: The second model.
        difference: Primary metric of a minus that of b.
        p_holm: p adjusted for the number of pairs in the table (see `adjusted`); NaN before the adjustment. For the
            primary pair, the unadjusted p.
        primary: Whether this is the one comparison of the table that is exempt from the adjustment.
        n: Number of common patients with a known outcome.
        events: Number of events among them (None for classes).
        refused: Why the two cannot be compared; empty if they can.
        leads: Whether the text reports this pair: student against teacher, or the only pair of a cohort.
    """

    a: Evaluation
    b: Evaluation
    difference: Difference
    p_holm: float
    primary: bool
    n: int
    events: int | None
    refused: str = ""
    leads: bool = False

    @property
    def name(self) -> str:
        """Short name of the pair: the two runs, or the two cohorts of one run."""
        if self.a.cohort == self.b.cohort:
            return f"{self.a.label} − {self.b.label}"
        return f"{self.a.label} on {self.a.cohort} − on {self.b.cohort}"

    @property
    def has_overlap(self) -> bool:
        """Whether either model was tested on patients it was trained on, which makes the difference meaningless."""
        return bool(self.a.overlap or self.b.overlap)

    @property
    def where(self) -> str:
        """Name of the cohort, or of both cohorts."""
        return " and ".join(dict.fromkeys([self.a.cohort, self.b.cohort]))


def by_cohort(tests: list[Evaluation]) -> list[list[Evaluation]]:
    """Group tests by cohort and endpoint, in the order in which they were given."""
    groups: dict[tuple[str, str], list[Evaluation]] = {}
    for test in tests:
        groups.setdefault((test.cohort, test.primary), []).append(test)
    return list(groups.values())


def paired(tests: list[Evaluation]) -> list[Pair]:
    """Compare every pair of a cohort's models, without adjustment; the student against a teacher comes first.

    Pairs with a test on training patients come last and are left out of the text summary.
    """
    pairs = [_compare(*_student_first(a, b)) for a, b in combinations(tests, 2)]
    pairs.sort(key=lambda pair: (pair.has_overlap, not _is_distillation(pair)))
    honest = sum(not pair.has_overlap for pair in pairs)
    if honest and (_is_distillation(pairs[0]) or honest == 1):
        pairs[0] = replace(pairs[0], leads=True)
    return pairs


def adjusted(pairs: list[Pair]) -> list[Pair]:
    """Select one primary comparison and adjust all others as one family by Holm's method; the order stays.

    The primary comparison is the student against the teacher on the first cohort that has both. This is the purpose of
    distillation, and the order in which the cohorts were given fixes it before any result is seen. If only one
    pair can be compared, it is the primary one and needs no adjustment.
    """
    comparable = [pair for pair in pairs if not pair.refused and not pair.has_overlap]
    only = comparable[0] if len(comparable) == 1 else None
    first = next((pair for pair in comparable if _is_distillation(pair)), only)
    rest = [pair for pair in pairs if pair is not first]
    p_holm = iter(holm([pair.difference.p for pair in rest]))
    return [
        replace(pair, p_holm=pair.difference.p, primary=True)
        if pair is first
        else replace(pair, p_holm=float(next(p_holm)))
        for pair in pairs
    ]


def across_cohorts(tests: list[Evaluation]) -> list[Pair]:
    """Compare a run on two cohorts that share patients, e.g. the same patients without RNA: the later minus the first.

    Cohorts without a patient in common, or with different outcomes of the same patients, are not compared. The p values
    are not yet adjusted.
    """
    runs: dict[tuple[Path, str], list[Evaluation]] = {}
    for test in tests:
        runs.setdefault((test.run_folder.resolve(), test.checkpoint), []).append(test)
    pairs = []
    for first, *later in runs.values():
        compared = [_compare(test, first) for test in later if test.primary == first.primary]
        pairs += [pair for pair in compared if not pair.refused]
    return pairs


def _student_first(a: Evaluation, b: Evaluation) -> tuple[Evaluation, Evaluation]:
    return (b, a) if b.model == "student" and a.model != "student" else (a, b)


def _is_distillation(pair: Pair) -> bool:
    return (pair.a.model, pair.b.model) == ("student", "teacher")


def _compare(a: Evaluation, b: Evaluation) -> Pair:
    endpoint, of_a = a.endpoint, a.with_outcome
    of_a = of_a[of_a["patient_id"].isin(b.with_outcome["patient_id"])].reset_index(drop=True)
    of_b = b.with_outcome.set_index("patient_id").loc[of_a["patient_id"]].reset_index()
    n, events = len(of_a), int((of_a["event"] > 0).sum()) if endpoint.counts_events else None
    if refused := _refusal(a, b, of_a, of_b):
        return Pair(a, b, Difference(*[float("nan")] * 4), float("nan"), False, n, events, refused)
    # Both are evaluated on the outcomes of the first, from which those of the second may differ by rounding.
    of_b = of_b.assign(**{name: of_a[name] for name in endpoint.outcome})
    metric_a, metric_b = (endpoint.primary_metric(table, a.context) for table in (of_a, of_b))
    difference = weighted_difference(metric_a, metric_b, resamples(n, endpoint.bootstrap_strata(of_a, a.context)))
    return Pair(a, b, difference, float("nan"), False, n, events)


def _refusal(a: Evaluation, b: Evaluation, of_a: pd.DataFrame, of_b: pd.DataFrame) -> str:
    """Explain why two models cannot be compared on their common patients; empty if they can."""
    if of_a.empty:
        return "they have no patient with a known outcome in common"
    if a.classes != b.classes:
        return "they predict different classes"
    for name in a.endpoint.outcome:
        left, right = of_a[name], of_b[name]
        # Tables may carry times with different rounding; a hundredth of a day does not make an outcome different.
        numeric = pd.api.types.is_numeric_dtype(left) and pd.api.types.is_numeric_dtype(right)
        differs = (
            ~np.isclose(left, right, rtol=1e-6, atol=0.01 * (name == "time")) if numeric else (left != right).to_numpy()
        )
        if differs.any():
            return f"they were tested on different outcomes (patient {of_a['patient_id'][differs].iloc[0]})"
    return ""
