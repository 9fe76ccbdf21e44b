"""A student warms up on the task alone, then learns from its teacher, which is evaluated once per patient."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from batches import DIM, make_batch, one_patient
from cohorts import data_of
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from models import ALL_PARTS, build

from dmml.callbacks.resumable import Resumable
from dmml.errors import InputError
from dmml.networks.checkpoint_content import FORMAT, FORMAT_KEY
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher

QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
    "num_sanity_val_steps": 0,
}


class Watch(Callback):
    """The loss terms of every epoch, and how often the teacher was evaluated until its end."""

    def __init__(self):
        self.terms, self.evaluations = [], []

    def on_train_epoch_end(self, trainer, pl_module):
        self.terms.append({name for name in trainer.callback_metrics if name.startswith("train/distill")})
        self.evaluations.append(pl_module.calls)


class Counting(SubspaceStudent):
    """A student that counts the evaluations of its teacher in steps and keeps the outputs."""

    def __init__(self, *args, **named):
        super().__init__(*args, **named)
        self.calls, self.live = 0, 0

    def cache_teacher_outputs(self, batches):
        teacher = self._teacher[0]
        handle = teacher.register_forward_hook(lambda *_: setattr(self, "calls", self.calls + 1))
        super().cache_teacher_outputs(batches)
        handle.remove()
        teacher.register_forward_hook(lambda *_: setattr(self, "live", self.live + self.training))


@pytest.fixture(scope="module")
def teacher_path(cohort, tmp_path_factory):
    torch.manual_seed(0)
    teacher, path = SubspaceTeacher(width=16), tmp_path_factory.mktemp("teacher") / "t.ckpt"
    trainer = Trainer(max_epochs=1, enable_checkpointing=False, **QUIET)
    trainer.fit(teacher, data_of(cohort))
    trainer.save_checkpoint(path)
    return str(path)


def by_hand(model, path):
    """A checkpoint as a plain script writes one."""
    kept = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    torch.save(kept | {"pytorch-lightning_version": "2.6.0", FORMAT_KEY: FORMAT}, path)
    return str(path)


def student(teacher_path, **changes):
    torch.manual_seed(1)
    return Counting(width=16, teacher=teacher_path, **ALL_PARTS["student"] | changes)


@pytest.mark.slow
def test_the_teacher_is_evaluated_once_per_patient_and_only_after_the_warm_up(cohort, teacher_path):
    model, watch = student(teacher_path, distill_after=0.5), Watch()
    data = data_of(cohort)
    Trainer(max_epochs=4, enable_checkpointing=False, callbacks=[watch], **QUIET).fit(model, data)
    names = {"train/distill_prediction", "train/distill_features", "train/distill_programs"}
    assert [bool(terms) for terms in watch.terms] == [False, False, True, True]
    assert watch.terms[2] == names
    assert watch.evaluations[:2] == [0, 0]
    assert watch.evaluations[2] == watch.evaluations[3] > 0
    assert model.live == 0


@pytest.mark.slow
def test_a_run_resumed_during_distillation_is_identical_to_an_uninterrupted_run(cohort, teacher_path, tmp_path):
    torch.manual_seed(1)
    whole = student(teacher_path, distill_after=0.4)
    Trainer(max_epochs=4, callbacks=[Resumable(str(tmp_path / "whole"))], **QUIET).fit(whole, data_of(cohort))

    class StopAfter(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 3:
                raise KeyError("stopped here")

    torch.manual_seed(1)
    cut = student(teacher_path, distill_after=0.4)
    trainer = Trainer(max_epochs=4, callbacks=[Resumable(str(tmp_path / "cut")), StopAfter()], **QUIET)
    with pytest.raises(KeyError, match="stopped here"):
        trainer.fit(cut, data_of(cohort))
    again = student(teacher_path, distill_after=0.4)
    trainer = Trainer(max_epochs=4, callbacks=[Resumable(str(tmp_path / "cut"))], **QUIET)
    trainer.fit(again, data_of(cohort), ckpt_path=str(tmp_path / "cut" / "last.ckpt"))
    assert again.calls > 0
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.slow
def test_early_stopping_starts_again_with_distillation(cohort, teacher_path):
    """A loss that never gets better: patience of 2 would end the fit in epoch 2, before distillation began."""

    class NeverBetter(Counting):
        def on_validation_epoch_end(self):
            self.log("val/loss", torch.tensor(1.0 + self.current_epoch))

    torch.manual_seed(1)
    model = NeverBetter(width=16, teacher=teacher_path, distill_after=0.2)
    stopping = EarlyStopping("val/loss", patience=2)
    trainer = Trainer(max_epochs=10, enable_checkpointing=False, callbacks=[stopping], **QUIET)
    trainer.fit(model, data_of(cohort))
    assert stopping.stopped_epoch == 3, "epochs 2 and 3 without progress, counted from where distillation began"
    assert model.calls > 0


def test_remembered_outputs_of_the_teacher_give_the_same_losses_as_new_ones(tmp_path):
    batch = make_batch((5, 9, 1, 30), (20, 40, 3, 9))
    model = SubspaceStudent(n_features=DIM, width=16, teacher=by_hand(build("teacher"), tmp_path / "t.ckpt"))
    model.setup("fit")
    model.eval()
    anew = model.losses(batch)
    model.cache_teacher_outputs([one_patient(batch, i) for i in (2, 0, 3, 1)])
    remembered = model.losses(batch)
    assert model._cached_outputs(batch) is not None
    for name, value in anew.parts.items():
        torch.testing.assert_close(remembered.parts[name], value, atol=1e-5, rtol=1e-5)
    unknown_patient = one_patient(batch, 0)
    unknown_patient.patient_id = ["someone else"]
    assert model._cached_outputs(unknown_patient) is None
    assert model.losses(unknown_patient).parts["distill_prediction"].isfinite()


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_leaves_no_distillation_is_refused(share):
    with pytest.raises(InputError, match="distill_after"):
        SubspaceStudent(distill_after=share)


class MeanOfTwo:
    """A user's own source of targets: the mean prediction of two teachers, without embeddings."""

    width = None

    def __init__(self, teachers):
        self.teachers, self.patients = [teacher.eval().requires_grad_(False) for teacher in teachers], set()

    @property
    def fitted_each(self):
        return [teacher.fitted for teacher in self.teachers]

    def to(self, device):
        return self

    def __call__(self, batch):
        self.patients |= set(batch.patient_id)
        first, second = (teacher(batch) for teacher in self.teachers)
        mean = {
            key: (value + second.logits_by_magnification[key]) / 2
            for key, value in first.logits_by_magnification.items()
        }
        return replace(first, logits=(first.logits + second.logits) / 2, logits_by_magnification=mean)


@pytest.mark.slow
def test_a_student_learns_from_a_source_of_the_users_own(cohort, teacher_path):
    source = MeanOfTwo([SubspaceTeacher.load_from_checkpoint(teacher_path, weights_only=True) for _ in range(2)])

    class Give(Callback):
        def on_fit_start(self, trainer, pl_module):
            pl_module.use_teacher(source)

    model, watch, data = student(teacher_path, distill_after=0.0), Watch(), data_of(cohort)
    Trainer(max_epochs=1, enable_checkpointing=False, callbacks=[Give(), watch], **QUIET).fit(model, data)
    assert source.patients == set(data.patients("train"))
    assert watch.terms == [{"train/distill_prediction", "train/distill_programs"}]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.25, 0.6])
def test_a_teacher_that_would_read_other_tiles_than_its_own_is_named(cohort, teacher_path, tmp_path, caplog, share):
    checkpoint, path = torch.load(teacher_path, weights_only=True), tmp_path / "t.ckpt"
    checkpoint["hyper_parameters"]["fitted"]["extraction"] = {"tissue": "colour", "least_tissue": 0.25}
    torch.save(checkpoint, path)
    store = shutil.copytree(cohort / "development" / "features.zarr", tmp_path / "features.zarr")
    root = json.loads((store / "zarr.json").read_text())
    root["attributes"]["extraction"] = {"tissue": "colour", "least_tissue": share}
    (store / "zarr.json").write_text(json.dumps(root))
    data = data_of(cohort, features=str(store))
    data.setup("fit")
    student(str(path)).fit_to_data(data)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (share != 0.25)
    assert all(f"which the teacher {path} is to read: tiles have at least 60 %" in text for text in warnings)
