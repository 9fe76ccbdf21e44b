"""What the test of several processes runs, in as many processes as it is told: `two_processes.py WORLD COHORT OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.strategies import DDPStrategy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cohorts import data_of

from dmml.callbacks.coordination import GradientCoordination
from dmml.callbacks.resumable import Resumable
from dmml.data.module import MultimodalDataModule
from dmml.training.teacher import SubspaceTeacher
from dmml.training.weighting import PatientWeightedLoss

STEPS = 3


class Remember(Callback):
    """Which patients each process learned from and validated on, and the validation figures."""

    def __init__(self):
        self.learned, self.known, self.validated, self.figures = [], [], [], {}

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.learned.append(list(batch.patient_id))
        self.known += batch.has_expression.tolist()

    def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
        self.validated.append(list(batch.patient_id))

    def on_validation_end(self, trainer, module):
        self.figures = {
            name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val")
        }


class SomeWithoutRna(Callback):
    """Hides the RNA of every third patient of the cohort; the cohort itself has everybody's."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        patients = sorted(trainer.datamodule.patients("train"))
        batch.has_expression &= torch.tensor([patients.index(patient) % 3 > 0 for patient in batch.patient_id])


class NoDropout(Callback):
    """Of any kind, anywhere: processes draw differently."""

    def on_fit_start(self, trainer, module):
        for part in module.modules():
            if isinstance(part, torch.nn.Dropout | torch.nn.AlphaDropout):
                part.p = 0.0


class AllValidate(MultimodalDataModule):
    """Everybody stands in for the validation patients, so that there are enough of them."""

    def patients(self, part):
        return self._parts["train"] + self._parts["val"] if part == "val" else super().patients(part)


class Keep(Callback):
    """Writes what a process ends with."""

    def __init__(self, path: Path, remember: Remember):
        self.path, self.remember = path, remember

    def on_train_end(self, trainer, module):
        weights = [parameter.detach().clone() for parameter in module.parameters()]
        seen = {name: getattr(self.remember, name) for name in ("learned", "known", "validated", "figures")}
        torch.save({"weights": weights} | seen, f"{self.path}_{trainer.global_rank}.pt")


def fit(world: int, cohort: Path, out: Path, name: str, scope: str, accumulate: int, lr: float = 0.05) -> None:
    """Three steps with the same patients in each, however many processes there are."""
    # As `dmml fit` seeds: several processes draw anew from the seed that the environment names, whoever set it last.
    seed_everything(11, verbose=False)
    model = SubspaceTeacher(width=16, expression_dropout=0.0, decorrelation_weight=0.0)
    # SGD: Adam would make a whole step of a gradient that is nothing but rounding.
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=lr)
    batch_size = 3 if name == "validated" else 8 // (world * accumulate)
    data = data_of(cohort, kind=AllValidate, batch_size=batch_size)
    remember = Remember()
    own = [
        SomeWithoutRna(),
        NoDropout(),
        GradientCoordination(scope=scope),
        PatientWeightedLoss(),
        Resumable(),
        remember,
    ]
    many = {"devices": world, "strategy": DDPStrategy(process_group_backend="gloo", start_method="fork")}
    Trainer(
        **({"max_epochs": 1} if name == "validated" else {"max_steps": STEPS}),
        accumulate_grad_batches=accumulate,
        callbacks=[*own, Keep(out / f"{name}_{world}", remember)],
        accelerator="cpu",
        logger=False,
        default_root_dir=out / f"{name}_{world}",
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **(many if world > 1 else {}),
    ).fit(model, data)


def fit_all(world: int, cohort: Path, out: Path) -> None:
    """Every case."""
    torch.set_num_threads(1)
    fit(world, cohort, out, "shared", "shared", 1)
    fit(world, cohort, out, "accumulated", "classifier", 2)
    # Nothing is learned, so that both validate the same weights: 20 patients in batches of three.
    fit(world, cohort, out, "validated", "classifier", 1, lr=0.0)


if __name__ == "__main__":
    fit_all(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
