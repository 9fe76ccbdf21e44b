"""The contract of `SubspaceOutput` for teacher and student, whatever a batch lacks."""

from dataclasses import replace

import pytest
import torch
from batches import DIM, make_batch, one_patient, pad_batch, shuffle_batch
from models import PROGRAMS, build, task_of

from dmml.nn.fusion import DeformableFusion, GatedPoolFusion
from dmml.training.student import SubspaceStudent
from dmml.types import SUBSPACES, Bag

KEYS = {(m, s) for m in (10, 20) for s in SUBSPACES}


@pytest.fixture(params=["teacher", "student"])
def name(request):
    return request.param


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def same(a, b, rows=slice(None), rows_b=slice(None)):
    """Everything but the attention, which has another width where the padding differs."""
    close(a.logits[rows], b.logits[rows_b])
    fields = "logits_by_magnification", "subspace_logits", "embeddings", "programs", "tissue_logits", "gene_attention"
    for field in fields:
        for key, values in getattr(a, field).items():
            close(values[rows], getattr(b, field)[key][rows_b])


@pytest.mark.parametrize("kind", ["survival", "classification"])
def test_an_output_has_the_documented_keys_and_shapes(name, kind):
    batch = make_batch(kind=kind)
    model = build(name, kind, programs=PROGRAMS)
    output, c = model(batch), 4 if kind == "survival" else 3
    assert output.logits.shape == (4, c)
    assert set(output.logits_by_magnification) == {10, 20}
    assert (
        set(output.subspace_logits) == set(output.embeddings) == set(output.attention) == set(output.programs) == KEYS
    )
    for m in (10, 20):
        assert output.logits_by_magnification[m].shape == (4, c)
        parts = [*(output.subspace_logits[m, s] for s in SUBSPACES), output.tissue_logits[m]]
        close(sum(parts), output.logits_by_magnification[m])
        close(output.tissue_attention[m].sum(1), torch.ones(4))
        assert (output.tissue_attention[m][~batch.bags[m].mask] == 0).all()
        for s, n_programs in (("tumor", 2), ("tme", 3)):
            assert output.embeddings[m, s].shape == (4, 16)
            assert output.attention[m, s].shape == batch.bags[m].mask.shape
            assert output.programs[m, s].shape == (4, n_programs)
            close(output.attention[m, s].sum(1), torch.ones(4))
            assert (output.attention[m, s][~batch.bags[m].mask] == 0).all()
    close(
        output.logits,
        model.task.combine(
            torch.stack([output.logits_by_magnification[m] for m in (10, 20)]), torch.ones(2, 4, dtype=torch.bool)
        ),
    )


class PairFusion(GatedPoolFusion):
    """A fusion as users may write it, which returns a plain pair."""

    def forward(self, tokens, bag, condition):
        return tuple(super().forward(tokens, bag, condition)[:2])


def test_a_teacher_gives_the_gene_attention_of_its_fusion_and_takes_a_plain_pair_as_well():
    batch = make_batch((5, 0, 7, 4), (20, 11, 0, 16))
    output = build("teacher", fusion=DeformableFusion)(batch)
    assert set(output.gene_attention) == KEYS
    for (m, _), values in output.gene_attention.items():
        close(values.sum(1), 2.0 * batch.bags[m].mask.any(1))
    torch.manual_seed(1)
    gated = build("teacher", fusion=GatedPoolFusion)
    pair = build("teacher", fusion=PairFusion)
    pair.load_state_dict(gated.state_dict())
    same(pair(batch), gated(batch))
    assert pair(batch).gene_attention == build("student")(batch).gene_attention == {}


def test_a_patients_output_depends_on_neither_batch_padding_nor_token_order(name):
    batch = make_batch((5, 70, 1, 300), (20, 200, 3, 90), has_rna=[True, False, True, False], slides=[1, 3, 1, 2])
    model = build(name, programs=PROGRAMS)
    output = model(batch)
    for i in range(4):
        same(output, model(one_patient(batch, i)), slice(i, i + 1))
    for garbage in (None, float("nan")):
        padded = model(pad_batch(batch, 75, garbage))
        same(output, padded)
        close(padded.attention[10, "tme"][:, :300], output.attention[10, "tme"])
        close(padded.tissue_attention[10][:, :300], output.tissue_attention[10])
    shuffled, orders = shuffle_batch(batch)
    again = model(shuffled)
    same(output, again)
    close(again.attention[20, "tumor"], output.attention[20, "tumor"][:, orders[20]])
    close(again.tissue_attention[20], output.tissue_attention[20][:, orders[20]])


def test_padding_does_not_affect_a_gradient(name):
    model, batch = build(name), make_batch()
    model.losses(pad_batch(batch, 9, float("nan"))).total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_every_form_of_missing_rna_gives_the_same_output(name):
    batch = make_batch(has_rna=[True, False, True, False])
    model = build(name)
    output, losses = model(batch), model.losses(batch)
    poisoned = {
        s: values.masked_fill(~batch.has_expression.unsqueeze(1), float("nan"))
        for s, values in batch.expression.items()
    }
    same(output, model(replace(batch, expression=poisoned)))
    terms = model.losses(replace(batch, expression=poisoned))
    for part, value in terms.parts.items():
        close(value, losses.parts[part])
    terms.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    nobody = replace(batch, has_expression=batch.has_expression & False)
    without = replace(nobody, expression={})
    same(model(nobody), model(without))
    same(output, model(without), [1, 3], [1, 3])
    if name == "student":
        same(output, model(without))  # reads tissue alone
    else:
        assert not torch.allclose(output.logits[0], model(without).logits[0])


@pytest.mark.parametrize("lacking", [10, 20])
def test_a_magnification_may_be_missing(name, lacking):
    batch = make_batch()
    model = build(name)
    available = 30 - lacking
    empty = Bag(
        *(
            x[:, :0]
            for x in (
                batch.bags[lacking].features,
                batch.bags[lacking].position,
                batch.bags[lacking].mask,
                batch.bags[lacking].slide,
            )
        )
    )
    masked = replace(batch.bags[lacking], mask=batch.bags[lacking].mask & False)
    parent = batch.parent[:, :0] if lacking == 20 else batch.parent * 0 - 1
    outputs = []
    for bags, width in (
        ({available: batch.bags[available]}, 0),
        ({available: batch.bags[available], lacking: empty}, 0),
        (dict(batch.bags) | {lacking: masked}, masked.mask.shape[1]),
    ):
        lacking_batch = replace(batch, bags=bags, parent=batch.parent * 0 - 1 if width else parent)
        output = model(lacking_batch)
        outputs.append(output)
        assert set(output.attention) == KEYS
        assert output.attention[lacking, "tumor"].shape == (4, width)
        assert not output.attention[lacking, "tumor"].any()
        assert output.tissue_attention[lacking].shape == (4, width)
        assert not output.tissue_logits[lacking].any()
        assert not output.programs[lacking, "tme"].any()
        expected = output.logits_by_magnification[available]
        close(output.logits, expected)
        terms = model.losses(lacking_batch)
        assert terms.parts["consistency"] == 0
        terms.total.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    same(outputs[0], outputs[1])
    same(outputs[0], outputs[2])
    if name == "teacher":
        encoded = model.expression["tumor"](batch.expression["tumor"], batch.has_expression)
        close(outputs[0].embeddings[lacking, "tumor"], encoded)
    else:
        assert not outputs[0].embeddings[lacking, "tumor"].any()


def test_a_patient_without_any_tissue_averages_all_magnifications():
    batch = make_batch((5, 0), (20, 0))
    model = build("teacher")
    output = model(batch)
    combined = model.task.combine(
        torch.stack(list(output.logits_by_magnification.values())), torch.ones(2, 2, dtype=torch.bool)
    )
    close(output.logits[1], combined[1])
    assert all(not output.attention[key][1].any() for key in KEYS)


def test_models_of_rna_alone_tissue_alone_or_one_magnification_have_outputs():
    batch = make_batch()
    rna = build("teacher", n_features=0)
    output = rna(replace(batch, bags={}, parent=batch.parent[:, :0]))
    assert output.attention[10, "tumor"].shape == (4, 0)
    assert all(not value.any() for value in output.programs.values())
    close(output.embeddings[10, "tme"], output.embeddings[20, "tme"])
    rna.losses(replace(batch, bags={}, parent=batch.parent[:, :0])).total.backward()
    same(output, rna(batch))  # tissue that the model does not read changes nothing
    for name in ("teacher", "student"):
        tissue = build(name, genes={})
        seen = tissue(replace(batch, expression={}, has_expression=batch.has_expression & False))
        assert seen.programs[10, "tumor"].shape == (4, 0)
        same(seen, tissue(batch))
        assert tissue.losses(batch).parts["programs"] == 0
        single = build(name, magnifications=(20,))
        output = single(batch)
        assert set(output.logits_by_magnification) == {20}
        assert set(output.embeddings) == {(20, "tumor"), (20, "tme")}
        assert "consistency" not in single.losses(batch).parts


def test_one_argument_removes_the_tissue_specific_part(name):
    model = build(name, tissue_specific=False)
    assert not [key for key in model.state_dict() if "tissue_heads" in key]
    output = model(make_batch())
    assert output.tissue_logits == output.tissue_attention == {}
    model.losses(make_batch()).total.backward()


def test_every_parameter_of_the_tissue_specific_part_gets_a_gradient(name):
    """Otherwise several processes would wait for a gradient that never comes."""
    batch = make_batch()
    for bags in (batch.bags, {10: batch.bags[10]}, {}):
        model = build(name)
        parent = batch.parent if len(bags) == 2 else batch.parent[:, :0]
        model.losses(replace(batch, bags=bags, parent=parent)).total.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.tissue_heads.parameters())
        assert any(p.grad.any() for p in model.tissue_heads.parameters()) == bool(bags)


def test_a_student_without_teacher_and_genes_has_no_programs():
    student = SubspaceStudent(n_features=DIM, task=task_of("survival"), width=16).eval()
    assert student(make_batch()).programs[20, "tme"].shape == (4, 0)
    assert student.losses(make_batch()).total.isfinite()


def test_without_named_programs_each_gene_is_a_program(name):
    batch = make_batch(has_rna=[True, False, True, True])
    scores = build(name).scores(batch.expression, batch.has_expression)
    close(scores["tumor"], batch.expression["tumor"])
    scores = build(name, programs=PROGRAMS).scores(batch.expression, batch.has_expression)
    close(scores["tumor"][:, 1], batch.expression["tumor"][:, 2:6].mean(1))
    close(scores["tme"][:, 1], batch.expression["tme"][:, [1, 4]].mean(1))
    assert not scores["tme"][1].any()


def test_features_of_another_width_are_refused(name):
    with pytest.raises(ValueError, match="the model was built for 9"):
        build(name, n_features=9)(make_batch())


def test_a_batch_that_lacks_the_rna_of_a_subspace_counts_as_without_rna():
    """Not as patients whose genes are all at the training mean."""
    batch, model = make_batch(has_rna=[True] * 4), build("teacher").eval()
    for s in ("tumor", "tme"):
        lacking = replace(batch, expression={k: v for k, v in batch.expression.items() if k != s})
        nobody = model(replace(batch, has_expression=batch.has_expression & False)).embeddings
        some = model(lacking).embeddings
        torch.testing.assert_close(some[10, s], nobody[10, s])
        other = "tme" if s == "tumor" else "tumor"
        torch.testing.assert_close(some[10, other], model(batch).embeddings[10, other])
