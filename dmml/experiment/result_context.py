"""Makes `context.json` of a test: where its result comes from, and what its evaluation needs to know of the training."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dmml._version import __version__
from dmml.data.encoder_match import describe_other_tiles
from dmml.data.rna import describe_rna_facts
from dmml.evaluation.caveats import OVERLAP, UNKNOWN_KEY
from dmml.experiment.patient_flow import TESTED, patient_flow
from dmml.experiment.run_folder import RunFolder, now
from dmml.experiment.tested_checkpoint import TestedCheckpoint

if TYPE_CHECKING:
    from dmml.data.fitted_model import FittedModel
    from dmml.data.module import MultimodalDataModule
    from dmml.training.subspace_module import SubspaceModule


@dataclass(frozen=True)
class ResultOrigin:
    """Where a result of `dmml test` or `dmml predict` comes from.

    Args:
        checkpoint: The model's checkpoint.
        command: The typed command.
        patients_seen: Tested patients that the model was trained on.
        n_tested: Number of tested patients.
        training_unknown: Whether the checkpoint does not record which patients it was trained on.
    """

    checkpoint: TestedCheckpoint
    command: str
    patients_seen: Sequence[str] = ()
    n_tested: int = 0
    training_unknown: bool = False

    @property
    def overlap(self) -> dict[str, Any]:
        """Entry of the record about training patients among the tested ones; empty if there are none."""
        if self.training_unknown:
            return {UNKNOWN_KEY: True}
        return {OVERLAP: {"n": len(self.patients_seen), "of": self.n_tested}} if self.patients_seen else {}


def result_context(
    origin: ResultOrigin, model: SubspaceModule, data: MultimodalDataModule, folder: Path
) -> dict[str, Any]:
    """Make the content of `context.json`.

    Args:
        origin: Where the result comes from.
        model: The tested model, with what was fitted on its training patients.
        data: The data module it was tested on.
        folder: Folder of the result.
    """
    fitted, rna = model.fitted, data.rna_facts(cast("FittedModel", model))
    counts: dict[str, Any] = {"patients left out, having neither slides nor RNA": data.counts("test")["left_out"]}
    if rna and (text := describe_rna_facts(rna)):
        counts["RNA of this cohort"] = text
    if data.store is not None and (difference := describe_other_tiles(data.store, fitted)):
        counts["tiles of this cohort"] = difference
    return {
        "run": RunFolder(origin.checkpoint.run).name,
        "model": type(model).__name__.removeprefix("Subspace").lower(),
        **origin.checkpoint.record(folder, str(data.name), tested_fold(data)),
        **origin.overlap,
        **model.task.evaluation_context(),
        "horizons": fitted.get("horizons"),
        "censoring": fitted.get("censoring"),
        "median_risk": fitted.get("median_risk"),
        **deep_shares(model),
        "training_cohort": fitted.get("cohort"),
        "n_training": fitted.get("n_training"),
        "counts": counts,
        "flow": patient_flow(data, TESTED),
        "rna": rna,
        "hashes": fitted.get("hashes"),
        "tested_hashes": table_hashes(data),
        "oracle_risk": _oracle_risk(Path(data.config.clinical).parent / "truth.csv"),
        "command": origin.command,
        "created": now(),
        "versions": {"dmml": __version__},
    }


def tested_fold(data: MultimodalDataModule) -> int | None:
    """Return the fold whose outer test patients were run; None if all patients of the cohort were."""
    return getattr(getattr(data, "cohort", None), "tested_fold", None)


def table_hashes(data: MultimodalDataModule) -> dict[str, str]:
    """Hash the tested tables, which may differ from those trained on, and the tested patients."""
    return data.hashes({"test": data.patients("test")})


def deep_shares(model: SubspaceModule) -> dict[str, float]:
    """Return the shares of the deep part in the logits and in the programs; {} for a model without a backbone."""
    if not getattr(model, "has_backbone", False):
        return {}
    return {name: float(getattr(model, name)) for name in ("deep_share", "program_share")}


def _oracle_risk(truth: Path) -> dict[str, float] | None:
    """Read the true risk of simulated patients, if the cohort has it; nothing is fitted to it."""
    if not truth.is_file():
        return None
    with truth.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row["patient_id"]: float(row["risk"]) for row in rows} if rows and "risk" in rows[0] else None
