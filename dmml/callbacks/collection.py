"""Collects the return values of `test_step` and `predict_step` into one table with one row per patient."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypedDict, TypeVar, cast

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from numpy.typing import NDArray
from torch import Tensor

from dmml.callbacks.processes import gather
from dmml.evaluation.predictions import prediction_row
from dmml.types import Batch, SubspaceOutput

Collected = TypeVar("Collected")


class PatientCollector(Callback, Generic[Collected]):
    """Collects data of every tested patient over all processes.

    A subclass defines how to reset (`_reset`), what to collect from a batch (`_collect`), what a process has collected
    (`_collected`), and how the data of all processes are merged (`_merge`).
    """

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the data of an earlier run."""
        self._reset()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect a batch."""
        self._collect(outputs, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merge the data of all processes."""
        self._merge(gather(trainer, self._collected()))

    def _reset(self) -> None:
        raise NotImplementedError

    def _collect(self, outputs: STEP_OUTPUT, batch: Batch) -> None:
        raise NotImplementedError

    def _collected(self) -> Collected:
        raise NotImplementedError

    def _merge(self, collected: list[Collected]) -> None:
        raise NotImplementedError


class StepOutput(TypedDict):
    """What `test_step` and `predict_step` return."""

    predictions: dict[str, Tensor]
    """{column: (B,)}"""
    outcome: dict[str, list[Any]]
    """{column: B values}"""
    output: SubspaceOutput


class BagMaps(TypedDict):
    """Arrays of one patient's N tokens at one magnification."""

    position: NDArray
    """(N, 2) µm"""
    slide: NDArray
    """(N,) index of the slide"""
    attention: dict[str, NDArray]
    """{subspace: (N,)}"""


class TokenMaps(TypedDict):
    """Position, slide and attention of one patient's tokens."""

    patient_id: str
    bags: dict[int, BagMaps]
    """{magnification: arrays}"""


Programs = dict[str, dict[tuple[int, str], NDArray[np.float32]]]
"""{patient: {(magnification, subspace): (P,) predicted program scores}}, for the magnifications that the patient has"""


class _Predicted(NamedTuple):
    """What a process contributes to the predictions of all patients."""

    rows: list[dict[str, Any]]
    programs: Programs


class CollectPredictions(PatientCollector[_Predicted]):
    """Keeps predictions and predicted programs of all patients, and token attention of as many as memory allows.

    Steps return `{"predictions": {column: (B,)}, "outcome": {column: [...]}, "output": SubspaceOutput}`. With several
    processes, rows and programs are gathered, and a patient whom the sampler used twice is kept once. Columns that linear
    models have as well belong into `prediction_row` (`dmml/evaluation/predictions.py`), all others into `_collect`.

    Args:
        attention_mib: Memory in MiB for token attention. The report selects from it after all patients are predicted.
    """

    def __init__(self, attention_mib: float = 256):
        self.attention_mib = attention_mib
        self._reset()

    def _reset(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.attention: list[TokenMaps] = []
        self.programs: Programs = {}
        self._bytes_left = self.attention_mib * 2**20

    def _collect(self, outputs: STEP_OUTPUT, batch: Batch) -> None:
        step = cast(StepOutput, outputs)
        output, columns = step["output"], _to_numpy(step["predictions"])
        n_tokens = {m: bag.mask.sum(1).cpu().numpy() for m, bag in batch.bags.items()}
        for i, patient in enumerate(batch.patient_id):
            outcome = {name: values[i] for name, values in step["outcome"].items()}
            predictions = {name: float(values[i]) for name, values in columns.items()}
            row = prediction_row(patient, outcome, predictions, bool(batch.has_expression[i]))
            row |= {
                f"n_tokens_{m}x": int(n_tokens[m][i]) if m in n_tokens else 0 for m in output.logits_by_magnification
            }
            self.rows.append(row)
            if self._bytes_left > 0 and any(counts[i] for counts in n_tokens.values()):
                self.attention.append(_token_maps(output, batch, i))
                self._bytes_left -= _n_bytes(self.attention[-1])
            self.programs[patient] = {
                (m, s): scores[i].float().cpu().numpy()
                for (m, s), scores in output.programs.items()
                if m in n_tokens and n_tokens[m][i]
            }

    def _collected(self) -> _Predicted:
        return _Predicted(self.rows, self.programs)

    def _merge(self, collected: list[_Predicted]) -> None:
        rows = {row["patient_id"]: row for part in collected for row in part.rows}
        self.rows = list(rows.values())
        self.programs = {patient: scores for part in collected for patient, scores in part.programs.items()}

    on_predict_start = PatientCollector.on_test_start
    on_predict_batch_end = PatientCollector.on_test_batch_end
    on_predict_epoch_end = PatientCollector.on_test_epoch_end


def _to_numpy(columns: dict[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    return {name: values.detach().cpu().double().numpy() for name, values in columns.items()}


def _token_maps(output: SubspaceOutput, batch: Batch, i: int) -> TokenMaps:
    """Return position, slide and attention of one patient's real tokens at each magnification."""
    maps: TokenMaps = {"patient_id": batch.patient_id[i], "bags": {}}
    for m, bag in batch.bags.items():
        real = bag.mask[i]
        maps["bags"][m] = {
            "position": bag.position[i][real].cpu().numpy(),
            "slide": bag.slide[i][real].cpu().numpy(),
            "attention": {s: a[i][real].float().cpu().numpy() for (k, s), a in output.attention.items() if k == m},
        }
    return maps


def _n_bytes(maps: TokenMaps) -> int:
    """Return the size of a patient's token maps in bytes."""
    bags = maps["bags"].values()
    return sum(a.nbytes for bag in bags for a in (bag["position"], bag["slide"], *bag["attention"].values()))
