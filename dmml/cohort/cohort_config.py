"""The arguments of a config's data section that describe a cohort. Standard library only.

The dataclass is the one place that states an argument: its name, type, default and meaning. The data module, the reader
of configs, the check before a run, `dmml doctor` and `dmml crossval` ask it with `dataclasses.fields`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, get_type_hints

from dmml.cohort.magnifications import DEFAULT_MAGNIFICATIONS
from dmml.errors import InputError

STANDARDISE = ("training", "within_cohort")
"""Whose mean and spread standardise the RNA of a tested cohort: the training patients' or the cohort's (transductive)."""
_FILE = {"names_files": True}
_SHARED = {"shared": True}


@dataclass(frozen=True)
class CohortConfig:
    """What a data section says about a cohort: its tables, their columns, its features and its split.

    Paths are relative to the working directory.

    Args:
        clinical: Clinical table with one row per slide or per patient.
        name: Name of the cohort in results; default: the name of the clinical file's folder.
        patient_id: Column of the patient's id.
        slide_id: Column of the slide's id (file stem), if the table has one; None = the table names no slides.
        outcome: {time, event | censored, unit: days | months | years}, {label: column} or {value: column}; None for prediction.
        covariates: Clinical columns kept for comparison, each by name or as {name, levels}; they never enter a network.
        expression: RNA table, or {path, patient_id, suffix, scale, layer, …}; None = no RNA.
        gene_sets: {tumor: path, tme: path}; None = the shipped lists. Two further keys narrow the lists on training
            patients: {most_variable: 0.3} keeps the 30 % of each subspace's genes with the largest variance, as in the
            paper, and {preset: released_code} 59 and 361 genes, the released code's numbers.
        features: Feature store; None = no slides.
        split: {folds, stratify, site, seed}, a CSV `patient_id,fold`, or a folder of `splits_<k>.csv`; None: `test`
            and `predict` use all patients, and `fit` takes its inner validation patients from all.
        fold: Which fold of the split is the outer test fold.
        magnifications: Magnifications to read.
        standardise: `training`: RNA by the training patients' mean and spread. `within_cohort`: a tested cohort by its
            patients' mean and spread (transductive), for another platform; adds `_transductive` to the results' name.
        also: Further cohorts trained together with this one, each as a data section with the same arguments.
        recalibrate: Share of a tested cohort, above 0 and below 1, on which predictions are recalibrated; the rest is
            evaluated before and after in `recalibrated.json`, apart from the main results. None = no recalibration.

    Raises:
        InputError: Neither expression nor features is named, or a value is not one of those above.
    """

    clinical: str = field(metadata=_FILE)
    name: str | None = None
    patient_id: str = "patient_id"
    slide_id: str | None = "slide_id"
    outcome: dict | None = None
    covariates: list[str | dict] | None = None
    expression: str | dict | None = field(default=None, metadata=_FILE)
    gene_sets: str | dict | None = field(default=None, metadata=_FILE | _SHARED)
    features: str | None = field(default=None, metadata=_FILE)
    split: str | dict | None = field(default=None, metadata=_FILE)
    fold: int = field(default=0, metadata=_SHARED)
    magnifications: list[int] | tuple[int, ...] = field(default=DEFAULT_MAGNIFICATIONS, metadata=_SHARED)
    standardise: str = field(default=STANDARDISE[0], metadata=_SHARED)
    also: list | None = None
    recalibrate: float | None = field(default=None, metadata=_SHARED)

    def __post_init__(self) -> None:
        """Check the values that can be checked without reading a file."""
        if not self.expression and not self.features:
            raise InputError(
                f"{self.clinical}: data names neither expression nor features; a cohort needs at least one of them"
            )
        if self.standardise not in STANDARDISE:
            raise InputError(f"data.standardise: {self.standardise!r} is not one of {', '.join(STANDARDISE)}")
        if isinstance(self.recalibrate, int | float) and not 0 < self.recalibrate < 1:  # the CLI refuses other types
            raise InputError(
                f"data.recalibrate: {self.recalibrate} is no share of a cohort; give one between 0 and 1, or null"
            )

    def check_stage(self, stage: str) -> None:
        """Refuse to standardise within the cohort in a fit, since its training patients are the reference for others.

        Args:
            stage: `fit`, `validate`, `test` or `predict`.

        Raises:
            InputError: `standardise` is not `training` in the stage `fit` or `validate`.
        """
        if self.standardise != STANDARDISE[0] and stage in ("fit", "validate"):
            raise InputError(f"data.standardise: {self.standardise} is for test and predict; leave it out of {stage}")

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> Self:
        """Return the config of a data section; arguments that this class does not have are ignored.

        None stands for the default where an argument cannot be None, as an empty value in YAML does.

        Raises:
            InputError: No clinical table is named, or a value is refused.
        """
        if not section.get("clinical"):
            raise InputError("data: no clinical table is named; add clinical: path/to/clinical.csv")
        types = get_type_hints(cls)
        stated = {f.name: section[f.name] for f in fields(cls) if f.name in section}
        return cls(**{name: value for name, value in stated.items() if value is not None or _takes_none(types[name])})

    def section(self) -> dict[str, Any]:
        """Return the config as a data section."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def describes(self, section: Mapping[str, Any]) -> bool:
        """Whether a data section describes the same cohort; magnifications may be a tuple here and a list there."""
        configs = (CohortConfig.from_section(each) for each in (self.section(), section))
        this, other = (replace(config, magnifications=tuple(config.magnifications)) for config in configs)
        return this == other

    def each_cohort(self) -> list[Self]:
        """Return one config per cohort: this one, and those under `also`, completed with what all cohorts share.

        A further cohort without a split of its own is divided into folds by the rule of the first.
        """
        first = replace(self, also=None)
        shared = {name: getattr(self, name) for name in shared_arguments(CohortConfig)}
        others = [
            {**other, **shared, "split": self._rule_of_folds() if other.get("split") is None else other["split"]}
            for other in self.also or []
        ]
        return [first, *map(self.from_section, others)]

    def _rule_of_folds(self) -> dict[str, Any] | None:
        """The split as a rule that holds for any cohort: without names of columns; None if the split is a file."""
        if not isinstance(self.split, Mapping):
            return None
        rule = {key: value for key, value in self.split.items() if not isinstance(value, str)}
        return rule | ({"site": True} if isinstance(self.split.get("site"), str) else {})


def file_arguments() -> list[str]:
    """Names of the arguments that name files."""
    return [f.name for f in fields(CohortConfig) if f.metadata.get("names_files")]


def text_arguments() -> list[str]:
    """Names of the arguments whose value is text and nothing else."""
    return [name for name, kind in get_type_hints(CohortConfig).items() if kind in (str, str | None)]


def shared_arguments(config: type[CohortConfig]) -> list[str]:
    """Names of the arguments of which cohorts trained together have one value; of the others, each has its own."""
    return [f.name for f in fields(config) if f.metadata.get("shared")]


def _takes_none(kind: object) -> bool:
    return type(None) in getattr(kind, "__args__", ())
