"""Describes intervals of survival in which no training patient has the event."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from numpy.typing import NDArray

from dmml.functional.survival import time_to_interval


def describe_empty_intervals(time: NDArray, event: NDArray, edges: Sequence[float], edges_from: str) -> str:
    """Warn, in one line, of intervals without an event; empty if there is none.

    The likelihood of such an interval has no optimum: every patient at risk survives it, so that its hazard only ever
    sinks towards 0.

    Args:
        time: (n,) days.
        event: (n,) 1 = happened.
        edges: The K − 1 days between the intervals.
        edges_from: Whose times gave the edges; see `Survival`.
    """
    interval = time_to_interval(torch.as_tensor(time[event > 0]), torch.tensor(edges, dtype=torch.float64))
    counts = interval.bincount(minlength=len(edges) + 1).tolist()
    days = [f"{day:g}" for day in (0, *edges)]
    spans = [f"{start} to {end}" for start, end in pairwise(days)] + [f"from {days[-1]}"]
    empty = [span for span, count in zip(spans, counts, strict=True) if not count]
    if not empty:
        return ""
    way = "set edges_from: events in the task, or lower n_intervals" if edges_from == "all" else "lower n_intervals"
    return (
        f"no training patient has the event in {len(empty)} of the {len(counts)} intervals of survival (days "
        f"{', '.join(empty)}), where only a hazard of 0 can be learned; {way}"
    )
