"""Promises are calibrated on inner validation patients, as a new slide is predicted, from fits without the patient."""

import pandas as pd
import pytest
import torch
from cohorts import data_of, quiet_trainer, simulated

from dmml.evaluation.limits.prediction_sets import fit_sets
from dmml.experiment.limits.inner_validation import conformal_calibration
from dmml.tasks import Classification, Survival
from dmml.tasks.conformal import Conformal
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher

pytestmark = pytest.mark.slow


def fitted_teacher(tmp_path_factory, tmp_path, task, outcome, **changes):
    data = data_of(simulated(tmp_path_factory), outcome=outcome, **changes)
    model = SubspaceTeacher(width=16, task=task)
    quiet_trainer(tmp_path, max_epochs=1).fit(model, data)
    return model.eval(), data


def other_outcomes(data, patients):
    """Give patients of a data module that was set up another outcome."""
    table = data.cohort.clinical.patients
    table.loc[patients, "time"] = table.loc[patients, "time"] * 3 + 500
    table.loc[patients, "event"] = 1 - table.loc[patients, "event"]


def logits_of_validation(model, data):
    with model.backbone_without_validation(data), torch.inference_mode():
        return torch.cat([model(batch).logits for batch in data.val_patients_in_order()])


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_outcomes_of_validation_patients_do_not_reach_their_predictions(tmp_path_factory, tmp_path, kind):
    outcome = {"time": "os_days", "event": "os_event", "unit": "days"}
    teacher, data = fitted_teacher(tmp_path_factory, tmp_path, Survival(), outcome)
    model = teacher
    if kind == "student":
        trainer = quiet_trainer(tmp_path, max_epochs=1)
        trainer.fit(teacher, data)
        trainer.save_checkpoint(tmp_path / "teacher.ckpt")
        model = SubspaceStudent(width=16, task=Survival(), teacher=str(tmp_path / "teacher.ckpt"))
        quiet_trainer(tmp_path, max_epochs=1).fit(model, data)
        model.eval()
    model.deep_share.fill_(0)  # the deep part chooses its epoch by these outcomes
    final = model.backbone
    before = logits_of_validation(model, data)
    assert model.backbone is final
    other_outcomes(data, data.patients("val"))
    assert torch.equal(logits_of_validation(model, data), before)
    # The same change in training patients is seen: the comparison above can fail.
    other_outcomes(data, data.patients("train")[:5])
    assert not torch.allclose(logits_of_validation(model, data), before, atol=1e-3)


def test_the_calibration_is_of_validation_patients_without_their_rna(tmp_path_factory, tmp_path):
    patients = pd.read_csv(simulated(tmp_path_factory) / "development" / "clinical.csv", dtype=str)[
        "patient_id"
    ].unique()
    parts = {"train": patients[:16], "val": patients[16:27], "test": patients[27:]}
    pd.DataFrame({name: pd.Series(ids) for name, ids in parts.items()}).to_csv(tmp_path / "splits_0.csv", index=False)
    task, split = Classification(["G2", "G3", "G4"]), str(tmp_path / "splits_0.csv")
    model, data = fitted_teacher(tmp_path_factory, tmp_path, task, {"label": "grade"}, split=split)
    no_rna = []
    with model.backbone_without_validation(data), torch.inference_mode():
        for batch in data.val_patients_in_order():
            batch.has_expression[:] = False
            batch.expression = {name: 100 + values for name, values in batch.expression.items()}
            no_rna.append(model(batch).logits)
    target = model.task.encode(data.outcome(data.patients("val")))
    calibration = conformal_calibration(model, data)
    assert calibration["n"] == 11
    assert calibration == fit_sets(torch.cat(no_rna).double().softmax(1).numpy(), target["label"].numpy())


class OwnPromises(Classification):
    """A task whose promises are its own."""

    promises = Conformal()

    def conformal(self):
        return self.promises


class AnyNumber(Conformal):
    """Promises something whatever the number of patients."""

    def fit(self, logits, target, censoring):
        return {"n": len(logits)}


def test_no_backbone_is_fitted_for_a_calibration_that_cannot_be_made(tmp_path_factory, tmp_path, monkeypatch):
    task = Classification(["G2", "G3", "G4"])
    model, data = fitted_teacher(tmp_path_factory, tmp_path, task, {"label": "grade"})
    custom = OwnPromises(["G2", "G3", "G4"])
    custom.promises = AnyNumber()
    task, model.task = model.task, custom
    assert conformal_calibration(model, data) == {"n": len(data.patients("val"))}
    model.task = task
    monkeypatch.setattr(SubspaceTeacher, "backbone_without_validation", None)
    calibration = conformal_calibration(model, data)
    assert calibration["reason"].startswith(f"{calibration['n']} patients of the inner validation")
    assert calibration["n"] == len(data.patients("val"))
    custom.promises, model.task = Conformal(), custom
    assert conformal_calibration(model, data) == {}
