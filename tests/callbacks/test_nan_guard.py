"""A loss that is not finite ends the run, names its patients and saves the batch; and the progress line per epoch."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cohorts import data_of
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from dmml.callbacks.nan_guard import NanGuard
from dmml.callbacks.progress import Progress
from dmml.commands.console import show_log
from dmml.errors import InputError
from dmml.training.teacher import SubspaceTeacher

QUIET = {"logger": False, "enable_model_summary": False, "accelerator": "cpu", "enable_checkpointing": False}


class Poison(Callback):
    """Writes a value that is not finite into a batch or the weights."""

    def __init__(self, at, where):
        self.at, self.where, self.patients, self.left = at, where, None, at

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.left -= 1
        if self.left == 0:
            self.patients = list(batch.patient_id)
            if self.where == "features":
                batch.bags[20].features[1, 0, 0] = torch.nan
            elif self.where == "rna":
                batch.expression["tme"][0, 0] = torch.inf
            else:
                next(module.parameters()).data.fill_(torch.nan)


@pytest.mark.parametrize(
    ("where", "at", "cause"),
    [("features", 2, "features at 20x of {1}"), ("rna", 3, "RNA (tme) of {0}"), ("weights", 1, "lower model.lr")],
)
def test_a_loss_that_is_not_finite_names_the_patients_and_saves_the_batch(cohort, tmp_path, where, at, cause):
    poison = Poison(at, where)
    torch.manual_seed(0)
    trainer = Trainer(
        max_epochs=2, callbacks=[poison, NanGuard()], default_root_dir=tmp_path, enable_progress_bar=False, **QUIET
    )
    with pytest.raises(InputError) as error:
        trainer.fit(SubspaceTeacher(width=16, expression_dropout=0.0), data_of(cohort))
    message = str(error.value)
    assert message.startswith(", ".join(poison.patients))
    assert cause.format(*poison.patients) in message
    path = next(tmp_path.glob("nan_batch_*.npz"))
    assert str(path) in message
    with np.load(path, allow_pickle=False) as kept:
        assert kept["patient_id"].tolist() == poison.patients
        assert kept["10x_features"].dtype == np.float16
        assert {"parent", "20x_mask", "expression_tumor", "target_event", "has_expression"} <= set(kept)
        assert np.isnan(kept["20x_features"]).any() == (where == "features")
    assert trainer.current_epoch == 0  # also when the last batch of the epoch is the bad one


def test_each_epoch_is_logged_in_one_line(cohort, caplog):
    trainer = Trainer(max_epochs=3, callbacks=[NanGuard(), Progress()], num_sanity_val_steps=0, **QUIET)
    with caplog.at_level(logging.INFO, "dmml"):
        trainer.fit(SubspaceTeacher(width=16), data_of(cohort))
    lines = [line for line in caplog.messages if line.startswith("epoch")]
    assert [line[:12] for line in lines] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    assert all("train/loss" in line and "val/loss" in line and "val/c_index" in line for line in lines)
    assert "left" in lines[0]
    assert "left" not in lines[-1]


def test_the_line_of_an_epoch_is_printed_unless_quiet(capsys):
    trainer = SimpleNamespace(current_epoch=0, max_epochs=2, callback_metrics={"train/loss": 0.5})
    with show_log():
        Progress().on_train_epoch_end(trainer, None)
    assert capsys.readouterr().out.startswith("epoch 1 of 2: train/loss 0.500, at most ")
    with show_log(logging.WARNING):
        Progress().on_train_epoch_end(trainer, None)
    assert capsys.readouterr() == ("", "")


def test_a_validation_loss_that_is_not_finite_ends_the_run_and_names_the_patients(cohort, tmp_path):
    class PoisonValidation(Callback):
        patients = None

        def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
            if trainer.current_epoch == 1:
                self.patients = list(batch.patient_id)
                batch.bags[20].features[0, 0, 0] = torch.nan

    poison = PoisonValidation()
    callbacks = [poison, NanGuard(), EarlyStopping("val/loss")]
    trainer = Trainer(max_epochs=3, callbacks=callbacks, default_root_dir=tmp_path, enable_progress_bar=False, **QUIET)
    with pytest.raises(InputError) as error:
        trainer.fit(SubspaceTeacher(width=16), data_of(cohort))
    assert str(error.value).startswith(
        ", ".join(poison.patients) + ": the validation loss of this batch is not a finite"
    )
