"""Loss terms, and the interface of models for callbacks that change gradients."""

from dataclasses import replace

import pytest
import torch
from batches import make_batch
from models import PROGRAMS, build

from dmml.functional.consistency import expression_consistency
from dmml.types import SUBSPACES, HasSubspaces


@pytest.fixture(params=["teacher", "student"])
def name(request):
    return request.param


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def test_loss_terms_add_up_and_a_weight_of_0_removes_its_term(name):
    batch = make_batch(has_rna=[True, False, True, True])
    weights = {"consistency": 0.5, "program": 0.7, "decorrelation": 0.9}
    model = build(name, **{f"{part}_weight": w for part, w in weights.items()})
    terms = model.losses(batch)
    assert set(terms.parts) == {"task", "consistency", "programs", "decorrelation"}
    p = terms.parts
    close(terms.total, p["task"] + 0.5 * p["consistency"] + 0.7 * p["programs"] + 0.9 * p["decorrelation"])
    for part in weights:
        without = build(name, **{f"{part}_weight": 0.0}).losses(batch)
        assert len(without.parts) == 3
        assert ("programs" if part == "program" else part) not in without.parts


def test_task_loss_is_a_mean_over_observed_patients_and_their_magnifications(name):
    batch = make_batch((5, 0, 4, 3), (20, 6, 0, 9))
    batch.target["observed"][3] = False
    model = build(name)
    output = model(batch)
    by = {m: model.task.loss(x, batch.target) for m, x in output.logits_by_magnification.items()}
    expected = ((by[10][0] + by[20][0]) / 2 + by[20][1] + by[10][2]) / 3
    close(model.losses(batch).parts["task"], expected)
    nobody = dict(batch.target, observed=batch.target["observed"] & False)
    assert model.losses(replace(batch, target=nobody)).parts["task"] == 0


@pytest.mark.parametrize("form", ["expression", "attention"])
def test_every_form_of_consistency_has_a_gradient(name, form):
    model = build(name, consistency=form, program_weight=0.0, decorrelation_weight=0.0, consistency_weight=1.0)
    terms = model.losses(make_batch())
    assert terms.parts["consistency"] > 0
    terms.parts["consistency"].backward()
    assert model.projection["10x"].linear.weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="pixels"):
        build(name, consistency="pixels")


def test_expression_terms_are_the_published_formula_at_equal_weights(name):
    model, batch = build(name), make_batch(has_rna=[True, False, True, True])
    output, parts = model(batch), model.losses(batch).parts
    values = {}
    for has_rna in (batch.has_expression, batch.has_expression & False):
        values[bool(has_rna.any())] = sum(
            expression_consistency(output.programs[10, s], output.programs[20, s], batch.expression[s], has_rna).sum()
            for s in SUBSPACES
        )
    close(parts["consistency"], values[False] / 4)
    close(parts["programs"], (values[True] - values[False]) / 3)


def test_teacher_and_student_provide_the_interface_of_gradient_coordination(name):
    model, batch = build(name), make_batch()
    assert isinstance(model, HasSubspaces)
    heads = list(model.subspace_heads())
    assert len(heads) == 2
    for weight, tumor, tme in heads:
        assert weight.shape == (4, 32)
        assert weight[:, tumor].shape == weight[:, tme].shape == (4, 16)
    assert model.take_confidence().shape == (2, 5)
    model.losses(batch)
    assert not model.take_confidence().any(), "only training_step counts"
    model.log = lambda *a, **k: None
    batch.target["observed"][2] = False
    model.training_step(batch, 0)
    model.training_step(batch, 1)
    output, confidences = model(batch), model.take_confidence()
    for row, m in zip(confidences, (10, 20), strict=True):
        for column, s in enumerate(SUBSPACES):
            logs = model.task.log_likelihood(output.subspace_logits[m, s], batch.target)
            close(row[column], 2 * logs.sum())
            close(row[2 + column], 2 * logs.exp()[batch.target["observed"]].sum())
        assert row[4] == 6
    assert not model.take_confidence().any()


def test_training_works_under_bfloat16_autocast(name):
    model, batch = build(name), make_batch((5, 0, 300), (20, 0, 90), has_rna=[True, False, True])
    with torch.autocast("cpu", torch.bfloat16):
        total = model.losses(batch).total
    total.backward()
    assert total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_every_parameter_gets_a_gradient_whatever_a_batch_lacks(name):
    """DDP waits for every parameter's gradient: each has one also where RNA and tissue are missing."""
    batch = make_batch(has_rna=[False] * 4)
    model = build(name, programs=PROGRAMS).train()
    model.losses(replace(batch, bags={}, parent=batch.parent[:, :0], expression={})).total.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
