"""The exported files give the outputs of the trained student, and explain them."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch
from batches import make_batch, one_patient
from exported_students import ENCODER, student_checkpoint

from dmml.experiment.export.export_model import export_model
from dmml.nn.aggregator import TokenAggregator
from dmml.nn.paper.aggregator import PrototypeAggregator

pytestmark = pytest.mark.slow
SIZES = [1, 2, 64, 65, 100, 20_000]


def patient(n: int, magnifications=(10, 20), slides: int = 1):
    batch = make_batch([max(1, n // 4)], [n], slides=[slides])
    batch.bags = {m: bag for m, bag in batch.bags.items() if m in magnifications}
    return batch


def inputs_of(batch, magnifications) -> list[torch.Tensor]:
    """Inputs of the graph in the documented order, from the first patient of a batch."""
    n_slides = max(bag.count_slides() for bag in batch.bags.values())
    inputs = [torch.arange(n_slides)]
    for m in magnifications:
        bag = batch.bags[m]
        inputs += [bag.features[0], bag.position[0], bag.slide[0]]
    return inputs


def run_onnx(exported, inputs) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(exported.folder / "model.onnx"), options)
    names = [each.name for each in session.get_inputs()]
    values = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
    return dict(zip([each.name for each in session.get_outputs()], values, strict=True))


def expected_outputs(network, batch) -> dict[str, torch.Tensor]:
    """Every output under the documented name, from the student's `SubspaceOutput`."""
    with torch.no_grad():
        output = network(batch)
    named = dict(network.task.predictions(output.logits)) | {"logits": output.logits}
    named |= {} if output.backbone_logits is None else {"logits_backbone": output.backbone_logits}
    named |= {f"logits_{m}x": values for m, values in output.logits_by_magnification.items()}
    named |= {f"logits_{m}x_tissue": values for m, values in output.tissue_logits.items()}
    named |= {f"attention_{m}x_tissue": values for m, values in output.tissue_attention.items()}
    named |= {f"prototype_{m}x": values for m, values in output.prototypes.items()}
    for kind, parts in (
        ("logits", output.subspace_logits),
        ("attention", output.attention),
        ("programs", output.programs),
    ):
        named |= {f"{kind}_{m}x_{s}": values for (m, s), values in parts.items()}
    without_programs = {name for name, values in named.items() if name.startswith("programs_") and not values.shape[1]}
    return {name: values[0] for name, values in named.items() if name not in without_programs}


def check_same(values, expected):
    assert values.keys() == expected.keys()
    for name, value in values.items():
        np.testing.assert_allclose(value, expected[name].numpy(), rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("n", SIZES)
def test_onnx_gives_every_output_of_a_student_of_survival(survival, n):
    batch = patient(n, slides=min(n, 3))
    check_same(run_onnx(survival, inputs_of(batch, (10, 20))), expected_outputs(survival.network, batch))


@pytest.mark.parametrize("n", SIZES)
def test_onnx_gives_every_output_of_a_student_of_classes(classes, n):
    batch = patient(n, (20,))
    values = run_onnx(classes, inputs_of(batch, (20,)))
    check_same(values, expected_outputs(classes.network, batch))
    assert sum(values[f"prob_{name}"] for name in "abc") == pytest.approx(1)


@pytest.mark.parametrize("empty", [10, 20])
def test_a_patient_may_lack_a_magnification(survival, empty):
    batch = one_patient(make_batch([0 if empty == 10 else 9], [0 if empty == 20 else 40]), 0)
    assert not batch.bags[empty].features.shape[1]
    check_same(run_onnx(survival, inputs_of(batch, (10, 20))), expected_outputs(survival.network, batch))


def test_copies_of_a_slide_change_nothing_in_the_graph_either(survival):
    batch = patient(300)
    inputs = inputs_of(batch, (10, 20))
    twice = [torch.arange(2), *(torch.cat([x, x + 1 if i % 3 == 2 else x]) for i, x in enumerate(inputs[1:]))]
    once, again = run_onnx(survival, inputs), run_onnx(survival, twice)
    assert again["attention_20x_tumor"][300:] == pytest.approx(0)
    np.testing.assert_allclose(again["attention_20x_tumor"][:300], once["attention_20x_tumor"], atol=1e-4)


def test_the_torch_export_program_gives_the_same(survival):
    extra = {"dmml.json": ""}
    module = torch.export.load(survival.folder / "model.pt2", extra_files=extra).module()
    names = json.loads(extra["dmml.json"])["outputs"]
    for n in (1, 100, 3_000):
        batch = patient(n)
        with torch.no_grad():
            values = dict(zip(names, (value.numpy() for value in module(*inputs_of(batch, (10, 20)))), strict=True))
        check_same(values, expected_outputs(survival.network, batch))


def test_the_file_explains_its_inputs_its_outputs_and_itself(survival):
    graph, network = survival.graph, survival.network
    inputs = [each.name for each in graph.graph.input]
    assert inputs == ["slides", *(f"{kind}_{m}x" for m in (10, 20) for kind in ("features", "position", "slide"))]
    texts = {each.name: each.doc_string for each in (*graph.graph.input, *graph.graph.output)}
    assert all(texts.values())
    assert "µm" in texts["position_10x"]
    assert "365 days" in texts["survival_365"]
    assert "days 300, 700, 1300, 2000" in texts["logits"]
    assert "A, B" in texts["programs_10x_tumor"]
    metadata = {each.key: each.value for each in graph.metadata_props}
    assert json.loads(metadata["encoder"]) == ENCODER
    assert json.loads(metadata["programs"]) == network.scores.names
    assert json.loads(metadata["task"]) == {"task": "survival", "edges": [300.0, 700, 1300], "end": 2000.0}
    assert json.loads(metadata["magnifications"]) == {"10": 1.0, "20": 0.5}
    columns = [name for name in texts if name == "risk" or name.startswith("survival_")]
    assert json.loads(metadata["columns"]) == columns
    assert str(survival.ckpt.parent) not in graph.SerializeToString().decode("latin-1")


def test_the_record_names_every_verified_size_and_its_largest_difference(survival):
    record = json.loads((survival.folder / "export.json").read_text())
    sizes = [entry["n_tokens"] for entry in record["verified"] if entry["n_slides"] == 1]
    assert {1, 65, 100, 1_000, 5_000, 20_000} <= set(sizes)
    assert 0 < record["largest_difference"]["onnx"] <= 1e-4
    assert record["largest_difference"]["onnx"] == max(entry["onnx"] for entry in record["verified"])


@pytest.mark.parametrize(
    "changes",
    [
        {"aggregator": PrototypeAggregator, "n_merged": 2, "tissue_specific": False},
        {"aggregator": partial(TokenAggregator, tissue_attention=True)},
    ],
    ids=["the paper's student", "tissue attention"],
)
def test_other_aggregations_are_exported(tmp_path, changes):
    ckpt = student_checkpoint(tmp_path / "m.ckpt", with_backbone=False, magnifications=[20], **changes)
    export = export_model(ckpt, tmp_path / "out")
    assert max(each.onnx for each in export.agreements) <= 1e-4
