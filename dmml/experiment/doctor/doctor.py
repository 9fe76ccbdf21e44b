"""Examines, before a long run, what a cohort consists of and how its tables match."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from dmml.cohort.clinical.ordered_levels import levels_in_order
from dmml.cohort.clinical.plausibility import outcome_doubts
from dmml.cohort.cohort import Cohort
from dmml.cohort.cohort_summary import describe_rna
from dmml.cohort.config_paths import named_files
from dmml.cohort.gene_sets.gene_sets import SUBSPACES, genes_of
from dmml.cohort.joined import joined_doubts
from dmml.cohort.section import read_cohort
from dmml.errors import InputError
from dmml.experiment.doctor.folds import examine_folds


@dataclass(frozen=True)
class Finding:
    """A line of the doctor's table."""

    part: str
    text: str
    state: str = "ok"
    """`ok`, `look` (a run will work, but the user should look at this) or `blocks`"""


@dataclass
class Examination:
    """Everything that was examined."""

    findings: list[Finding] = field(default_factory=list)
    folds: pd.DataFrame | None = None
    """one row per fold: patients and events (or patients of each class) of its train, val and test"""
    cohort: Cohort | None = None
    """the cohort, as far as it could be read"""

    def add(self, part: str, text: str, state: str = "ok") -> None:
        """Add a finding."""
        self.findings.append(Finding(part, text, state))

    def attempt(self, part: str, step: Callable[[], Any]) -> Any:
        """Return the result of a step; if the step raises an `InputError`, add a blocking finding and return None."""
        try:
            return step()
        except InputError as error:
            self.add(part, str(error), "blocks")
            return None

    def unblock(self, part: str) -> None:
        """Turn a part's blocking findings into findings to look at."""
        blocking = self.blocking
        self.findings = [
            replace(finding, state="look") if finding.part == part and finding in blocking else finding
            for finding in self.findings
        ]

    @property
    def blocking(self) -> list[Finding]:
        """Findings that stop a run."""
        return [finding for finding in self.findings if finding.state == "blocks"]


def examine(section: Mapping[str, Any], training: bool = True) -> Examination:
    """Examine the cohort of a data section; of several cohorts, examine each, and then all of them together.

    Args:
        section: Arguments of `MultimodalDataModule`.
        training: Whether the cohort may be trained on. If not, the folds of a cohort without a split are not examined,
            since all its patients are tested.
    """
    found = Examination()
    missing = {option: path for option, path in named_files(section).items() if not path.exists()}
    for option, path in missing.items():
        found.add(option, f"{path} is not there", "blocks")
    cohort = None if missing else _read(found, section)
    if cohort is None:
        return found
    found.cohort = cohort
    for member in cohort.members or [cohort]:
        _clinical(found, member)
        _expression(found, member)
    _together(found, cohort)
    _join(found, cohort, _slides(found, cohort, section))
    _split(found, cohort)
    _sites(found, cohort)
    if training or cohort.split is not None:
        found.folds = found.attempt("folds", lambda: examine_folds(found.add, cohort))
    return found


def _read(found: Examination, section: Mapping[str, Any]) -> Cohort | None:
    """Read the cohort; if that fails, read it without its RNA, and then also without its split."""
    without_rna = {**section, "expression": None, "features": section.get("features") or section.get("clinical")}
    told: set[str] = set()
    for part, attempt in {"cohort": section, "RNA": without_rna, "split": {**without_rna, "split": None}}.items():
        try:
            cohort = read_cohort(attempt)
        except InputError as error:
            if str(error) not in told:
                found.add("cohort", str(error), "blocks")
            told.add(str(error))
            continue
        if part != "cohort" and not section.get("features"):
            cohort.features = None
        return cohort
    return None


def _clinical(found: Examination, cohort: Cohort) -> None:
    clinical = cohort.clinical
    patients, observed = clinical.patients, clinical.observed
    told = f"{clinical.source}: {len(patients)} patients"
    if clinical.kind is None:
        found.add("outcome", f"{told}, no outcome named: enough for predict, not for fit or test", "look")
        return
    if clinical.kind == "survival":
        time = patients["time"].dropna()
        years = f"{time.median() / 365.25:.1f} (longest {time.max() / 365.25:.1f})" if len(time) else "none"
        events = int(patients["event"].sum())
        share = f" ({events / len(time):.0%})" if len(time) else ""
        told += f", {events} events{share}, median time {years} years"
    else:
        sizes = patients["label"].value_counts().sort_index()
        told += ", " + ", ".join(f"{label}: {size}" for label, size in sizes.items())
    unknown = int((~observed).sum())
    found.add("outcome", f"{told}, {unknown} without outcome" if unknown else told)
    for doubt in outcome_doubts(patients):
        found.add("outcome", doubt, "look")
    for column in clinical.covariates:
        known = clinical.covariates[column].dropna()
        kind = "numbers"
        if not pd.api.types.is_numeric_dtype(known):
            order = levels_in_order(known.unique(), column, clinical.covariate_levels.get(column))
            if order:  # words without a place in the order, such as TX, mean that the patient was not assessed
                known = known[known.isin(order)]
            kind = f"{known.nunique()} levels" + (f" ({' < '.join(order)})" if order else " without order")
        gaps = len(patients) - len(known)
        many = kind != "numbers" and known.nunique() > max(10, len(known) / 5)
        state = "look" if many or gaps > len(patients) / 2 else "ok"
        told = f"{column}: {kind}, {gaps} unknown"
        if unlike := clinical.covariate_conflicts.get(column):
            told += f"; rows of {len(unlike)} patients differ ({unlike[0]}, …), the first counts"
        found.add("covariate", told, "look" if unlike else state)


def _expression(found: Examination, cohort: Cohort) -> None:
    rna = cohort.expression
    if rna is None:
        return
    found.add("RNA", describe_rna(rna))
    usable = found.attempt("gene sets", cohort.usable_gene_sets)
    for subspace in SUBSPACES if usable else ():
        listed, measured = len(genes_of(cohort.gene_sets[subspace])), len(genes_of(usable[subspace]))
        programs = f"{len(usable[subspace])} programs"
        state = "look" if measured < listed / 2 else "ok"
        found.add("gene sets", f"{subspace}: {measured} of {listed} genes measured, {programs}", state)


def _together(found: Examination, cohort: Cohort) -> None:
    if cohort.members:
        genes = "" if cohort.expression is None else f", {cohort.expression.table.shape[1]} genes in all"
        found.add("together", f"{cohort.name}: {len(cohort.clinical.patients)} patients{genes}")
    for doubt in joined_doubts(cohort):
        found.add("together", doubt, "look")


def _slides(found: Examination, cohort: Cohort, section: Mapping[str, Any]) -> set[str]:
    """Report what the stores hold and which patients their slides belong to; return the patients with features."""
    with_slides: set[str] = set()
    for member in cohort.members or [cohort]:
        if not member.features:
            continue
        from dmml.data.encoder_match import check_slides_match
        from dmml.experiment.doctor.features import examine_features
        from dmml.store import FeatureStore

        store = found.attempt("features", lambda path=member.features: FeatureStore(path))
        if store is None:
            continue
        there = store.slides()
        matched = member.clinical.match_slides(there)
        used = {slide for slides in matched.values() for slide in slides}
        with_slides |= {patient for patient, slides in matched.items() if slides}
        encoder, offered = store.attributes["encoder"], list(store.attributes["magnifications"])
        found.add(
            "features", f"{member.features}: {len(there)} slides at {offered}, {encoder['name']}, {encoder['dim']} wide"
        )
        wanted = list(section.get("magnifications") or (10, 20))
        if lacking := [m for m in wanted if m not in offered]:
            state = "blocks" if len(lacking) == len(wanted) else "look"
            found.add("features", f"{member.features}: no tiles at {lacking} (data.magnifications: {wanted})", state)
        examine_features(found, store, sorted(used & set(there)))
        found.attempt("features", partial(check_slides_match, member.features, there, member.clinical, matched))
        if used and (strangers := sorted(set(there) - used)):
            found.add(
                "features", f"{len(strangers)} slides belong to no patient of the table: {strangers[0]}, …", "look"
            )
        named = sum(map(len, member.clinical.slides.values())) - sum(map(len, matched.values()))
        if named > 0:  # slides are matched by patient ids if the table names none
            found.add("features", f"{named} slides that the table names are not in the store", "look")
    return with_slides


def _join(found: Examination, cohort: Cohort, with_slides: set[str]) -> None:
    """Report how many patients have slides, RNA, both or neither, and how many of them have an outcome."""
    patients = cohort.clinical.patients.index
    rna = set() if cohort.expression is None else set(cohort.expression.patients)
    observed = cohort.clinical.observed
    kinds = {
        "slides and RNA": [p for p in patients if p in rna and p in with_slides],
        "RNA, no slides": [p for p in patients if p in rna and p not in with_slides],
        "slides, no RNA": [p for p in patients if p not in rna and p in with_slides],
        "neither (not used)": [p for p in patients if p not in rna and p not in with_slides],
    }
    for kind, own in kinds.items():
        if own:
            known = f", {int(observed[own].sum())} with outcome" if cohort.clinical.kind else ""
            found.add("join", f"{kind}: {len(own)} patients{known}", "look" if kind.startswith("neither") else "ok")
    if len(kinds["neither (not used)"]) == len(patients):
        found.add("join", f"no patient ({patients[0]}, …) has slides or RNA; do the tables use the same ids?", "blocks")
    if strangers := rna - set(patients):
        found.add("join", f"RNA of {len(strangers)} patients who are not in the clinical table (not used)", "look")


def _split(found: Examination, cohort: Cohort) -> None:
    """Report patients who are missing in the split, and ids of the split that are missing in the clinical table."""
    unused, unknown = (cohort.split.unused, cohort.split.unknown) if cohort.split else ([], [])
    if unused:
        told = f"{len(unused)} patients of the clinical table are in no fold (not used): {unused[0]}, …"
        found.add("split", told, "look")
    if unknown:
        found.add("split", f"{len(unknown)} of its ids are of no patient here: {unknown[0]}, …", "look")


def _sites(found: Examination, cohort: Cohort) -> None:
    if "site" not in cohort.clinical.patients or cohort.split is None:
        return
    site = cohort.clinical.patients["site"]
    test = cohort.split[cohort.fold].test
    train = cohort.split[cohort.fold].train
    shared = site[test].dropna().isin(set(site[train].dropna()))
    told = f"{site.nunique()} sites; {int(shared.sum())} of {len(test)} test patients share one with training patients"
    found.add("sites", told, "look" if shared.any() else "ok")


def machine(root: str | Path) -> str:
    """Describe the machine in a line: versions, processors, accelerators, memory, and free space for the runs."""
    from importlib.metadata import version

    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    place = Path(root).resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    processors = f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} processors"
    return (
        f"torch {torch.__version__}, lightning {version('lightning')}, {processors}, {', '.join(gpus) or 'no GPU'}, "
        f"{memory:.0f} GiB memory, {free:.0f} GiB free under {root}"
    )
