"""The network of a checkpoint is rebuilt without Lightning, and is the trained one bit for bit."""

from functools import partial

import pytest
import torch
from batches import DIM, GENES, make_batch
from models import PROGRAMS, build
from torch import nn

from dmml.errors import InputError
from dmml.networks.checkpoint import read_checkpoint
from dmml.networks.checkpoint_content import FORMAT, FORMAT_KEY
from dmml.networks.named_classes import are_plain, imported
from dmml.networks.student_network import StudentNetwork
from dmml.networks.teacher_network import TeacherNetwork
from dmml.nn.aggregator import TokenAggregator
from dmml.nn.fusion import GatedPoolFusion
from dmml.nn.paper.aggregator import PrototypeAggregator
from dmml.nn.paper.expression import ProgramTokenEncoder
from dmml.nn.paper.fusion import PaperFusion

CASES = {
    "teacher": ("teacher", {"genes": GENES, "programs": PROGRAMS}),
    "teacher of grades": ("teacher", {"kind": "classification", "magnifications": [20]}),
    "teacher without slides": ("teacher", {"n_features": 0}),
    "the paper's teacher": ("teacher", {"fusion": PaperFusion, "expression_encoder": ProgramTokenEncoder}),
    "teacher with arguments": ("teacher", {"fusion": partial(GatedPoolFusion, att_dim=8), "backbone": None}),
    "student": ("student", {"genes": GENES, "programs": PROGRAMS, "tissue_rank": 3}),
    "student without genes": ("student", {"genes": None}),
    "student with tissue attention": ("student", {"aggregator": partial(TokenAggregator, tissue_attention=True)}),
    "the paper's student": ("student", {"aggregator": PrototypeAggregator, "n_merged": 2, "tissue_specific": False}),
}


def saved(module, path):
    """The content of a checkpoint of a module, read back from a file."""
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), FORMAT_KEY: FORMAT}
    torch.save(content, path)
    return read_checkpoint(path)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_network_has_the_weights_and_the_output_of_the_trained_module(case, tmp_path):
    name, changes = case
    module = build(name, **changes)
    network = {"teacher": TeacherNetwork, "student": StudentNetwork}[name].from_checkpoint(
        saved(module, tmp_path / "m")
    )
    network.eval()
    assert list(network.state_dict()) == list(module.state_dict())
    batch = make_batch()
    expected, output = module(batch), network(batch)
    assert torch.equal(output.logits, expected.logits)
    assert output.programs.keys() == expected.programs.keys()
    assert all(torch.equal(output.programs[key], value) for key, value in expected.programs.items())


def test_arguments_of_the_training_are_left_out_and_a_missing_dimension_is_refused(tmp_path):
    content = saved(build("teacher", consistency_weight=0.5), tmp_path / "m")
    assert not hasattr(TeacherNetwork.from_checkpoint(content), "consistency_weight")
    content["hyper_parameters"]["n_features"] = None
    with pytest.raises(InputError, match="does not state the dimensions"):
        TeacherNetwork.from_checkpoint(content)


def test_weights_of_another_width_do_not_fit(tmp_path):
    content = saved(build("student", n_features=DIM), tmp_path / "m")
    content["hyper_parameters"]["width"] = 24
    with pytest.raises(RuntimeError, match="size mismatch"):
        StudentNetwork.from_checkpoint(content)


def test_a_section_is_imported_with_its_arguments_and_other_values_stay():
    layer = imported({"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 3}})()
    assert isinstance(layer, nn.Linear)
    assert imported(3) == 3
    assert imported({"tumor": ["A"]}) == {"tumor": ["A"]}
    with pytest.raises(InputError, match=r"its class gone\.module\.A cannot be imported"):
        imported({"class_path": "gone.module.A"})


def test_classes_among_the_arguments_of_a_class_are_noticed_at_any_depth():
    inner = {"class_path": "my.Part"}
    assert are_plain({"task": {"class_path": "my.Task", "init_args": {"edges": [1.0]}}, "genes": {"tumor": ["A"]}})
    for argument in (inner, [inner], {"parts": [inner]}):
        assert not are_plain({"fusion": {"class_path": "my.Fusion", "init_args": {"part": argument}}})
