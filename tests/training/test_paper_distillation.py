"""The student's distillation as the paper writes it (eqs. 13, 14 and 18), compared with plain loops."""

import math

import pytest
import torch
from batches import DIM, GENES, make_batch
from models import build, task_of

from dmml.errors import InputError
from dmml.training.losses.distillation import squared_embedding_distance
from dmml.training.student import SubspaceStudent
from dmml.types import SUBSPACES

PAPER = {
    "feature_distance": "squared",
    "soften_student": False,
    "feature_weight": 1.0,
    "prediction_weight": 1.0,
    "teacher_program_weight": 0.0,
    "program_weight": 0.0,
    "consistency_weight": 0.0,
    "decorrelation_weight": 0.0,
}


def taught(kind, **changes):
    """A student and its teacher, without files."""
    teacher = build("teacher", kind)
    student = build("student", kind, **PAPER | changes)
    student.teacher_path, student._teacher = "teacher.ckpt", (teacher,)
    return teacher, student


def slow_divergence(kind, student, teacher, temperature):
    """Σ p log(p / q) of one patient, with p softened and q not; for survival of every hazard by itself."""
    if kind == "classification":
        p = [math.exp(z / temperature) for z in teacher]
        q = [math.exp(z) for z in student]
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        p, q = 1 / (1 + math.exp(-t / temperature)), 1 / (1 + math.exp(-s))
        total += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    return total


@pytest.mark.parametrize("kind", ["classification", "survival"])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_only_the_teacher_is_softened_and_the_loss_is_the_plain_sum(kind, temperature):
    teacher, student = taught(kind, temperature=temperature)
    batch = make_batch((5, 3, 0, 4), (20, 11, 28, 16), kind=kind)
    terms, output, answer = student.losses(batch), student(batch), teacher(batch)
    values = []
    for s, t, rows in [
        (output.logits, answer.logits, range(4)),
        (output.logits_by_magnification[10], answer.logits_by_magnification[10], (0, 1, 3)),
        (output.logits_by_magnification[20], answer.logits_by_magnification[20], range(4)),
    ]:
        each = [slow_divergence(kind, s[i].tolist(), t[i].tolist(), temperature) for i in rows]
        values.append(sum(each) / len(each))
    assert terms.parts["distill_prediction"].item() == pytest.approx(sum(values) / 3, rel=1e-4, abs=1e-6)
    assert terms.total.item() == pytest.approx(sum(value.item() for value in terms.parts.values()), rel=1e-5)
    assert set(terms.parts) == {"task", "distill_prediction", "distill_features"}


def test_the_distance_is_the_squared_norm_of_the_joined_embeddings():
    teacher, student = taught("survival")
    batch = make_batch((5, 3, 0, 4), (20, 11, 28, 16))
    output, answer = student(batch), teacher(batch)
    values = []
    for m, rows in ((10, (0, 1, 3)), (20, range(4))):
        each = []
        for i in rows:
            pairs = [
                zip(answer.embeddings[m, s][i].tolist(), output.embeddings[m, s][i].tolist(), strict=True)
                for s in SUBSPACES
            ]
            each.append(sum((a - b) ** 2 for pair in pairs for a, b in pair))
        values.append(sum(each) / len(each))
    expected = sum(values) / 2
    assert student.losses(batch).parts["distill_features"].item() == pytest.approx(expected, rel=1e-4)
    everybody = {m: torch.ones(4, dtype=torch.bool) for m in (10, 20)}
    assert squared_embedding_distance(output, output, everybody) == 0
    longer = output.embeddings[10, "tumor"].detach() * 3
    output.embeddings[10, "tumor"] = longer
    assert squared_embedding_distance(output, answer, everybody) != squared_embedding_distance(
        student(batch), answer, everybody
    ), "unlike the default, it sees the length of an embedding"


@pytest.mark.parametrize("kind", ["classification", "survival"])
def test_a_student_that_equals_a_teacher_at_temperature_1_has_no_divergence(kind):
    _, student = taught(kind, temperature=1.0)
    logits = torch.randn(5, student.task.n_outputs)
    torch.testing.assert_close(student._divergence(logits, logits), torch.zeros(5), atol=1e-6, rtol=0)
    _, softened = taught(kind, temperature=1.0, soften_student=True)
    other = torch.randn_like(logits)
    torch.testing.assert_close(student._divergence(logits, other), softened._divergence(logits, other))


def test_the_defaults_are_the_softened_divergence_and_the_distance_of_directions():
    student = SubspaceStudent(n_features=DIM, genes=GENES, task=task_of("survival"), width=16)
    assert (student.soften_student, student.feature_distance) == (True, "direction")
    with pytest.raises(
        InputError, match=r"model\.feature_distance: 'cosine' is unknown; use one of direction, squared"
    ):
        SubspaceStudent(feature_distance="cosine")
