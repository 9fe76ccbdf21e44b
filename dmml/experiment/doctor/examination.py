"""Findings of an examination: lines about parts of the input, each with a state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import pandas as pd

from dmml.cohort.cohort import Cohort
from dmml.errors import InputError

State = Literal["ok", "check", "blocks"]
"""`ok`; `check`: a run will work, but the user should check this; `blocks`: a run will be refused"""
T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """A line of the doctor's table."""

    part: str
    text: str
    state: State = "ok"


@dataclass
class Examination:
    """Everything that was examined.

    Attributes:
        findings: The findings, in the order in which they were made.
        folds: One row per fold: patients and events (or patients of each class) of its train, val and test.
        cohort: The cohort, as far as it could be read.
    """

    findings: list[Finding] = field(default_factory=list)
    folds: pd.DataFrame | None = None
    cohort: Cohort | None = None

    def add(self, part: str, text: str, state: State = "ok") -> None:
        """Add a finding."""
        self.findings.append(Finding(part, text, state))

    def attempt(self, part: str, step: Callable[[], T]) -> T | None:
        """Return the result of a step; if the step raises an `InputError`, add a blocking finding and return None."""
        try:
            return step()
        except InputError as error:
            self.add(part, str(error), "blocks")
            return None

    def unblock(self, part: str) -> None:
        """Turn a part's blocking findings into findings to check."""
        self.findings = [
            replace(finding, state="check") if finding.part == part and finding.state == "blocks" else finding
            for finding in self.findings
        ]

    @property
    def blocking(self) -> list[Finding]:
        """Findings that stop a run."""
        return [finding for finding in self.findings if finding.state == "blocks"]
