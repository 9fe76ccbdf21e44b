"""The answer on one patient as plain numbers: its parts are named, and together they are the prediction."""

import pytest
import torch
from batches import make_batch, one_patient
from models import PROGRAMS, build

from dmml.experiment.slide_answer import plain, read_answer


@pytest.fixture(scope="module")
def patient():
    return one_patient(make_batch(), 0)


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_the_tissue_specific_part_is_named_and_can_be_left_out(name, patient):
    model = build(name, programs=PROGRAMS)
    without_it = build(name, programs=PROGRAMS, tissue_specific=False)
    shared = {key: value for key, value in model.state_dict().items() if not key.startswith("tissue_heads.")}
    without_it.load_state_dict(shared)
    answer, output = read_answer(model, patient)
    for m in (10, 20):
        parts = [torch.tensor(answer.subspace_logits[m, part]) for part in ("tumor", "tme", "tissue")]
        torch.testing.assert_close(sum(parts), output.logits_by_magnification[m][0])
        torch.testing.assert_close(parts[-1], output.tissue_logits[m][0])
    expected = read_answer(without_it, patient)[0]
    assert answer.without["tissue"] == pytest.approx(expected.prediction, abs=1e-5)
    assert answer.without_by_magnification[20, "tissue"] == pytest.approx(expected.by_magnification[20], abs=1e-5)
    assert answer.prediction["risk"] != pytest.approx(expected.prediction["risk"], abs=1e-3)
    record = plain(answer)["subspaces"]
    assert record["logits"]["20x_tissue"] == answer.subspace_logits[20, "tissue"]
    assert record["without"]["tissue"] == answer.without["tissue"]


def test_without_the_tissue_specific_part_the_answer_names_two_parts(patient):
    answer, _ = read_answer(build("teacher", tissue_specific=False), patient)
    assert set(answer.without) == {"tumor", "tme"}
    assert set(answer.subspace_logits) == {(m, s) for m in (10, 20) for s in ("tumor", "tme")}
