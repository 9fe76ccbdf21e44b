"""Contributions of programs to the deep part, against the logits of a network whose programs are changed one by one."""

from __future__ import annotations

import pytest
import torch
from models import PROGRAMS

from dmml.experiment.predict_slide.answer import read_answer
from dmml.experiment.predict_slide.explain.program_contributions import program_contributions, program_record


@pytest.mark.parametrize("kind", ["survival", "classification"])
@pytest.mark.parametrize(
    ("name", "changes"),
    [("student", {"with_programs": True}), ("teacher", {"programs": PROGRAMS}), ("student", {"deep_share": None})],
)
def test_a_program_adds_what_the_logits_lose_without_it(make_model, make_patient, name, changes, kind):
    model, patient = make_model(name, kind, **changes), make_patient(kind)
    _, output = read_answer(model, patient)
    contributions = program_contributions(model, patient, output)
    direction = model.task.direction(output.logits)[0]
    for m, s in ((10, "tumor"), (20, "tme")):
        assert list(contributions[m, s]) == model.scores.names[s]
        for p, value in enumerate(contributions[m, s].values()):
            layer = model.embed[f"{m}x_{s}"]
            column = layer.weight[:, p].clone()
            layer.weight[:, p] = 0.0
            with torch.no_grad():
                without = model(patient).subspace_logits[m, s]
            layer.weight[:, p] = column
            loss = float((output.subspace_logits[m, s] - without)[0] @ direction) / 2
            assert value == pytest.approx(loss, abs=1e-5)
    record = program_record(contributions)
    sizes = [abs(value) for value in record["10x_tumor"].values()]
    assert sizes == sorted(sizes, reverse=True)


def test_without_programs_or_a_deep_part_nothing_contributes(make_model, make_patient):
    patient = make_patient()
    for model in (make_model(deep_share=0.0), make_model("teacher", tissue_through_programs=False)):
        _, output = read_answer(model, patient)
        assert program_contributions(model, patient, output) == {}
