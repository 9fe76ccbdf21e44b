"""Promises are calibrated on inner validation patients, as a new slide is predicted, from fits without the patient."""

import numpy as np
import pytest
import torch
from cohorts import data_of, quiet_trainer, simulated

from dmml.experiment.limits.inner_validation import conformal_calibration
from dmml.tasks import Classification, Survival
from dmml.training.teacher import SubspaceTeacher

pytestmark = pytest.mark.slow


def fitted_teacher(tmp_path_factory, tmp_path, task, outcome):
    data = data_of(simulated(tmp_path_factory), outcome=outcome)
    model = SubspaceTeacher(width=16, task=task)
    quiet_trainer(tmp_path, max_epochs=1).fit(model, data)
    return model.eval(), data


def test_a_patient_is_predicted_without_rna_by_a_backbone_that_was_fitted_without_the_patient(
    tmp_path_factory, tmp_path
):
    outcome = {"time": "os_days", "event": "os_event", "unit": "days"}
    model, data = fitted_teacher(tmp_path_factory, tmp_path, Survival(), outcome)
    model.deep_share.fill_(0)  # the backbone alone
    lookup, patients = model._after_fit, data.patients("val")
    no_rna = torch.zeros(len(patients), dtype=torch.bool)
    parts, programs = lookup.rows(patients, no_rna)
    output = model._require_backbone().output(parts, no_rna, programs)
    logits = sum(output.subspaces.values()) + output.tissue
    cohort = data.outcome(patients)
    expected = model.task.conformal().fit(logits, model.task.encode(cohort), model.fitted["censoring"])
    calibration = conformal_calibration(model, data)
    assert calibration["n"] == len(patients)
    assert calibration["scores"] == pytest.approx(expected["scores"], abs=1e-5)
    assert calibration["weights"] == pytest.approx(expected["weights"])
    # Now the finished backbone reads the slides, which has seen the patients; so this comparison can fail.
    assert model._after_fit is None
    again = conformal_calibration(model, data)
    assert not np.allclose(again["scores"], calibration["scores"], atol=1e-3)


def test_outcomes_of_test_patients_and_rna_do_not_reach_the_calibration(tmp_path_factory, tmp_path):
    model, data = fitted_teacher(tmp_path_factory, tmp_path, Classification(["G2", "G3", "G4"]), {"label": "grade"})
    kept = model._after_fit
    base = conformal_calibration(model, data)
    assert base["n"] == len(data.patients("val"))
    data.rna = None  # the RNA of every patient is gone
    model._after_fit = kept
    assert conformal_calibration(model, data) == base
