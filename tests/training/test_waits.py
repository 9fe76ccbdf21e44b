"""A training step never waits for the device: operations that would make the host wait are detected on a simulated device."""

from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from batches import make_batch
from models import PROGRAMS, build, task_of
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dmml.tasks import Classification, Survival
from dmml.training.losses.confidence import confidence_sums
from dmml.training.teacher import SubspaceTeacher

pytestmark = pytest.mark.slow


class Copies(TorchDispatchMode):
    """Records every copy from the host to the device."""

    def __init__(self):
        super().__init__()
        self.met = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        device_types_in = {x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        device_types_out = {x.device.type for x in tree_leaves(made) if isinstance(x, torch.Tensor)}
        if "copy" in str(func) and "cpu" in device_types_in and "cuda" in device_types_out:
            self.met.append(str(func))
        return made


def pretended(x):
    """The same shapes on a GPU that need not exist."""
    if isinstance(x, torch.Tensor):
        return torch.empty(x.shape, dtype=x.dtype, device="cuda")
    if isinstance(x, dict):
        return {key: pretended(value) for key, value in x.items()}
    return replace(x, **{f.name: pretended(getattr(x, f.name)) for f in fields(x)}) if is_dataclass(x) else x


def move(model):
    """Put the weights and buffers of a model on the pretended device."""
    for module in model.modules():
        for name, value in list(module._parameters.items()):
            if value is not None:
                module._parameters[name] = torch.nn.Parameter(pretended(value))
        for name, value in list(module._buffers.items()):
            if value is not None:
                module._buffers[name] = pretended(value)


def step(model, batch):
    """Copies from the host during the forward part of a step; an operation that waits for the device raises an error."""
    with Copies() as copies:
        output = model(batch)
        model._terms(batch, output)
        confidence_sums(model.task, output, batch)
    return copies.met


def with_slides(batch):
    """The batch with its number of slides, which a reader determines on the host."""
    return replace(batch, bags={m: replace(bag, n_slides=1) for m, bag in batch.bags.items()})


TASKS = {
    "survival": lambda: task_of("survival"),
    "cox": lambda: Survival(edges=[300.0, 700, 1300], end=2000.0, likelihood="cox"),
    "classification": lambda: Classification(classes=["a", "b", "c"], class_weights=[1.0, 2.0, 3.0]),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["teacher", "student"])
def test_no_step_waits_for_the_device(name, task):
    kind = "classification" if task == "classification" else "survival"
    batch = with_slides(make_batch((300, 3, 70, 4), (900, 11, 280, 16), has_rna=[True, False, True, True], kind=kind))
    model = build(name, kind, task=TASKS[task](), programs=PROGRAMS).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        move(model)
        batch = pretended(batch)
        step(model, batch)  # what is placed once is placed now
        assert step(model, batch) == []


class ReadsAValue(SubspaceTeacher):
    """Reads a value from the device."""

    def forward(self, batch):
        output = super().forward(batch)
        if output.logits.sum() > 0:
            self.task.combination = "mean"
        return output


class Places(SubspaceTeacher):
    """Brings numbers from the host."""

    def forward(self, batch):
        torch.tensor([1.0, 2.0], device=batch.has_expression.device)
        return super().forward(batch)


@pytest.mark.parametrize("kind", [ReadsAValue, Places])
def test_a_step_that_waits_for_the_device_is_detected(kind):
    model = kind(n_features=12, genes={"tumor": ["T0"], "tme": ["E0"]}, task=task_of("survival"), width=16)
    batch = with_slides(make_batch())
    batch = replace(batch, expression={s: values[:, :1] for s, values in batch.expression.items()})
    with FakeTensorMode(allow_non_fake_inputs=True):
        move(model)
        batch = pretended(batch)
        if kind is ReadsAValue:
            with pytest.raises(Exception, match="_local_scalar_dense"):
                step(model, batch)
        else:
            step(model, batch)
            assert step(model, batch)
