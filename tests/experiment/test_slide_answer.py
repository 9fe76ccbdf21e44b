"""The answer on one patient as plain numbers: its parts are named, and together they are the prediction."""

import pytest
import torch
from batches import DIM, GENES, make_batch, one_patient
from models import build, task_of

from dmml.experiment.slide_answer import plain, read_answer
from dmml.training.teacher import SubspaceTeacher

LOGITS = {10: [0.5, -1.0, 0.25, 0.0], 20: [-0.75, 0.0, 1.5, 2.0]}


class _TellsMore(SubspaceTeacher):
    """A teacher that also says what belongs to neither subspace: for every patient the same."""

    def _finish(self, batch, *parts, **named):
        tissue = {m: torch.tensor([LOGITS[m]]).expand(len(batch.patient_id), -1) for m in self.magnifications}
        return super()._finish(batch, *parts, **named | {"tissue_logits": tissue})


@pytest.fixture(scope="module")
def patient():
    return one_patient(make_batch(), 0)


def test_the_tissue_specific_part_is_named_and_can_be_left_out(patient):
    own = build("teacher")
    more = _TellsMore(n_features=DIM, genes=GENES, task=task_of("survival"), width=16).eval()
    more.load_state_dict(own.state_dict())
    answer, output = read_answer(more, patient)
    for m in (10, 20):
        assert answer.subspace_logits[m, "tissue"] == pytest.approx(LOGITS[m])
        parts = [torch.tensor(answer.subspace_logits[m, part]) for part in ("tumor", "tme", "tissue")]
        torch.testing.assert_close(sum(parts), output.logits_by_magnification[m][0])
    without = read_answer(own, patient)[0]
    assert answer.without["tissue"] == pytest.approx(without.prediction)
    assert answer.without_by_magnification[20, "tissue"] == pytest.approx(without.by_magnification[20])
    assert answer.prediction["risk"] != pytest.approx(without.prediction["risk"], abs=1e-3)
    record = plain(answer)["subspaces"]
    assert record["logits"]["20x_tissue"] == pytest.approx(LOGITS[20])
    assert record["without"]["tissue"] == answer.without["tissue"]


def test_without_the_tissue_specific_part_the_answer_names_two_parts(patient):
    answer, output = read_answer(build("teacher"), patient)
    assert set(answer.without) == {"tumor", "tme"} | ({"tissue"} if output.tissue_logits else set())
