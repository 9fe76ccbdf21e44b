"""A compiled teacher's weights keep their names, and its numbers are those of the model that is not compiled."""

import pytest
import torch
import torch._dynamo
from batches import make_batch
from models import PROGRAMS, build

from dmml.training import compilation
from dmml.training.teacher import SubspaceTeacher

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _eager_kernels(monkeypatch):
    """Captured as ever; the kernels are eager PyTorch's, whose C++ need not be built."""
    compile_in_place = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda part, **options: compile_in_place(part, backend="eager", **options)
    )
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_a_teacher_compiled_in_place_computes_the_same():
    """A student's aggregation is captured in `tests/nn/test_compile.py`."""
    model, batch = build("teacher", programs=PROGRAMS, magnifications=[20]), make_batch((3, 4), (9, 15))
    for bag in batch.bags.values():
        bag.n_slides = 1  # as the data module counts them
    names, expected = list(model.state_dict()), model.losses(batch).total
    expected.backward()
    gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    compilation.compile_parts(model)
    total = model.losses(batch).total
    total.backward()
    assert list(model.state_dict()) == names
    torch.testing.assert_close(total, expected, atol=1e-4, rtol=1e-4)
    assert len(gradients) > 10
    for key, parameter in model.named_parameters():
        if key in gradients:
            torch.testing.assert_close(parameter.grad, gradients[key], atol=1e-4, rtol=1e-3)
    compiled = [part for kind in compilation.PARTS for part in getattr(model, kind, {}).values()]
    assert compiled
    assert all(part._compiled_call_impl is not None for part in compiled)


def test_a_model_is_compiled_only_in_a_fit():
    model = build("teacher", compile=True)
    assert model.hparams["compile"] is True
    model.setup("test")
    assert all(part._compiled_call_impl is None for part in model.fusion.values())
    model.setup("fit")
    assert all(part._compiled_call_impl is not None for part in model.fusion.values())
    assert SubspaceTeacher().compiled is False
