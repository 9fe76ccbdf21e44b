"""The teacher as the paper has it: gene tokens, selection, consistency of attention maps, gating by confidence."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from batches import GENES, make_batch, one_patient, pad_batch, shuffle_batch
from cohorts import data_of, quiet_trainer
from models import PROGRAMS, build

from dmml.callbacks.coordination import GradientCoordination
from dmml.errors import InputError
from dmml.experiment.crossval.fit import build as build_from_sections
from dmml.networks.checkpoint_content import FORMAT, FORMAT_KEY
from dmml.nn.fusion import DeformableFusion, GatedPoolFusion
from dmml.nn.paper.expression import ProgramTokenEncoder
from dmml.nn.paper.fusion import PaperFusion
from dmml.nn.released_code.expression import ReleasedExpressionEncoder
from dmml.nn.released_code.fusion import ReleasedFusion
from dmml.tasks import Classification, Survival
from dmml.training.losses.loss_terms import consistency_loss
from dmml.training.teacher import SubspaceTeacher
from dmml.types import SUBSPACES

PARTS = {"fusion": PaperFusion, "expression_encoder": ProgramTokenEncoder, "backbone": None}
PAPER = PARTS | {"programs": PROGRAMS, "consistency": "dev", "consistency_weight": 0.1, "decorrelation_weight": 0.05}


def close(a, b, atol=1e-5):
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


def paper_teacher(**changes):
    return build("teacher", **PAPER | changes)


def tensors(output):
    """All tensors of an output that have one row per patient, by name; attention of tokens is left out."""
    named = {"logits": output.logits}
    for field in ("logits_by_magnification", "subspace_logits", "embeddings", "programs", "gene_attention"):
        named |= {f"{field} {key}": value for key, value in getattr(output, field).items()}
    return named


def test_an_embedding_is_the_output_of_the_fusion_alone():
    model, batch = paper_teacher(), make_batch((5, 0, 7, 4), (20, 0, 28, 16), has_rna=[True, True, False, True])
    assert not model.program_readout
    assert not model.embed
    fused = {}
    hooks = [
        part.register_forward_hook(lambda _, inputs, result, key=key: fused.update({key: result}))
        for key, part in model.fusion.items()
    ]
    output = model(batch)
    for hook in hooks:
        hook.remove()
    for m in (10, 20):
        for s in SUBSPACES:
            assert torch.equal(output.embeddings[m, s], fused[f"{m}x_{s}"].embedding)
            assert torch.equal(output.gene_attention[m, s], fused[f"{m}x_{s}"].gene_attention)
            assert output.gene_attention[m, s].shape == (4, 8 * len(PROGRAMS[s]) * 144)
            assert (output.gene_attention[m, s][1] == 0).all(), "a patient without tissue"
    assert output.guided_programs == {}
    assert output.programs[10, "tumor"].shape == (4, 2), "programs are predicted as with any other fusion"


def test_the_slide_changes_the_prediction_only_with_several_gene_tokens():
    batch, other = make_batch(), make_batch()
    other = replace(batch, bags=other.bags)
    several = paper_teacher(tissue_specific=False)
    assert (several(batch).logits - several(other).logits).abs().max() > 1e-6
    one = paper_teacher(tissue_specific=False, expression_encoder=build("teacher")._encoder_factory)
    close(one(batch).logits, one(other).logits, atol=1e-7)


@pytest.mark.parametrize("programs", [PROGRAMS, None], ids=["programs", "single genes"])
def test_every_parameter_gets_a_gradient_whatever_a_batch_lacks(programs):
    """DDP waits for every parameter's gradient: each has one, or is frozen."""
    whole = make_batch((5, 0, 7, 4), (20, 0, 28, 0), has_rna=[True, True, False, True])
    nobody = replace(
        whole, bags={}, parent=whole.parent[:, :0], expression={}, has_expression=whole.has_expression & False
    )
    for weight in (1.0, 0.0):
        for batch in (whole, nobody):
            model = paper_teacher(programs=programs, program_weight=weight).train()
            model.setup("fit")
            model.losses(batch).total.backward()
            lacking = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
            assert lacking == []
            frozen = {n.split(".")[0] for n, p in model.named_parameters() if not p.requires_grad}
            assert frozen == (set() if weight else {"program_heads"})
            assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_padding_order_and_batch_mates_change_no_output():
    batch = make_batch((5, 3, 0, 9), (20, 11, 0, 31), has_rna=[True, False, True, True], slides=[1, 2, 1, 3])
    model = paper_teacher()
    expected = tensors(model(batch))
    shuffled, _ = shuffle_batch(batch)
    for other in (pad_batch(batch, 40), pad_batch(batch, 3, float("nan")), shuffled):
        for name, value in tensors(model(other)).items():
            close(value, expected[name])
    for i in range(4):
        for name, value in tensors(model(one_patient(batch, i))).items():
            close(value[0], expected[name][i])


def test_padding_changes_no_gradient():
    batch, model, gradients = make_batch((5, 3, 7, 9), (20, 11, 28, 31)), paper_teacher(), []
    for each in (batch, pad_batch(batch, 17)):
        model.zero_grad(set_to_none=True)
        model.losses(each).total.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        close(gradients[1][name], gradient, atol=1e-4)


def test_a_class_named_in_a_config_has_its_own_defaults():
    """The parser must not fill in the arguments of the default classes, some of which have the same names."""
    trainer = {"accelerator": "cpu", "logger": False}
    for parts in ((PaperFusion, ProgramTokenEncoder), (ReleasedFusion, ReleasedExpressionEncoder)):
        fusion, encoder = ({"class_path": f"{part.__module__}.{part.__name__}"} for part in parts)
        section = {"fusion": fusion, "expression_encoder": encoder, "n_features": 8, "genes": GENES}
        model, _ = build_from_sections({"class_path": "SubspaceTeacher", "init_args": section}, trainer)
        for made, part in ((model.fusion["10x_tumor"], parts[0](128)), (model.expression["tme"], parts[1](5, 128))):
            if isinstance(part, ProgramTokenEncoder):
                part.set_programs(None)
            assert [(n, p.shape) for n, p in made.named_parameters()] == [
                (n, p.shape) for n, p in part.named_parameters()
            ]
        assert model.fusion["10x_tumor"].cells == 24
        rates = [layer.p for layer in model.expression["tumor"].modules() if isinstance(layer, torch.nn.AlphaDropout)]
        assert set(rates) == {0.1}
    section = {"n_features": 8, "genes": {}, "n_merged": 2, "aggregator": {"class_path": "PrototypeAggregator"}}
    student, _ = build_from_sections({"class_path": "SubspaceStudent", "init_args": section}, trainer)
    assert student.aggregator["10x"].tissue_attention is not None, "its default, and not that of TokenAggregator"


@pytest.mark.parametrize("programs", [PROGRAMS, None], ids=["programs", "single genes"])
def test_a_checkpoint_is_loaded_without_unpickling_with_the_programs_of_its_tokens(programs, tmp_path):
    fusion = partial(PaperFusion, heads=4, anchors=4, selection=False)
    model = paper_teacher(
        programs=programs, fusion=fusion, task=Survival(edges=[300.0, 700, 1300], end=2000.0, combination="confidence")
    )
    kept = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": "2.6.0",
        FORMAT_KEY: FORMAT,
    }
    torch.save(kept, tmp_path / "m.ckpt")
    read = SubspaceTeacher.load_from_checkpoint(tmp_path / "m.ckpt", weights_only=True).eval()
    batch = make_batch()
    for name, value in tensors(model(batch)).items():
        assert torch.equal(tensors(read(batch))[name], value), name
    assert read.task.combination == "confidence"
    assert read.hparams["fusion"]["class_path"] == "dmml.nn.paper.fusion.PaperFusion", "it can be saved again"
    assert read.consistency == "dev"


def test_without_slides_an_embedding_is_the_mean_of_the_gene_tokens():
    model, batch = paper_teacher(n_features=0, consistency="expression"), make_batch(has_rna=[True, False, True, True])
    output = model(replace(batch, bags={}, parent=batch.parent[:, :0]))
    for s in SUBSPACES:
        tokens = model.expression[s](batch.expression[s], batch.has_expression)
        assert tokens.shape == (4, len(PROGRAMS[s]), 16)
        close(output.embeddings[10, s], tokens.mean(1))
    model.setup("fit")
    model.train().losses(batch).total.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def slow_dev(output, rows):
    """Eq. 7, patient by patient and entry by entry, summed over the two subspaces."""
    total = 0.0
    for s in SUBSPACES:
        agreement = []
        for i in rows:
            pairs = zip(output.gene_attention[10, s][i].tolist(), output.gene_attention[20, s][i].tolist(), strict=True)
            agreement.append(sum(a * b for a, b in pairs))
        mean = sum(agreement) / len(agreement)
        total += sum((c - mean) ** 2 for c in agreement) / len(agreement)
    return total


@pytest.mark.slow
@pytest.mark.parametrize("fusion", [PaperFusion, DeformableFusion, ReleasedFusion])
def test_dev_is_eq_7_over_the_patients_who_have_both_magnifications(fusion):
    changes = {} if fusion is PaperFusion else {"expression_encoder": build("teacher")._encoder_factory}
    model = paper_teacher(fusion=fusion, consistency_weight=3.0, **changes)
    batch = make_batch((5, 0, 7, 4, 9), (20, 11, 0, 16, 30))
    with torch.no_grad():
        output, terms = model(batch), model.losses(batch)
        expected = slow_dev(output, [0, 3, 4])
        assert terms.parts["consistency"].item() == pytest.approx(expected, rel=1e-3, abs=1e-7)
        assert expected > 0
        for name, weight in (
            ("task", 1),
            ("programs", model.program_weight),
            ("decorrelation", model.decorrelation_weight),
        ):
            terms.total -= weight * terms.parts[name]
        assert terms.total.item() == pytest.approx(3 * expected, rel=1e-2, abs=1e-5)
        assert model.losses(one_patient(batch, 0)).parts["consistency"] == 0, "the biased variance of one patient"
        assert model.losses(one_patient(batch, 1)).parts["consistency"] == 0, "nobody has both magnifications"


@pytest.mark.parametrize("form", ["dev", "released_dev"])
def test_the_forms_on_attention_maps_have_a_gradient(form):
    model = paper_teacher(consistency=form, program_weight=0.0, decorrelation_weight=0.0, consistency_weight=1.0)
    terms = model.losses(make_batch())
    assert terms.parts["consistency"] > 0
    terms.parts["consistency"].backward()
    for name in ("projection.10x.linear.weight", "fusion.20x_tme.query", "expression.tumor.weight"):
        assert model.get_parameter(name).grad.any()


def test_forms_on_attention_maps_are_refused_without_maps_and_where_they_differ():
    class AnotherSize(PaperFusion):
        built = 0

        def __init__(self, width):
            AnotherSize.built += 1
            super().__init__(width, anchors=4 + AnotherSize.built // 3)

    plain = {"expression_encoder": build("teacher")._encoder_factory}
    for model, message in (
        (
            paper_teacher(fusion=GatedPoolFusion, **plain),
            "which the fusion does not have; use a teacher with slides and",
        ),
        (
            paper_teacher(n_features=0),
            "consistency: dev compares gene-to-tissue attention, which this model does not have",
        ),
        (
            build("student", consistency="released_dev"),
            "consistency: released_dev compares .* which this model does not have",
        ),
        (paper_teacher(fusion=AnotherSize), r"sizes differ \(10x_tumor \d+, 20x_tumor \d+\); give the fusion"),
    ):
        with pytest.raises(InputError, match=message) as refused:
            model.setup("fit")
        assert "\n" not in str(refused.value)
    for changes in ({"consistency_weight": 0.0}, {"magnifications": (20,)}):
        paper_teacher(fusion=GatedPoolFusion, **plain, **changes).setup("fit")
    batch, without = make_batch(), paper_teacher(fusion=GatedPoolFusion, **plain)
    with pytest.raises(InputError, match="which this model does not have"):
        consistency_loss("dev", without(batch), batch, without._available(batch))


def test_the_removed_form_of_the_consistency_names_both_of_its_successors():
    with pytest.raises(InputError, match=r"batch is no form any more; use dev \(the paper's .*\) or released_dev"):
        build("teacher", consistency="batch")


def test_gene_tokens_need_a_fusion_that_reads_them():
    with pytest.raises(
        InputError, match="DeformableFusion reads one vector per patient, and ProgramTokenEncoder gives sev"
    ):
        build("teacher", expression_encoder=ProgramTokenEncoder)
    with pytest.raises(InputError, match="output of PaperFusion is the whole embedding, so tissue cannot enter it"):
        paper_teacher(tissue_through_programs=True)
    paper_teacher(tissue_through_programs=False)


def slow_coordination(model, batch):
    """Eq. 6 in plain loops: the classifiers' gradients after coordination, from the halves of D and softmax at the label."""
    output, labels = model(batch), batch.target["label"].tolist()
    gradients = []
    for m in (10, 20):
        head = model.heads[f"{m}x"].linear
        width, weight, bias = model.width, head.weight.detach(), head.bias.detach()
        confidence = {}
        for k, s in enumerate(SUBSPACES):
            half = output.embeddings[m, s].detach() @ weight[:, k * width : (k + 1) * width].T + bias / 2
            confidence[s] = sum(half[i].softmax(0)[label].item() for i, label in enumerate(labels))
        gradient = head.weight.grad.clone()
        for row in gradient:
            tumor, tme = row[:width], row[width:]
            if tumor @ tme < 0:
                less, more = (tumor, tme) if confidence["tumor"] < confidence["tme"] else (tme, tumor)
                less -= (less @ more) / (more @ more) * more
        gradients.append(gradient)
    return gradients


@pytest.mark.slow
def test_coordination_with_the_papers_settings_is_eq_6(tmp_path):
    """One step through Lightning, with dropout off; the rows of the classifier's weight are compared class by class."""
    model = build("teacher", "classification", **PAPER | {"embedding_dropout": 0.0, "token_dropout": 0.0})
    model.tissue_specific = False
    batch = make_batch((5, 3, 7, 4) * 2, (20, 11, 28, 16) * 2, kind="classification")
    with torch.no_grad():  # opposed embeddings, so that the gradients of the two halves conflict
        for m in (10, 20):
            model.fusion[f"{m}x_tme"].to_embedding.weight.copy_(-model.fusion[f"{m}x_tumor"].to_embedding.weight)
    seen = {}

    class Keep(GradientCoordination):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            module.eval()
            seen["expected"] = slow_coordination(module, batch)
            seen["before"] = [module.heads[f"{m}x"].linear.weight.grad.clone() for m in (10, 20)]
            super().on_before_optimizer_step(trainer, module, optimizer)
            seen["after"] = [module.heads[f"{m}x"].linear.weight.grad.clone() for m in (10, 20)]

    model.expression_dropout = 0.0
    for encoder in model.expression.values():
        encoder.dropout.p = 0.0
    rule = Keep(scope="classifier", rule="project", confidence="probability")
    trainer = quiet_trainer(tmp_path, max_steps=1, callbacks=[rule])
    trainer.fit(model, torch.utils.data.DataLoader([batch], batch_size=None))
    for after, expected in zip(seen["after"], seen["expected"], strict=True):
        close(after, expected)
    changed = [not torch.allclose(a, b) for a, b in zip(seen["before"], seen["after"], strict=True)]
    assert any(changed), "no row was in conflict, so nothing was tested"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["survival", "classification"])
def test_the_papers_teacher_is_fitted_and_tested_on_a_cohort(cohort, kind, tmp_path):
    """With the consistency of attention maps, gating by confidence and the paper's coordination."""
    changes = {}
    task = Survival(combination="confidence")
    if kind == "classification":
        changes = {"outcome": {"label": "grade"}}
        task = Classification(combination="confidence")
    model = SubspaceTeacher(**PARTS, task=task, width=16, consistency="dev", consistency_weight=1.0)
    rule = GradientCoordination(scope="classifier", rule="project", confidence="probability")
    trainer = quiet_trainer(tmp_path, max_epochs=2, callbacks=[rule])
    data = data_of(cohort, **changes)
    trainer.fit(model, datamodule=data)
    assert trainer.callback_metrics["train/consistency"].isfinite()
    assert trainer.callback_metrics["train/consistency"] > 0
    assert trainer.callback_metrics["val/loss"].isfinite()
    trainer.save_checkpoint(tmp_path / "t.ckpt")
    read = SubspaceTeacher.load_from_checkpoint(tmp_path / "t.ckpt", weights_only=True)
    assert {s: len(names) for s, names in read.scores.names.items()} == {"tumor": 3, "tme": 3}
    outputs = []
    read.on_test_batch_end = lambda result, *_: outputs.append(result["output"])
    quiet_trainer(tmp_path).test(read, datamodule=data, verbose=False)
    logits = torch.cat([output.logits for output in outputs])
    assert logits.isfinite().all()
    assert logits.std(0).max() > 0
    assert outputs[0].gene_attention[10, "tumor"].shape[1] == 8 * 3 * 144
