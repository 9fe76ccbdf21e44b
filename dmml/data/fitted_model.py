"""What the data module reads from a model."""

from __future__ import annotations

from typing import Any, Protocol

from dmml.tasks import Task


class FittedModel(Protocol):
    """A model that was fitted to training patients, as the data module sees it."""

    task: Task
    n_features: int
    """Width of the features that it reads; 0 if it reads no slides"""
    fitted: dict[str, Any]
    """What was fitted along with it, in plain Python: statistics of genes and features, the encoder, the cohort"""
