"""Collects what a checkpoint, its run and its tests say of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.cohort.gene_sets.gene_sets import read_gene_sets
from dmml.evaluation.result_folders import read_context, read_json
from dmml.experiment.run_folder import run_of_checkpoint

if TYPE_CHECKING:
    from dmml.experiment.load_model import CheckpointModel


@dataclass(frozen=True)
class Tested:
    """A test of the checkpoint.

    Attributes:
        name: Name of its folder.
        context: `context.json`.
        metrics: `metrics.json`, {metric: {value, low, high, n, events}}.
        is_recalibrated: Whether its predictions were recalibrated as well.
    """

    name: str
    context: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    is_recalibrated: bool


@dataclass(frozen=True)
class ModelRecord:
    """What is on record of a model.

    Attributes:
        identity: Checkpoint, run, class, epoch, cohort and number of training patients.
        task: `Task.context()`: kind, and edges and end, or classes.
        encoder: Identity of the encoder.
        extraction: How tissue was found.
        magnifications: Magnifications that the model reads.
        fitted: What was fitted with the model.
        programs: {subspace: [program]}.
        gene_set_source: Where the programs come from, in words.
        deep_share: Share of the deep part in the logits; None without a backbone.
        n_parameters: Number of trained parameters.
        provenance: `provenance.json` of the run; empty if there is none.
        tests: Tests of this checkpoint.
        other_tests: Names of tests in the run's folder that another checkpoint has made.
    """

    identity: Mapping[str, Any]
    task: Mapping[str, Any]
    encoder: Mapping[str, Any]
    extraction: Mapping[str, Any]
    magnifications: tuple[int, ...]
    fitted: Mapping[str, Any]
    programs: Mapping[str, list[str]]
    gene_set_source: str
    deep_share: float | None
    n_parameters: int
    provenance: Mapping[str, Any] = field(default_factory=dict)
    tests: tuple[Tested, ...] = ()
    other_tests: tuple[str, ...] = ()

    def counts(self, part: str) -> Mapping[str, int]:
        """Numbers of patients of a part (`train` or `val`), in total and by what they have; {} if not on record."""
        return (self.provenance.get("counts") or {}).get(part) or {}


def read_model_record(model: CheckpointModel) -> ModelRecord:
    """Collect the record of a model; of the run's tests, those of this very checkpoint count.

    Raises:
        InputError: A file of results is damaged.
    """
    network, fitted = model.module, model.module.fitted
    run = run_of_checkpoint(model.path)
    tests, others = _tests(run, model.identity["sha256"])
    programs = network.scores.names if network.programs is not None else {}
    return ModelRecord(
        identity=model.identity,
        task=network.task.context(),
        encoder=model.encoder,
        extraction=fitted.get("extraction") or {},
        magnifications=network.magnifications,
        fitted=fitted,
        programs=programs,
        gene_set_source=_gene_set_source(network.programs or {}, fitted.get("gene_choice")),
        deep_share=float(network.deep_share) if network.has_backbone else None,
        n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        provenance=_read_provenance(run),
        tests=tests,
        other_tests=others,
    )


def _tests(run: Path, sha256: str) -> tuple[tuple[Tested, ...], tuple[str, ...]]:
    tests, others = [], []
    for path in sorted(run.glob("test/*/metrics.json")):
        context = read_context(path.parent)
        if (context.get("checkpoint") or {}).get("sha256") != sha256:
            others.append(path.parent.name)
            continue
        is_recalibrated = (path.parent / "recalibrated.json").is_file()
        tests.append(Tested(path.parent.name, context, read_json(path), is_recalibrated))
    return tuple(tests), tuple(others)


def _read_provenance(run: Path) -> dict[str, Any]:
    try:
        content = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _gene_set_source(programs: Mapping[str, Mapping[str, list[str]]], gene_choice: str | None) -> str:
    """Name the source of the programs: those that dmml ships, a rule that chose genes, or files of the user's own."""
    if gene_choice:
        return f"genes chosen on the training patients ({gene_choice})"
    shipped = read_gene_sets()
    names = [(s, name) for s, sets in programs.items() for name in sets]
    if names and all(name in shipped.get(s, {}) for s, name in names):
        return "the sets that dmml ships: MSigDB Hallmark 7.0 (CC BY 4.0) and ESTIMATE signatures; see dmml's NOTICE"
    return "gene sets of the user's own" if names else "none"
