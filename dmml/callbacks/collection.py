"""Collects the return values of `test_step` and `predict_step` into one table with one row per patient."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from dmml.callbacks.processes import gather
from dmml.types import Batch


class PatientCollector(Callback):
    """Collects data of every tested patient over all processes.

    A subclass defines how to reset (`_forget`), what to collect from a batch (`_collect`), what a process contributes
    (`_part`), and how the contributions of all processes are merged (`_join`).
    """

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the data of an earlier run."""
        self._forget()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect a batch."""
        self._collect(outputs, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merge the data of all processes."""
        self._join(gather(trainer, self._part()))


class CollectPredictions(PatientCollector):
    """Keeps predictions and predicted programs of all patients, and token attention of as many as memory allows.

    Steps return `{"predictions": {column: (B,)}, "outcome": {column: [...]}, "output": SubspaceOutput}`. With several
    processes, rows and programs are gathered, and a patient whom the sampler used twice is kept once.

    Args:
        attention_mib: Memory in MiB for token attention. The report selects from it after all patients are predicted.
    """

    def __init__(self, attention_mib: float = 256):
        self.attention_mib = attention_mib
        self._forget()

    def _forget(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.attention: list[dict[str, Any]] = []
        self.programs: dict[str, dict[tuple[int, str], Any]] = {}  # {patient: {(magnification, subspace): (P,)}}
        self._room = self.attention_mib * 2**20

    def _collect(self, outputs: dict[str, Any], batch: Batch) -> None:
        columns = {name: values.detach().cpu().double().numpy() for name, values in outputs["predictions"].items()}
        tokens = {m: bag.mask.sum(1).cpu().numpy() for m, bag in batch.bags.items()}
        magnifications = outputs["output"].logits_by_magnification
        for i, patient in enumerate(batch.patient_id):
            row: dict[str, Any] = {"patient_id": patient}
            row |= {name: values[i] for name, values in outputs["outcome"].items()}
            row |= {name: float(values[i]) for name, values in columns.items()}
            row["has_expression"] = int(batch.has_expression[i])
            row |= {f"n_tokens_{m}x": int(tokens[m][i]) if m in tokens else 0 for m in magnifications}
            self.rows.append(row)
            if self._room > 0 and any(counts[i] for counts in tokens.values()):
                self.attention.append(_token_maps(outputs["output"], batch, i))
                self._room -= _size(self.attention[-1])
            told = outputs["output"].programs.items()
            self.programs[patient] = {
                (m, s): scores[i].float().cpu().numpy() for (m, s), scores in told if m in tokens and tokens[m][i]
            }

    def _part(self) -> Any:
        return self.rows, self.programs

    def _join(self, parts: list[Any]) -> None:
        rows = {row["patient_id"]: row for rows, _ in parts for row in rows}
        self.rows = list(rows.values())
        self.programs = {patient: scores for _, programs in parts for patient, scores in programs.items()}

    on_predict_start = PatientCollector.on_test_start
    on_predict_batch_end = PatientCollector.on_test_batch_end
    on_predict_epoch_end = PatientCollector.on_test_epoch_end


def _token_maps(output: Any, batch: Batch, i: int) -> dict[str, Any]:
    """Return position, slide and attention of one patient's real tokens at each magnification."""
    maps: dict[str, Any] = {"patient_id": batch.patient_id[i], "bags": {}}
    for m, bag in batch.bags.items():
        real = bag.mask[i]
        maps["bags"][m] = {
            "position": bag.position[i][real].cpu().numpy(),
            "slide": bag.slide[i][real].cpu().numpy(),
            "attention": {s: a[i][real].float().cpu().numpy() for (k, s), a in output.attention.items() if k == m},
        }
    return maps


def _size(maps: dict[str, Any]) -> int:
    """Return the size of a patient's token maps in bytes."""
    bags = maps["bags"].values()
    return sum(a.nbytes for bag in bags for a in (bag["position"], bag["slide"], *bag["attention"].values()))
