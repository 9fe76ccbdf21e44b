"""Output of a fitted backbone: its parts, missing data, the student's copy, invariances and checkpoints."""

from dataclasses import replace

import pytest
import torch
from backbone_patients import answer, cohort, fitted, logits_of, rows_of, training
from batches import one_patient, pad_batch, shuffle_batch
from models import task_of

from dmml.backbone.backbone import Backbone
from dmml.backbone.fit_backbone import fit_backbone

KINDS = ("survival", "classification")


@pytest.fixture(scope="module", params=KINDS)
def case(request):
    """A cohort in which patients lack RNA or slides, and its backbone."""
    batch = cohort(60, request.param, without_rna=8, without_slides=8, unknown=4)
    return batch, *fitted(batch, request.param)


def equal(a, b, rows_of_b=slice(None), atol=1e-5):
    """Assert that two outputs of a backbone are equal."""
    for name in a.subspaces:
        torch.testing.assert_close(a.subspaces[name], b.subspaces[name][rows_of_b], atol=atol, rtol=1e-5)
    torch.testing.assert_close(a.tissue, b.tissue[rows_of_b], atol=atol, rtol=1e-5)
    for key in a.programs:
        torch.testing.assert_close(a.programs[key], b.programs[key][rows_of_b], atol=atol, rtol=1e-5)


def test_padding_token_order_and_other_patients_of_the_batch_change_no_output(case):
    batch, backbone, _ = case
    whole = answer(backbone, batch)
    for garbage in (None, float("nan"), float("inf")):
        equal(answer(backbone, pad_batch(batch, 11, garbage)), whole)
    equal(answer(backbone, shuffle_batch(batch)[0]), whole)
    for i in (0, 20, 45):
        equal(answer(backbone, one_patient(batch, i)), whole, slice(i, i + 1))


def test_a_patient_without_slides_has_no_tissue_part_and_mean_programs(case):
    batch, backbone, _ = case
    output = answer(backbone, batch)
    assert not output.tissue[-8:].any()
    assert output.tissue[:-8].any(1).all()
    assert set(output.programs) == {(m, s) for m in (10, 20) for s in ("tumor", "tme")}
    for scores in output.programs.values():
        assert not scores[-8:].any()
        assert scores[:-8].any(1).all()


def test_a_missing_magnification_is_left_out_and_the_other_is_used(case):
    batch, backbone, _ = case
    bag = batch.bags[10]
    without = replace(batch, bags=batch.bags | {10: replace(bag, mask=torch.zeros_like(bag.mask))})
    output, whole = answer(backbone, without), answer(backbone, batch)
    assert not output.programs[10, "tumor"].any()
    torch.testing.assert_close(output.programs[20, "tumor"], whole.programs[20, "tumor"])
    assert output.tissue[:-8].any(1).all()
    assert (output.tissue - whole.tissue)[:-8].abs().max() > 1e-4


def test_patients_without_rna_are_predicted_from_the_slide_whatever_their_gene_values(case):
    batch, backbone, _ = case
    output = answer(backbone, batch)
    arbitrary = {
        s: torch.where(batch.has_expression.unsqueeze(1), v, torch.full_like(v, 99))
        for s, v in batch.expression.items()
    }
    equal(answer(backbone, replace(batch, expression=arbitrary)), output)
    without_rna = answer(backbone, batch, torch.zeros(60, dtype=torch.bool))
    equal(answer(backbone, rows_of(batch, list(range(8)))), without_rna, slice(0, 8))
    assert without_rna.subspaces["tumor"][8:50].std(0).min() > 1e-3  # from the slide
    assert without_rna.subspaces["tumor"][-8:].std(0).max() < 1e-6  # without any data, the constant


def test_a_students_copy_predicts_as_its_teacher_does_for_patients_without_rna(case):
    batch, teacher, _ = case
    student = Backbone()
    student.copy_without_rna(teacher)
    assert not any(name.startswith("rna") for name in student.readouts)
    without_rna = torch.zeros(60, dtype=torch.bool)
    of_teacher, of_student = answer(teacher, batch, without_rna), answer(student, batch, without_rna)
    assert torch.equal(logits_of(of_student), logits_of(of_teacher))
    assert all(torch.equal(of_student.programs[key], of_teacher.programs[key]) for key in of_teacher.programs)
    # The copy ignores RNA.
    assert torch.equal(logits_of(answer(student, batch)), logits_of(of_student))


def test_a_backbone_with_the_same_layout_and_state_gives_the_same_output(case):
    batch, backbone, _ = case
    again = Backbone()
    again.build(backbone.layout)
    again.load_state_dict(backbone.state_dict())
    assert (
        again.make_layout(backbone.layout["n_predictors"], backbone.layout["n_outputs"], backbone.layout["programs"])
        == backbone.layout
    )
    assert torch.equal(logits_of(answer(again, batch)), logits_of(answer(backbone, batch)))


def test_patients_with_and_without_rna_are_calibrated_separately(case):
    batch, backbone, parts = case
    for has_rna in (batch.has_expression, ~batch.has_expression):
        output = backbone.output(parts[0], has_rna, {})
        for i in (3, 30):
            row = 0 if has_rna[i] else 1
            expected = backbone.calibration_bias[row] + parts[0, i].sum(0) @ backbone.calibration_weight[row]
            torch.testing.assert_close(logits_of(output)[i], expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(backbone.calibration_weight[0], backbone.calibration_weight[1])


def test_cross_fitted_programs_are_fitted_without_the_patient(case):
    batch, backbone, _ = case
    kind = "survival" if "time" in batch.target else "classification"
    train = training(batch)
    cross_fitted = fit_backbone(Backbone(), train, task_of(kind)).programs
    for (m, s), scores in answer(backbone, batch).programs.items():
        assert not torch.allclose(cross_fitted[m, s], scores, atol=1e-3)
        measured, rows = train.programs[s], torch.as_tensor(train.has_expression) & batch.bags[m].mask.any(1)
        errors = [(values - measured)[rows].square().mean() for values in (scores, cross_fitted[m, s])]
        assert errors[0] < errors[1] < 1.5 * measured[rows].square().mean()


def test_the_bias_is_split_between_the_subspaces_and_tissue_has_none(case):
    batch, backbone, _ = case
    empty = rows_of(batch, list(range(52, 60)))
    output = answer(backbone, empty, torch.zeros(8, dtype=torch.bool))
    for logits in output.subspaces.values():
        torch.testing.assert_close(logits, (backbone.calibration_bias[1] / 2).expand_as(logits), atol=1e-6, rtol=1e-5)


def test_arguments_out_of_range_are_refused():
    for wrong in ({"components": 0}, {"clusters": 1}, {"max_tokens": 1}):
        with pytest.raises(ValueError, match="a backbone needs"):
            Backbone(**wrong)
