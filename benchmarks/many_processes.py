"""What each process does when one process and several are compared: small fits, and a file of what each ended with.

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
from dmml.tasks import Survival
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher
from dmml.training.weighting import PatientWeightedLoss

STEPS = 3
SHARE = 4
"""Patients that one of several processes has in a step; one process alone has those of all."""


@dataclass(frozen=True)
class Case:
    """How a fit differs from three steps of a teacher with the shared scope and every third patient without RNA."""

    scope: str = "shared"
    accumulate: int = 1
    student: bool = False
    """distilled from the teacher that `shared` left"""
    lacking: bool = False
    """one process's patients have no RNA in the first step, no tissue in the second, no outcome or event in the third"""
    cox: bool = False
    """a likelihood that compares batch mates: several processes agree among each other, not with one"""
    validates: bool = False
    """an epoch that learns nothing, after which everybody is validated in batches of three"""
    whole: bool = False
    """an epoch with dropout, by AdamW, as a user fits"""
    precision: str = "32-true"
    compile: bool = False
    resumable: bool = False
    """two epochs as a user fits, with `last.ckpt`"""
    rna: bool = False
    """without slides"""
    unguided: bool = False
    """nothing in the loss reads the predicted programs"""
    signum: int = 0
    """sent to the last process in the second epoch"""
    resumed: str = ""
    """goes on with the run of this case"""
    poisoned: bool = False
    """a value of the last process's second batch is no number"""

    @property
    def exact(self) -> bool:
        """Whether several processes must do what one does."""
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


class Everybody(MultimodalDataModule):
    """Training patients stand in for the validation patients as well: enough of them, and an odd number."""

    def patients(self, part: str) -> list[str]:
        """See `MultimodalDataModule`."""
        if part != "val":
            return super().patients(part)
        everybody = self._parts["train"] + self._parts["val"]
        return everybody[: len(everybody) - 1 + len(everybody) % 2]


class Disturb(Callback):
    """Takes from batches what a case asks for, and keeps dropout out of what must be equal."""

    def __init__(self, case: Case, of: int):
        self.case, self.of = case, of

    def on_fit_start(self, trainer: Trainer, module: Any) -> None:
        """Processes draw differently."""
        for part in module.modules() if self.case.exact else ():
            if isinstance(part, nn.Dropout | nn.AlphaDropout):
                part.p = 0.0
            if isinstance(getattr(part, "dropout", None), float):  # of attention, which is no module
                part.dropout = 0.0

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """The same patients lose the same, whichever process has them."""
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
        mine = trainer.global_rank if trainer.world_size > 1 else places // SHARE
        theirs = (0 * places + mine) == self.of - 1
        if step == 0:
            batch.has_expression &= ~theirs
        if step == 1:
            for magnification, bag in list(batch.bags.items()):
                bag.mask &= ~theirs[:, None]
                if not bag.mask.any():
                    del batch.bags[magnification]  # as where no patient of a batch has any
        if step == 2:
            batch.target["event"] *= ~theirs
            batch.target["observed"] &= ~theirs | (places % 2 > 0)


class Keep(Callback):
    """What a process learned from, validated, and ended with."""

    def __init__(self, path: Path):
        self.path = path
        self.learned: list[list[str]] = []
        self.known: list[bool] = []
        self.validated: list[list[str]] = []

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Who is learned from."""
        self.learned.append(list(batch.patient_id))
        self.known += batch.has_expression.tolist()

    def on_validation_batch_start(self, trainer: Trainer, module: Any, batch: Any, *place: Any) -> None:
        """Who is validated."""
        self.validated.append(list(batch.patient_id))

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        """Write."""
        figures = {name: value.item() for name, value in trainer.callback_metrics.items()}
        weights = {name: value.detach().cpu() for name, value in module.state_dict().items()}
        self._write(trainer, weights=weights, figures=figures)

    def on_exception(self, trainer: Trainer, module: Any, exception: BaseException) -> None:
        """Write what ended it."""
        self._write(trainer, ended=type(exception).__name__, told=str(exception))

    def _write(self, trainer: Trainer, **more: Any) -> None:
        seen = {"learned": self.learned, "known": self.known, "validated": self.validated}
        torch.save(seen | more, f"{self.path}_{trainer.world_size}_{trainer.global_rank}.pt")


def model_of(case: Case, out: Path) -> SubspaceTeacher | SubspaceStudent:
    """What is fitted, small."""
    off: dict[str, Any] = {"decorrelation_weight": 0.0} if case.exact else {}  # it compares the patients of a batch
    task = Survival(likelihood="cox") if case.cox else Survival()
    if case.student:
        model: SubspaceTeacher | SubspaceStudent = SubspaceStudent(width=16, teacher=str(out / "teacher.ckpt"), **off)
    else:
        off |= {"expression_dropout": 0.0} if case.exact else {}
        off |= {"program_weight": 0.0, "consistency_weight": 0.0} if case.unguided else {}
        model = SubspaceTeacher(width=16, task=task, compile=case.compile, **off)
    if case.exact:  # Adam would make a whole step of a gradient that is nothing but rounding
        rate = 0.0 if case.validates else 0.05
        model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=rate)  # type: ignore[method-assign]
    return model


def fit(name: str, args: argparse.Namespace) -> None:
    """One case."""
    case, world = CASES[name], args.processes
    # As `dmml fit` seeds: several processes draw anew from the seed that the environment names, whoever set it last.
    seed_everything(11, verbose=False)
    folder = args.out / f"{case.resumed or name}_{world}"
    callbacks: list[Callback] = [Disturb(case, args.of), GradientCoordination(scope=case.scope), PatientWeightedLoss()]
    callbacks += [NanGuard()] if case.poisoned else []
    callbacks += [Resumable(every=1)] if case.resumable else []
    length = {"max_epochs": 2} if case.resumable else {"max_epochs": 1}
    trainer = Trainer(
        **({"max_steps": STEPS} if case.exact and not case.validates else length),
        accumulate_grad_batches=case.accumulate,
        precision=case.precision,
        callbacks=[*callbacks, Keep(args.out / name)],
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
        section["batch_size"] = 3 if case.validates else 8  # some events a batch
    data = (Everybody if case.validates else MultimodalDataModule)(**section)
    last = folder / "checkpoints" / "last.ckpt"
    try:
        trainer.fit(model_of(case, args.out), data, ckpt_path=last if case.resumed else None, weights_only=True)
    except BaseException:
        if not (case.signum or case.poisoned):  # there it is what must happen, and `Keep` has written it
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
