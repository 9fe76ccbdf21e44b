"""The function that is exported gives, run in PyTorch, what the student gives for a padded batch."""

from __future__ import annotations

import pytest
import torch
from batches import DIM, make_batch
from models import build

from dmml.data.feature_statistics import fill_missing
from dmml.experiment.export.names import describe_inputs
from dmml.experiment.export.student_graph import StudentGraph
from dmml.nn.paper.aggregator import PrototypeAggregator


def inputs_of(batch, i: int, magnifications=(10, 20)) -> list[torch.Tensor]:
    """Inputs of one patient of a batch, without padding."""
    inputs = [torch.arange(max(bag.count_slides() for bag in batch.bags.values()))]
    for m in magnifications:
        bag = batch.bags[m]
        inputs += [getattr(bag, name)[i][bag.mask[i]] for name in ("features", "position", "slide")]
    return inputs


def run(graph: StudentGraph, inputs) -> dict[str, torch.Tensor]:
    """{output: tensor} of the graph."""
    lengths = {m: len(inputs[1 + 3 * i]) for i, m in enumerate(graph.magnifications)}
    with torch.no_grad():
        values = graph(*inputs)
        names = [each.name for each, _ in graph.named_outputs(graph.network(make_batch()), lengths)]
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize("kind", ["survival", "classification"])
@pytest.mark.parametrize(
    "changes", [{}, {"aggregator": PrototypeAggregator, "n_merged": 2}], ids=["merged", "prototypes"]
)
def test_a_patient_gets_the_prediction_of_a_padded_batch(kind, changes):
    student = build("student", kind, **changes).requires_grad_(False)
    batch = make_batch([5, 0, 30, 1], [20, 11, 0, 1], slides=[1, 3, 2, 1], kind=kind)
    with torch.no_grad():
        expected = student(batch)
    columns = student.task.predictions(expected.logits)
    for i in range(4):
        outputs = run(StudentGraph(student), inputs_of(batch, i))
        for name, values in columns.items():
            torch.testing.assert_close(outputs[name], values[i], rtol=0, atol=1e-5)
        n = int(batch.bags[20].mask[i].sum())
        torch.testing.assert_close(
            outputs["attention_20x_tme"], expected.attention[20, "tme"][i, :n], rtol=0, atol=1e-5
        )


def test_missing_values_of_vectors_become_the_training_mean():
    student = build("student", magnifications=[20]).requires_grad_(False)
    mean = torch.arange(DIM) / DIM
    inputs = inputs_of(make_batch([3], [9]), 0, (20,))
    inputs[1][::2, 1] = torch.nan
    filled = [inputs[0], fill_missing(inputs[1][None], mean)[0], *inputs[2:]]
    with torch.no_grad():
        values, expected = StudentGraph(student, {20: mean})(*inputs), StudentGraph(student)(*filled)
    assert all(torch.equal(value, other) for value, other in zip(values, expected, strict=True))
    assert not values[0].isnan()


def test_every_input_has_shape_type_and_unit():
    inputs = describe_inputs((10, 20), {10: 1.0, 20: 0.5}, DIM)
    assert [each.name for each in inputs[:4]] == ["slides", "features_10x", "position_10x", "slide_10x"]
    assert "0.5 µm per pixel" in inputs[4].text
    assert all("int64" in each.text or "float32" in each.text for each in inputs)
