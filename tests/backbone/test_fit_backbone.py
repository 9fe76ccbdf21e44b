"""Fit of a backbone: signals that it finds, cross-fitted predictions without the patient, and unusual cohorts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from backbone_patients import answer, cohort, crossed, fitted, logits_of, rows_of, training
from models import task_of

from dmml.backbone import fit_backbone as module
from dmml.backbone import fit_outcome
from dmml.backbone.backbone import Backbone
from dmml.backbone.fit_backbone import fit_backbone
from dmml.errors import InputError
from dmml.functional.survival import concordance_index
from dmml.linear.evidence import fit_with_variances
from dmml.tasks import Survival, Task


def concordance(batch, logits):
    """Concordance of the summed log-hazards with the outcome."""
    target = batch.target
    return concordance_index(target["time"].numpy(), target["event"].numpy(), logits.sum(1).numpy())


@pytest.fixture(scope="module")
def many():
    """300 patients, the backbone of the first 120, and its cross-fitted predictions of these."""
    batch = cohort(300, without_rna=20, unknown=0)
    train = rows_of(batch, list(range(120)))
    return batch, train, *fitted(train)


def test_a_fit_finds_the_signal_of_genes_and_the_signal_that_only_tissue_has(many):
    batch, _, backbone, _ = many
    test = rows_of(batch, list(range(120, 300)))
    output = answer(backbone, test)
    both, genes, tissue = logits_of(output), output.subspaces["tumor"], output.tissue
    assert concordance(test, both) > max(concordance(test, genes), concordance(test, tissue)) + 0.03
    assert concordance(test, tissue) > 0.6
    assert output.subspaces["tme"].std(0).max() < 0.3 * genes.std(0).max()
    # Without RNA the slide stands in for what the genes would have said.
    predicted = answer(backbone, test, torch.zeros(180, dtype=torch.bool))
    assert np.corrcoef(predicted.tissue[:, 0], output.tissue[:, 0])[0, 1] > 0.8
    assert np.corrcoef(predicted.subspaces["tumor"][:, 0], genes[:, 0])[0, 1] > 0.5
    assert concordance(test, logits_of(predicted)) > concordance(test, tissue) + 0.005


def test_cross_fitted_predictions_are_as_good_as_predictions_of_new_patients(many):
    batch, train, backbone, cross_fitted = many
    test = rows_of(batch, list(range(120, 300)))
    of_training = concordance(train, cross_fitted[0].sum(1))
    assert of_training == pytest.approx(concordance(test, logits_of(answer(backbone, test))), abs=0.06)
    assert of_training < concordance(train, logits_of(answer(backbone, train))) - 0.01
    # The RNA's part that is predicted from the slide does not use the patient's own RNA either.
    in_fit = np.corrcoef(cross_fitted[0, 20:, 0, 0], cross_fitted[1, 20:, 0, 0])[0, 1]
    measured, predicted = answer(backbone, test), answer(backbone, test, torch.zeros(180, dtype=torch.bool))
    new = np.corrcoef(measured.subspaces["tumor"][:, 0], predicted.subspaces["tumor"][:, 0])[0, 1]
    assert in_fit == pytest.approx(new, abs=0.12)


@pytest.mark.parametrize("kind", ["survival", "classification"])
def test_a_patients_outcome_does_not_affect_that_patients_cross_fitted_prediction(kind, monkeypatch):
    """Variances and the weight of the composed predictor are fixed, because all patients together determine them."""
    variances = {"rna": 0.3, "shift": -1.0, "composition": -1.0, "contrasts": -1.0, "rare": -1.0}
    monkeypatch.setattr(fit_outcome, "weight_of_composed", lambda likelihood, composed, direct: 0.5)
    monkeypatch.setattr(
        fit_outcome,
        "fit_blocks",
        lambda likelihood, blocks: fit_with_variances(likelihood, blocks, {b: variances[b] for b in blocks}),
    )
    held = {"noise": -0.5} | dict.fromkeys(("shift", "composition", "contrasts", "rare"), -1.5)
    monkeypatch.setattr(
        fit_outcome,
        "fit_regression",
        lambda targets, blocks: fit_outcome.fit_regression_with_variances(
            targets, blocks, {b: held[b] for b in [*blocks, "noise"]}
        ),
    )
    batch = cohort(40, kind, without_rna=4)
    before = fitted(batch, kind)[1]
    moved = 0.0
    for patient in (0, 7, 31):
        changed = {name: values.clone() for name, values in batch.target.items()}
        if kind == "survival":  # the event stays, by which the folds are balanced
            changed["time"][patient] = 3000 - changed["time"][patient]
        else:
            # The folds depend on the classes, so they are fixed while the patient's class is changed.
            monkeypatch.setattr(module, "_folds", _folds_by_row)
            before = fitted(batch, kind)[1]
            changed["label"][patient] = (changed["label"][patient] + 1) % 3
        after = fitted(replace(batch, target=changed), kind)[1]
        torch.testing.assert_close(after[:, patient], before[:, patient], atol=1e-5, rtol=1e-5)
        others = [i for i in range(40) if i != patient]
        moved = max(moved, (after[:, others] - before[:, others]).abs().max().item())
    assert moved > 0.01


def _folds_by_row(task, patients, seed):
    """Five folds that do not depend on the outcome."""
    return [np.arange(len(patients.has_expression)) % 5 == k for k in range(5)]


@pytest.mark.slow
def test_if_variances_are_chosen_again_a_patients_outcome_changes_other_predictions_more():
    batch = cohort(60)
    before = fitted(batch)[1].sum(2)
    of_patient, of_others, inside = [], [], []
    in_sample = answer(fitted(batch)[0], batch)
    for patient in range(0, 60, 12):
        time = batch.target["time"].clone()
        time[patient] = 5000.0
        event = batch.target["event"].clone()
        changed = replace(batch, target=batch.target | {"time": time, "event": event})
        backbone, after = fitted(changed)
        gap = (after.sum(2) - before).abs()[0, :, 0]
        of_patient.append(gap[patient].item())
        of_others.append(gap[torch.arange(60) != patient].max().item())
        inside.append((logits_of(answer(backbone, batch)) - logits_of(in_sample)).abs()[patient].max().item())
    assert np.mean(of_patient) < 0.5 * np.mean(of_others)
    assert np.mean(of_patient) < 0.5 * np.mean(inside)


def test_a_repeated_fit_is_bit_identical():
    batch = cohort(40, without_rna=5, without_slides=5, unknown=4)
    (a, x), (b, y) = fitted(batch), fitted(batch)
    assert a.layout == b.layout
    assert all(torch.equal(a.state_dict()[name], value) for name, value in b.state_dict().items())
    assert torch.equal(x.nan_to_num(9), y.nan_to_num(9))


def test_patients_without_outcome_are_predicted_and_used_in_the_regression_of_rna_on_slides():
    batch = cohort(60, unknown=15)
    backbone, cross_fitted = fitted(batch)
    observed = batch.target["observed"]
    fitted_logits, cross_fitted_logits = (
        logits_of(answer(backbone, batch)),
        logits_of(crossed(backbone, batch, cross_fitted)),
    )
    torch.testing.assert_close(cross_fitted_logits[~observed], fitted_logits[~observed], atol=1e-3, rtol=1e-3)
    assert (cross_fitted_logits - fitted_logits)[observed].abs().max() > 0.05
    # The outcomes that stand there unobserved are not read.
    with_placeholders = {
        name: torch.where(observed, values, values.new_tensor(1)) for name, values in batch.target.items()
    }
    again = fitted(replace(batch, target=with_placeholders | {"observed": observed}))[0]
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in backbone.state_dict().items())
    # Their RNA does take part.
    other = {s: torch.where(observed.unsqueeze(1), v, -v) for s, v in batch.expression.items()}
    again = fitted(replace(batch, expression=other))[0]
    name = next(name for name in backbone.state_dict() if name.startswith("readouts.slide_") and "weight" in name)
    assert not torch.allclose(backbone.state_dict()[name], again.state_dict()[name])


@pytest.mark.slow
def test_hardly_anything_is_learned_from_noise():
    spreads = []
    for seed in range(8):
        batch = cohort(80, seed=seed)
        order = torch.randperm(80, generator=torch.Generator().manual_seed(seed))
        shuffled = replace(batch, target={name: values[order] for name, values in batch.target.items()})
        backbone, _ = fitted(shuffled)
        spreads.append(logits_of(answer(backbone, batch)).std(0).max().item())
    assert np.median(spreads) < 0.3


def test_calibration_shrinks_an_overconfident_predictor_and_keeps_a_calibrated_one():
    rng = np.random.default_rng(0)
    task = task_of("survival")
    logits = rng.standard_normal(400) - 1
    time, event = np.full(400, 1999.0), np.zeros(400)
    hazard = np.log1p(np.exp(logits))  # −log(1 − h) of each interval, constant within it
    for start, end in ((1300, 2000), (700, 1300), (300, 700), (0, 300.0)):
        share = rng.exponential(1 / hazard)
        time, event = np.where(share < 1, start + share * (end - start), time), np.where(share < 1, 1, event)
    target = task.encode({"time": time, "event": event})
    for factor in (1.0, 4.0):
        _, spread = task.calibrate(factor * (logits + 1)[:, None], target)
        assert spread[0] * factor == pytest.approx(1, abs=0.25)
        assert np.ptp(spread) == 0
    _, noise = task.calibrate(rng.standard_normal((400, 1)), target)
    assert noise[0, 0] < 0.25
    bias, _ = task.calibrate((logits + 1)[:, None], target)
    np.testing.assert_allclose(bias, -1, atol=0.35)


TINY = {
    "five patients": {"n": 5},
    "two events": {"n": 10, "events": 2},
    "no event": {"n": 10, "events": 0},
    "no RNA": {"n": 8, "without_rna": 8},
    "no slides": {"n": 8, "without_slides": 8},
    "RNA and slides of different patients": {"n": 20, "without_rna": 10, "without_slides": 10},
    "one outcome": {"n": 10, "unknown": 4, "observed": 1},
    "no outcome": {"n": 6, "observed": 0},
    "single tokens": {"n": 10, "tokens": 1},
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["survival", "classification"])
@pytest.mark.parametrize("name", TINY)
def test_tiny_cohorts_neither_crash_nor_warn(name, kind):
    options = dict(TINY[name])
    events, observed = options.pop("events", None), options.pop("observed", None)
    batch = cohort(kind=kind, **options)
    n = len(batch.patient_id)
    if events is not None and kind == "survival":
        batch.target["event"] = (torch.arange(n) < events).float()
    if events is not None and kind == "classification":
        batch.target["label"] = (torch.arange(n) < events).long()
    if observed is not None:
        batch.target["observed"] = torch.arange(n) < observed
    backbone, cross_fitted = fitted(batch, kind)
    output = answer(backbone, batch)
    assert logits_of(output).isfinite().all()
    assert logits_of(crossed(backbone, batch, cross_fitted)).isfinite().all()
    assert logits_of(output).abs().max() < 30
    assert all(scores.isfinite().all() for scores in output.programs.values())


@pytest.mark.filterwarnings("error")
def test_classes_can_be_cross_fitted_even_if_one_class_has_a_single_patient():
    batch = cohort(30, "classification")
    batch.target["label"] = torch.where(torch.arange(30) == 4, 2, torch.arange(30) % 2)
    _, cross_fitted = fitted(batch, "classification")
    assert cross_fitted.shape == (2, 30, 3, 3)
    assert cross_fitted.isfinite().all()


@pytest.mark.filterwarnings("error")
def test_a_cohort_with_more_features_than_tokens_and_more_genes_than_patients_can_be_fitted():
    batch = cohort(12, tokens=2)
    wide = {
        m: replace(bag, features=torch.cat([bag.features, torch.randn(*bag.features.shape[:2], 300)], 2))
        for m, bag in batch.bags.items()
    }
    batch = replace(batch, bags=wide)
    backbone, _ = fitted(batch)
    assert not any(len(each.directions) for each in backbone.statistics.values())
    assert logits_of(answer(backbone, batch)).abs().max() < 30


def test_a_task_without_a_linear_likelihood_is_refused_in_one_line():
    class PlainTask(Survival):
        def linear_likelihood(self, target):
            return Task.linear_likelihood(self, target)

    task, patients = PlainTask(edges=[300.0, 700, 1300], end=2000.0), training(cohort(20))
    unread = replace(patients, bags={m: None for m in patients.bags})  # it is refused before slides are read
    with pytest.raises(InputError, match=r"the task PlainTask has no linear_likelihood .* backbone: null") as refused:
        fit_backbone(Backbone(), unread, task)
    assert "\n" not in str(refused.value)
