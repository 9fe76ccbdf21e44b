"""The student's slot for an aggregation, and attention from tissue to tissue before both subspaces get the tokens."""

from functools import partial

import pytest
import torch
from batches import make_batch
from cohorts import data_of, quiet_trainer
from models import PROGRAMS, build

from dmml.callbacks.coordination import GradientCoordination
from dmml.errors import InputError
from dmml.nn.aggregator import Aggregator, TokenAggregator
from dmml.nn.paper.aggregator import PrototypeAggregator
from dmml.nn.paper.expression import ProgramTokenEncoder
from dmml.nn.paper.fusion import PaperFusion
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher
from dmml.types import SUBSPACES

ATTENDING = partial(TokenAggregator, tissue_attention=True)


class MeanAggregator(Aggregator):
    """An aggregation as users may write it: the mean of all tokens, as a plain pair."""

    def forward(self, tokens, bag):
        share = bag.mask / bag.mask.sum(1, keepdim=True).clamp_min(1)
        return {s: (share.unsqueeze(1) @ tokens[s]).squeeze(1) for s in SUBSPACES}, dict.fromkeys(SUBSPACES, share)


def test_a_users_aggregation_takes_the_place_of_the_default():
    batch = make_batch((5, 0, 7, 4), (20, 11, 28, 16))
    model = build("student", aggregator=MeanAggregator, programs=PROGRAMS, n_merged=3)
    assert model.aggregator["10x"].n_merged == 3
    output = model(batch)
    torch.testing.assert_close(output.attention[20, "tme"].sum(1), torch.ones(4))
    assert not output.prototypes
    model.losses(batch).total.backward()
    assert model.projection["20x"].linear.weight.grad.any()


def test_tissue_attention_is_computed_once_per_magnification_before_the_subspaces_part():
    """The two gradients that a rule gets are those of the attended tokens, and their sum reaches the attention."""
    batch, seen = make_batch(), []
    model = build("student", aggregator=ATTENDING, programs=PROGRAMS)
    calls = []
    for m in (10, 20):
        part = model.aggregator[f"{m}x"].tissue_attention
        part.register_forward_hook(lambda module, inputs, output, m=m: calls.append(m))

    def swallow_tme(tumor, tme):
        seen.append((tumor, tme))
        return tumor, tme * 0

    weights = [model.aggregator["20x"].tissue_attention.out.weight, model.projection["20x"].linear.weight]
    gradients = []
    for rule in (lambda tumor, tme: (tumor, tme), swallow_tme):
        model.zero_grad()
        model.set_shared_rule(rule)
        model.losses(batch).total.backward()
        gradients.append([weight.grad.clone() for weight in weights])
    assert sorted(calls) == [10, 10, 20, 20]
    assert {tumor.shape for tumor, _ in seen} == {(4, 7, 16), (4, 28, 16)}
    assert all(not torch.allclose(a, b) for a, b in zip(*gradients, strict=True))
    still = [name for name, p in model.aggregator.named_parameters() if "tissue_attention" in name and p.grad is None]
    assert still == []


def test_tissue_attention_changes_the_output_and_can_be_reduced_to_the_default():
    torch.manual_seed(0)
    plain, attending = build("student"), build("student", aggregator=ATTENDING)
    attending.load_state_dict(plain.state_dict(), strict=False)
    batch = make_batch()
    assert not torch.allclose(plain(batch).logits, attending(batch).logits, atol=1e-4)
    for part in attending.aggregator.values():
        torch.nn.init.zeros_(part.tissue_attention.out.weight)
        torch.nn.init.zeros_(part.tissue_attention.out.bias)
    assert torch.equal(plain(batch).logits, attending(batch).logits)


def test_a_token_reads_the_rest_of_its_slide_through_tissue_attention():
    batch = make_batch((5,), (30,), slides=[2])
    model = build("student", aggregator=ATTENDING)
    part, bag = model.aggregator["20x"], batch.bags[20]
    tokens = torch.randn(1, 30, 16, requires_grad=True)
    part.shared_tokens(tokens, bag)[0, 0].sum().backward()
    reaches = tokens.grad[0].abs().sum(1) > 0
    assert torch.equal(reaches, bag.slide[0] == 0), "tokens of its own slide, and none of another"


@pytest.mark.parametrize("aggregator", [TokenAggregator, ATTENDING])
def test_a_student_without_tissue_of_a_patient_gives_finite_gradients(aggregator):
    model, batch = build("student", aggregator=aggregator), make_batch((5, 0), (0, 0))
    model.losses(batch).total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


# ---- the paper's prototypes ------------------------------------------------------------------------------------------


def prototypes(**changes):
    return build("student", **{"aggregator": PrototypeAggregator, "n_merged": 2, "programs": PROGRAMS} | changes)


def test_the_prototypes_are_the_embeddings_and_pass_through_no_programs():
    batch = make_batch((5, 0, 7, 1), (20, 11, 28, 16))
    model = prototypes()
    output, clusters = model(batch), set()
    assert set(output.prototypes) == {10, 20}
    for m, labels in output.prototypes.items():
        bag = batch.bags[m]
        assert labels.shape == bag.mask.shape
        assert (labels[~bag.mask] == -1).all()
        clusters |= set(labels.unique().tolist())
        part = model.aggregator[f"{m}x"]
        tokens = part.shared_tokens(model.projection[f"{m}x"](bag.features, bag.mask), bag)
        expected = part(dict.fromkeys(SUBSPACES, tokens), bag)
        for s in SUBSPACES:
            torch.testing.assert_close(output.embeddings[m, s], expected.embeddings[s], atol=1e-5, rtol=1e-5)
            assert output.programs[m, s].shape == (4, 0)
    assert clusters == {-1, 0, 1}
    assert not model.program_readout
    assert not model.embed
    terms = model.losses(batch)
    assert terms.total.isfinite()
    terms.total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_prototypes_follow_the_tokens_of_a_batch_that_lacks_a_magnification():
    batch = make_batch()
    del batch.bags[10]
    output = prototypes()(batch)
    assert output.prototypes[10].shape == (4, 0)
    assert output.prototypes[20].shape == batch.bags[20].mask.shape


@pytest.mark.parametrize("n_merged", [8, 1])
def test_another_number_of_clusters_names_the_way_out(n_merged):
    with pytest.raises(InputError, match=rf"model\.n_merged.*n_merged is {n_merged}; set it to 2"):
        prototypes(n_merged=n_merged)


def fit(model, data, path, epochs):
    trainer = quiet_trainer(path.parent, max_epochs=epochs, callbacks=[GradientCoordination(rule="project")])
    trainer.fit(model, data)
    trainer.save_checkpoint(path)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("paper", [True, False], ids=["paper", "defaults"])
def test_a_teacher_is_distilled_into_prototypes_and_the_student_is_tested_from_its_checkpoint(cohort, tmp_path, paper):
    """With the paper's teacher and losses and no backbone, and with the default teacher, whose backbone is copied."""
    torch.manual_seed(0)
    added = {"width": 16} | ({"backbone": None, "tissue_specific": False} if paper else {})
    of_teacher = {"fusion": PaperFusion, "expression_encoder": ProgramTokenEncoder} if paper else {}
    teacher = fit(SubspaceTeacher(**added, **of_teacher), data_of(cohort), tmp_path / "t.ckpt", 1)
    losses = {"feature_distance": "squared", "soften_student": False, "feature_weight": 1.0, "distill_after": 0.5}
    student = SubspaceStudent(
        **added, **(losses if paper else {}), teacher=teacher, aggregator=PrototypeAggregator, n_merged=2
    )
    path = fit(student, data_of(cohort), tmp_path / "s.ckpt", 2)
    kept = torch.load(path, weights_only=True)["hyper_parameters"]
    assert kept["aggregator"] == {"class_path": "dmml.nn.paper.aggregator.PrototypeAggregator"}
    read = SubspaceStudent.load_from_checkpoint(path, weights_only=True)
    assert isinstance(read.aggregator["20x"], PrototypeAggregator)
    predicted = [quiet_trainer(tmp_path).predict(m, data_of(cohort, "held_out")) for m in (student, read)]
    for one, other in zip(*predicted, strict=True):
        assert torch.equal(one["predictions"]["risk"], other["predictions"]["risk"])
        assert one["predictions"]["risk"].isfinite().all()
        assert set(other["output"].prototypes[20].unique().tolist()) == {-1, 0, 1}
    assert read.has_backbone != paper
