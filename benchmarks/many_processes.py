"""Small fits that compare one process with several; each process writes a file with its final state.

    python benchmarks/many_processes.py --processes 2 --of 2 --data DATA.yaml --out FOLDER --cases shared,validated

DATA.yaml has the arguments of a `MultimodalDataModule`. Each process writes `<case>_<processes>_<rank>.pt`.
`benchmarks/verify_gpus.py` and `tests/training/test_processes.py` start it and compare.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import argparse
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import nn

from dmml.callbacks.coordination import GradientCoordination
from dmml.callbacks.nan_guard import NanGuard
from dmml.callbacks.resumable import Resumable
from dmml.data.module import MultimodalDataModule
from dmml.nn.fusion import DeformableFusion
from dmml.tasks import Survival
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher
from dmml.training.weighting import PatientWeightedLoss

STEPS = 3
SHARE = 4
"""Patients per step of one of several processes; a single process has those of all."""


@dataclass(frozen=True)
class Case:
    """A fit, described by its differences from three steps of a teacher with shared scope and a third without RNA."""

    scope: str = "shared"
    accumulate: int = 1
    student: bool = False
    """distilled from the teacher of the case `shared`"""
    lacking: bool = False
    """one process's patients have no RNA in the first step, no tissue in the second, no outcome or event in the third"""
    cox: bool = False
    """a likelihood that compares patients of a batch: several processes agree with each other, but not with one"""
    validates: bool = False
    """an epoch without learning, after which all patients are validated in batches of three"""
    whole: bool = False
    """an epoch with dropout and AdamW, as in a user's fit"""
    precision: str = "32-true"
    compile: bool = False
    resumable: bool = False
    """two epochs as in a user's fit, with `last.ckpt`"""
    rna: bool = False
    """without slides"""
    unguided: bool = False
    """the loss does not use the predicted programs"""
    signum: int = 0
    """signal that is sent to the last process in the second epoch"""
    resumed: str = ""
    """case whose run is resumed"""
    poisoned: bool = False
    """a value of the last process's second batch is NaN"""

    @property
    def exact(self) -> bool:
        """Whether several processes must give the result of one."""
        return not (self.whole or self.resumable or self.poisoned)


CASES = {
    "shared": Case(),
    "accumulated": Case(scope="classifier", accumulate=2),
    "lacking": Case(lacking=True),
    "student": Case(student=True),
    "cox": Case(lacking=True, cox=True),
    "rna": Case(scope="classifier", rna=True),
    "unguided": Case(unguided=True),
    "validated": Case(scope="classifier", validates=True),
    "bf16-mixed": Case(whole=True, precision="bf16-mixed"),
    "16-mixed": Case(whole=True, precision="16-mixed"),
    "compiled": Case(whole=True, compile=True),
    "undisturbed": Case(resumable=True),
    "sigterm": Case(resumable=True, signum=signal.SIGTERM),
    "sigterm_resumed": Case(resumable=True, resumed="sigterm"),
    "sigint": Case(resumable=True, signum=signal.SIGINT),
    "sigint_resumed": Case(resumable=True, resumed="sigint"),
    "poisoned": Case(poisoned=True),
}


class TrainingAsValidation(MultimodalDataModule):
    """Uses the training patients for validation, too, because there are enough of them, and an odd number."""

    def patients(self, part: str) -> list[str]:
        """See `MultimodalDataModule`."""
        if part != "val":
            return super().patients(part)
        everybody = self._parts["train"] + self._parts["val"]
        return everybody[: len(everybody) - 1 + len(everybody) % 2]


class RemoveData(Callback):
    """Removes data from batches as a case requires, and disables dropout where results must be equal."""

    def __init__(self, case: Case, of: int):
        self.case, self.of = case, of

    def on_fit_start(self, trainer: Trainer, module: Any) -> None:
        """Disable dropout, since processes draw different numbers."""
        for part in module.modules() if self.case.exact else ():
            if isinstance(part, nn.Dropout | nn.AlphaDropout):
                part.p = 0.0
            if isinstance(getattr(part, "dropout", None), float):  # of attention, where dropout is not a module
                part.dropout = 0.0

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Remove data of the same patients, whichever process has them."""
        if self.case.exact:
            everyone = sorted(trainer.datamodule.patients("train"))
            third = [everyone.index(patient) % 3 == 0 for patient in batch.patient_id]
            batch.has_expression &= ~torch.tensor(third, device=batch.has_expression.device)
        if self.case.lacking:
            self._lack(trainer, batch, trainer.global_step)
        if self.case.poisoned and self._last(trainer) and batch_idx == 1:
            batch.bags[10].features[0, 0, 0] = torch.nan
        if self.case.signum and self._last(trainer) and (trainer.current_epoch, batch_idx) == (1, 1):
            os.kill(os.getpid(), self.case.signum)

    def _last(self, trainer: Trainer) -> bool:
        return trainer.global_rank == trainer.world_size - 1

    def _lack(self, trainer: Trainer, batch: Any, step: int) -> None:
        places = torch.arange(len(batch.patient_id), device=batch.has_expression.device)
        rank = trainer.global_rank if trainer.world_size > 1 else places // SHARE
        of_last_process = (0 * places + rank) == self.of - 1
        if step == 0:
            batch.has_expression &= ~of_last_process
        if step == 1:
            for magnification, bag in list(batch.bags.items()):
                bag.mask &= ~of_last_process[:, None]
                if not bag.mask.any():
                    del batch.bags[magnification]  # as if no patient of the batch had any
        if step == 2:
            batch.target["event"] *= ~of_last_process
            batch.target["observed"] &= ~of_last_process | (places % 2 > 0)


class Record(Callback):
    """Records the patients of training and validation and the final state of a process."""

    def __init__(self, path: Path):
        self.path = path
        self.learned: list[list[str]] = []
        self.has_rna: list[bool] = []
        self.validated: list[list[str]] = []

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Record the patients of a training step."""
        self.learned.append(list(batch.patient_id))
        self.has_rna += batch.has_expression.tolist()

    def on_validation_batch_start(self, trainer: Trainer, module: Any, batch: Any, *place: Any) -> None:
        """Record the patients of a validation step."""
        self.validated.append(list(batch.patient_id))

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        """Write the final state."""
        figures = {name: value.item() for name, value in trainer.callback_metrics.items()}
        weights = {name: value.detach().cpu() for name, value in module.state_dict().items()}
        self._write(trainer, weights=weights, figures=figures)

    def on_exception(self, trainer: Trainer, module: Any, exception: BaseException) -> None:
        """Write the exception that ended the fit."""
        self._write(trainer, ended=type(exception).__name__, message=str(exception))

    def _write(self, trainer: Trainer, **more: Any) -> None:
        seen = {"learned": self.learned, "has_rna": self.has_rna, "validated": self.validated}
        torch.save(seen | more, f"{self.path}_{trainer.world_size}_{trainer.global_rank}.pt")


def model_of(case: Case, out: Path) -> SubspaceTeacher | SubspaceStudent:
    """The small model of a case."""
    # All parts of dmml, its defaults or not; decorrelation compares the patients of a batch, which is then another.
    parts: dict[str, Any] = {"consistency_weight": 0.1, "decorrelation_weight": 0.0 if case.exact else 0.05}
    task = Survival(likelihood="cox") if case.cox else Survival()
    if case.student:
        model: SubspaceTeacher | SubspaceStudent = SubspaceStudent(
            width=16,
            teacher=str(out / "teacher.ckpt"),
            teacher_program_weight=0.3,
            **parts,
        )
    else:
        parts |= {"expression_dropout": 0.0} if case.exact else {}
        parts |= {"program_weight": 0.0, "consistency_weight": 0.0} if case.unguided else {}
        model = SubspaceTeacher(width=16, task=task, fusion=DeformableFusion, compile=case.compile, **parts)
    if case.exact:  # Adam would turn a gradient of rounding errors into a full step
        rate = 0.0 if case.validates else 0.05
        model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=rate)  # type: ignore[method-assign]
    return model


def fit(name: str, args: argparse.Namespace) -> None:
    """Run one case."""
    case, world = CASES[name], args.processes
    # As `dmml fit` does: several processes seed again from the environment variable, whoever set it last.
    seed_everything(11, verbose=False)
    folder = args.out / f"{case.resumed or name}_{world}"
    callbacks: list[Callback] = [
        RemoveData(case, args.of),
        GradientCoordination(scope=case.scope),
        PatientWeightedLoss(),
    ]
    callbacks += [NanGuard()] if case.poisoned else []
    callbacks += [Resumable(every=1)] if case.resumable else []
    length = {"max_epochs": 2} if case.resumable else {"max_epochs": 1}
    trainer = Trainer(
        **({"max_steps": STEPS} if case.exact and not case.validates else length),
        accumulate_grad_batches=case.accumulate,
        precision=case.precision,
        callbacks=[*callbacks, Record(args.out / name)],
        accelerator=args.accelerator,
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        logger=False,
        enable_checkpointing=case.resumable,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    step = args.of * SHARE // (world * case.accumulate)
    section = yaml.safe_load(args.data.read_text()) | {"batch_size": step if case.exact else 2}
    if case.rna:
        section["features"] = None
    if case.validates or case.cox:
        section["batch_size"] = 3 if case.validates else 8  # so that each batch has some events
    data = (TrainingAsValidation if case.validates else MultimodalDataModule)(**section)
    last = folder / "checkpoints" / "last.ckpt"
    try:
        trainer.fit(model_of(case, args.out), data, ckpt_path=last if case.resumed else None, weights_only=True)
    except BaseException:
        if not (case.signum or case.poisoned):  # in which case it is expected, and `Record` has written it
            raise
    if name == "shared" and world == 1:
        trainer.save_checkpoint(args.out / "teacher.ckpt")


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--of", type=int, required=True, help="processes that one is compared with")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", required=True, help=f"of {', '.join(CASES)}")
    parser.add_argument("--accelerator", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for name in args.cases.split(","):
        fit(name, args)


if __name__ == "__main__":
    run()
