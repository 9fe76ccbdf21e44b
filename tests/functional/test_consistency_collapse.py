"""Whether predicting the same for all patients minimises each form of the consistency loss."""

import pytest
import torch
from batches import make_batch
from models import build

from dmml.functional.consistency import attention_consistency, batch_similarity_variance, expression_consistency

PATIENTS, PROGRAMS = 60, 4


@pytest.fixture
def measured():
    return torch.randn(PATIENTS, PROGRAMS, dtype=torch.float64) + 0.5


def descend(loss, a, b, steps=300, rate=0.5):
    """Free predictions of both magnifications after plain gradient descent."""
    for _ in range(steps):
        a, b = a.detach().requires_grad_(), b.detach().requires_grad_()
        first, second = torch.autograd.grad(loss(a, b), (a, b))
        a, b = a - rate * first, b - rate * second
    return a.detach(), b.detach()


@pytest.mark.parametrize("rna_share", [0.1, 0.5, 1.0])
def test_no_constant_minimises_the_default(measured, rna_share):
    """The best constant is the mean, whose loss is the variance."""
    has_rna = torch.arange(PATIENTS) < rna_share * PATIENTS
    mean = measured[has_rna].mean(0).expand(PATIENTS, -1)
    noisy = measured + 0.3 * torch.randn_like(measured)
    spread = measured[has_rna].var(0, unbiased=False).mean() * rna_share
    for constant in (mean, mean * 0, mean + 1):
        assert expression_consistency(constant, constant, measured, has_rna).mean() >= spread - 1e-12
        informed = expression_consistency(noisy, noisy, measured, has_rna)
        assert informed.mean() < 0.3 * expression_consistency(constant, constant, measured, has_rna).mean()


def test_the_gradient_leads_from_a_constant_to_the_measurements(measured):
    has_rna = torch.arange(PATIENTS) % 3 > 0
    constant = measured.mean(0).expand(PATIENTS, -1)

    def loss(a, b):
        return expression_consistency(a, b, measured, has_rna).sum()

    a, b = (constant.clone().requires_grad_() for _ in range(2))
    away = -torch.autograd.grad(loss(a, b), a)[0]
    assert torch.nn.functional.cosine_similarity(away, measured - constant)[has_rna].min() > 0.999
    assert (away[~has_rna] == 0).all(), "nothing is known of them, and the scales agree"
    a, b = descend(loss, constant, constant)
    torch.testing.assert_close(a[has_rna], measured[has_rna], atol=1e-6, rtol=0)
    torch.testing.assert_close(b[has_rna], measured[has_rna], atol=1e-6, rtol=0)


def test_magnifications_that_agree_on_wrong_values_have_a_loss(measured):
    """A shuffled prediction has the right variance and agrees between magnifications, but not with the measurements."""
    wrong = measured[torch.randperm(PATIENTS)]
    assert expression_consistency(wrong, wrong, measured).mean() > 1
    assert expression_consistency(wrong, wrong).sum() == 0


def test_the_released_form_is_minimised_by_constants():
    """It has no gradient at a constant, and minimising it never leads to the measurements."""
    constant = torch.randn(1, 8, dtype=torch.float64).expand(PATIENTS, -1)
    a, b = (constant.clone().requires_grad_() for _ in range(2))
    value = batch_similarity_variance(a, b)
    assert value.item() == pytest.approx(0, abs=1e-20)
    assert all(g.abs().max() < 1e-10 for g in torch.autograd.grad(value, (a, b)))
    informed = torch.randn(PATIENTS, 8, dtype=torch.float64)
    assert batch_similarity_variance(informed, informed) > 1, "patients who differ pay more than patients who do not"


def test_the_attention_form_is_minimised_by_uniform_attention():
    parent, mask = torch.arange(16).expand(3, -1) % 4, torch.ones(3, 4, dtype=torch.bool)
    everywhere = torch.full((3, 4), 0.25), torch.full((3, 16), 1 / 16)
    assert attention_consistency(*everywhere, parent, mask).abs().max() < 1e-7
    looked = torch.rand(3, 4).softmax(1), torch.rand(3, 16).mul(4).softmax(1)
    assert (attention_consistency(*looked, parent, mask) > 1e-3).all()


def program_layers(model):
    """{slot: linear layer that predicts its programs}; a teacher's has a separate pool before it."""
    return {
        key: getattr(head, "linear", head)
        for key, head in getattr(model, "program_heads", model.program_readout).items()
    }


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_a_model_whose_programs_have_collapsed_has_a_gradient_away_from_it(name):
    """By default, heads that predict one number for all patients have a gradient, although the magnifications agree."""
    batch, model = make_batch((5, 3, 7, 4) * 3, (20, 11, 28, 16) * 3), build(name)
    with torch.no_grad():
        for line in program_layers(model).values():
            line.weight.zero_()
    terms = model.losses(batch)
    output = model(batch)
    assert output.programs[10, "tumor"].var(0).max() == 0
    coarse, fine = (program_layers(model)[f"{m}x_tumor"] for m in (10, 20))
    with torch.no_grad():
        coarse.bias.zero_(), fine.bias.zero_()
    agree = model.losses(batch).parts["consistency"]
    assert agree < terms.parts["consistency"]
    terms.total.backward()
    assert coarse.weight.grad.abs().max() > 1e-3
    assert fine.weight.grad.abs().max() > 1e-3
    alone = build(name, consistency="expression", program_weight=0.0, consistency_weight=1.0)
    with torch.no_grad():
        for line in program_layers(alone).values():
            line.weight.zero_(), line.bias.zero_()
    parts = alone.losses(batch).parts
    assert parts["consistency"] == 0, "without the anchor nothing would: it is part of the default"
    assert build(name).program_weight > 0
