"""Half precision: the losses stay in single precision, near to what single precision gives, and so do the gradients."""

from dataclasses import replace

import pytest
import torch
from batches import DIM, make_batch
from lightning.pytorch import __version__ as lightning_version
from models import ALL_PARTS, build, task_of

from dmml.networks.checkpoint_content import FORMAT, FORMAT_KEY
from dmml.nn.standardised import set_feature_statistics
from dmml.tasks import Survival
from dmml.training.student import SubspaceStudent


@pytest.fixture(params=["teacher", "student", "taught student"])
def model_of(request, tmp_path):
    """(kind of task, changes) → a model in evaluation mode, so that both precisions see the same dropout."""
    name = request.param

    def make(kind="survival", **changes):
        torch.manual_seed(1)
        if name != "taught student":
            return build(name, kind, **changes)
        teacher, path = build("teacher", kind), tmp_path / "teacher.ckpt"
        kept = {"state_dict": teacher.state_dict(), "hyper_parameters": dict(teacher.hparams)}
        torch.save(kept | {"pytorch-lightning_version": lightning_version, FORMAT_KEY: FORMAT}, path)
        arguments = ALL_PARTS["student"] | {"teacher": str(path), "task": task_of(kind)} | changes
        student = SubspaceStudent(n_features=DIM, width=16, **arguments)
        student.setup("fit")
        return student.eval()

    return make


def terms_and_gradient(model, batch, half):
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        terms = model.losses(batch)
    terms.total.backward()
    gradient = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradient)
    assert all(g.dtype == torch.float32 for g in gradient)
    return terms, torch.cat([g.flatten() for g in gradient])


def check(model, batch):
    """Check that all terms are finite single-precision numbers close to those without autocast, and so are gradients."""
    # Rounding may move a token of a student to the next cluster.
    share, min_cosine = (0.06, 0.97) if isinstance(model, SubspaceStudent) else (0.02, 0.99)
    full, expected = terms_and_gradient(model, batch, half=False)
    terms, gradient = terms_and_gradient(model, batch, half=True)
    assert set(terms.parts) == set(full.parts)
    for name, value in {"total": terms.total, **terms.parts}.items():
        assert value.dtype == torch.float32, f"{name} is {value.dtype}"
        assert value.isfinite()
        reference = full.total if name == "total" else full.parts[name]
        tolerance = share * (1 + reference.abs().item())
        assert abs(value.item() - reference.item()) < tolerance, f"{name}: {value.item()} for {reference.item()}"
    cosine = torch.nn.functional.cosine_similarity(gradient, expected, dim=0)
    assert cosine > min_cosine, f"gradients point apart: cosine {cosine:.4f}"
    assert 0.9 < gradient.norm() / expected.norm() < 1.1


LARGE = (40, 25, 33, 18, 50, 29), (120, 90, 100, 60, 150, 80)


@pytest.mark.parametrize("kind", ["survival", "classification"])
def test_losses_are_in_single_precision_and_close_to_those_without_autocast(model_of, kind):
    check(model_of(kind), make_batch(*LARGE, has_rna=[True, True, False] * 2, kind=kind))


def test_losses_of_patients_with_missing_data_are_close_as_well(model_of):
    batch = make_batch((5, 0, 70, 0), (20, 0, 0, 90), has_rna=[True, False, True, True], slides=[1, 1, 3, 2])
    batch.target["observed"][2] = False
    check(model_of(), batch)


def test_losses_of_another_form_of_consistency_are_close_as_well(model_of):
    model = model_of(consistency="attention", consistency_weight=1.0)
    batch = make_batch(*LARGE)
    full, _ = terms_and_gradient(model, batch, half=False)
    terms, _ = terms_and_gradient(model, batch, half=True)
    assert terms.parts["consistency"].dtype == torch.float32
    assert terms.parts["consistency"].item() == pytest.approx(full.parts["consistency"].item(), rel=0.1, abs=1e-3)


def test_the_loss_of_the_cox_likelihood_is_close_as_well(model_of):
    model = model_of()
    model.task = Survival(edges=model.task.edges, end=model.task.end, likelihood="cox")
    check(model, make_batch(*LARGE))


def test_losses_of_features_in_half_precision_and_of_any_magnitude_are_close_as_well(model_of):
    batch = make_batch(*LARGE)
    for scale, dtype in ((1.0, torch.float16), (300.0, torch.float16), (1e-3, torch.float32), (1e4, torch.float32)):
        bags = {m: replace(bag, features=(bag.features * scale).to(dtype)) for m, bag in batch.bags.items()}
        model = model_of()
        width = next(iter(bags.values())).features.shape[2]
        set_feature_statistics(model, {m: {"mean": [0.0] * width, "scale": [scale] * width} for m in bags})
        check(model, replace(batch, bags=bags))


def test_a_saturated_head_keeps_a_finite_loss_and_gradient(model_of):
    model = model_of()
    with torch.no_grad():
        for head in model.heads.values():
            head.linear.bias.copy_(torch.tensor([3e4, -3e4, 3e4, -3e4]))
    terms, gradient = terms_and_gradient(model, make_batch(), half=True)
    assert terms.total.isfinite()
    assert terms.parts["task"] > 1e3
    assert gradient.abs().max() > 0
