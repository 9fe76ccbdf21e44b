"""Each step after a fit does what its name says, and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from batches import make_batch
from lightning.pytorch import LightningModule

from dmml.experiment.training_reference import (
    add_to_fitted,
    fit_references,
    load_weights,
    predict_training_patients,
)


class Model(LightningModule):
    """Its risk is its only weight times the patient's position in the batch."""

    def __init__(self, has_risk=True):
        super().__init__()
        self.weight, self.has_risk, self.batches = torch.nn.Parameter(torch.ones(())), has_risk, 0

    def predict_step(self, batch, batch_idx):
        self.batches += 1
        risk = self.weight * torch.arange(len(batch.patient_id))
        return {"predictions": {"risk": risk} if self.has_risk else {"prob_a": risk}}


class Data:
    """Training patients in two batches."""

    def train_patients_in_order(self):
        first, second = make_batch([3, 2, 4], [9, 8, 7]), make_batch([2, 3], [5, 6])
        second.patient_id = [f"{patient} again" for patient in second.patient_id]
        return [first, second]


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "best.ckpt"
    fitted = {"n_training": 5}
    torch.save({"state_dict": {"weight": torch.tensor(2.0)}, "hyper_parameters": {"fitted": fitted}, "epoch": 3}, path)
    return path


def test_loading_weights_changes_the_model_and_no_file(checkpoint):
    model, before = Model().train(), checkpoint.read_bytes()
    load_weights(checkpoint, model, torch.device("cpu"))
    assert model.weight.item() == 2
    assert not model.training
    assert checkpoint.read_bytes() == before


def test_predicting_training_patients_changes_nothing_and_returns_risks_and_inputs():
    model = Model()
    training = predict_training_patients(model, Data())
    assert training.risk.tolist() == [0, 1, 2, 0, 1]
    assert training.median_risk == 1
    assert {name: len(patients) for name, patients in training.inputs.items()} == dict.fromkeys(
        ["10x", "20x", "tumor", "tme"], 5
    )
    assert not predict_training_patients(model, Data(), keep_inputs=False).inputs


def test_a_task_without_a_risk_has_no_median_and_predicts_one_batch_if_that_is_all():
    model = Model(has_risk=False)
    assert predict_training_patients(model, Data(), keep_inputs=False).median_risk is None
    assert model.batches == 1
    assert predict_training_patients(model, Data()).inputs
    assert model.batches == 3


def test_references_are_fitted_on_the_patients_who_have_the_input():
    generator = np.random.default_rng(0)
    patients = {f"P{i}": generator.normal(size=4).astype(np.float32) for i in range(30)}
    inputs = {"tumor": dict(list(patients.items())[:7]), "10x": patients, "20x": {}}
    references = fit_references(inputs, {"tumor": {"genes": list("abcd")}}, SimpleNamespace())
    assert {name: reference["n"] for name, reference in references.items()} == {"10x": 30, "tumor": 7}


def test_values_are_added_to_a_checkpoint_without_changing_the_rest(checkpoint):
    add_to_fitted(checkpoint, {"median_risk": 0.5})
    content = torch.load(checkpoint, weights_only=True)
    assert content["hyper_parameters"]["fitted"] == {"n_training": 5, "median_risk": 0.5}
    assert (content["epoch"], content["state_dict"]["weight"].item()) == (3, 2)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["best.ckpt"]
