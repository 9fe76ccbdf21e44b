"""The answer on one patient as plain numbers: its parts are named, and together they are the prediction."""

import pytest
import torch
from batches import make_batch, one_patient
from fitted_backbones import fitted_backbone
from models import PROGRAMS, build

from dmml.experiment.predict_slide.answer import plain, read_answer
from dmml.networks.parts.tile_logits import tile_logits


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


def model_on_a_backbone(name, deep_share, kind="survival"):
    """A model with random deep weights on a backbone that was fitted to simulated patients."""
    torch.manual_seed(1)
    model = build(name, kind)
    fitted, _ = fitted_backbone(kind, with_rna=name == "teacher")
    model.backbone = fitted
    model.deep_share.fill_(deep_share)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("deep_share", [0.0, 0.5])
@pytest.mark.parametrize(
    ("name", "kind"), [("teacher", "survival"), ("student", "survival"), ("student", "classification")]
)
def test_tiles_add_up_to_the_parts_of_the_answer(name, kind, deep_share):
    model = model_on_a_backbone(name, deep_share, kind)
    torch.manual_seed(2)
    patient = one_patient(make_batch(has_rna=[False] * 4, kind=kind), 0)
    answer, output = read_answer(model, patient)
    tiles = answer.tiles
    assert tiles.deep_share == deep_share
    assert {m: len(tiles.scores[m, "tissue"]) for m in (10, 20)} == {10: 5, 20: 20}
    direction = model.task.direction(output.logits)[0]
    for part, undivided in tiles.undivided.items():
        logits = [output.tissue_logits[m] if part == "tissue" else output.subspace_logits[m, part] for m in (10, 20)]
        whole = float((sum(logits)[0] / 2) @ direction)
        assert tiles.together[part] == pytest.approx(whole, abs=1e-4)
        if part == "tissue" or not deep_share:  # all of it can be divided
            assert undivided == pytest.approx(0, abs=1e-4)
        else:
            heads = [
                model.heads[f"{m}x"]({s: output.embeddings[m, s] for s in ("tumor", "tme")})[part] for m in (10, 20)
            ]
            assert undivided == pytest.approx(deep_share * float((sum(heads)[0] / 2) @ direction), abs=1e-4)
    record = plain(answer)["backbone"]
    assert record["deep_share"] == deep_share
    assert record["tiles"]["20x_tissue"] == pytest.approx(float(tiles.scores[20, "tissue"].sum()))


@pytest.mark.parametrize("deep_share", [0.0, 0.5])
def test_without_a_subspace_also_its_backbone_part_is_left_out(deep_share, patient):
    model = model_on_a_backbone("student", deep_share)
    answer, output = read_answer(model, patient)
    has_rna = torch.zeros(1, dtype=torch.bool)
    base = model.backbone(patient.bags, {}, has_rna)
    bias = model.backbone.calibration(has_rna)[0]
    for m in (10, 20):
        weight = model.heads[f"{m}x"].linear.weight[:, :16]
        part = base.subspaces["tumor"] - bias / 2 + deep_share * output.embeddings[m, "tumor"] @ weight.T
        expected = model.task.predictions(output.logits_by_magnification[m] - part)["risk"].item()
        assert answer.without_by_magnification[m, "tumor"]["risk"] == pytest.approx(expected, abs=1e-5)


def test_the_deep_tissue_part_is_divided_by_attention(patient):
    model = model_on_a_backbone("student", 1.0)
    base = model_on_a_backbone("student", 0.0)
    base.load_state_dict({k: v for k, v in model.state_dict().items() if k != "deep_share"}, strict=False)
    with torch.no_grad():
        deep = model(patient).tissue_attention
    for m in (10, 20):
        added = tile_logits(model, patient).tiles["tissue"][m] - tile_logits(base, patient).tiles["tissue"][m]
        head = model.tissue_heads[f"{m}x"]
        for n in range(added.shape[1]):
            token = torch.nn.functional.gelu(head.project(patient.bags[m].features[0, n]))
            torch.testing.assert_close(added[0, n], deep[m][0, n] * head.linear(token) / 2, atol=1e-5, rtol=1e-4)


def test_a_model_without_a_backbone_divides_nothing(patient):
    answer, _ = read_answer(build("student", backbone=None), patient)
    assert answer.tiles is None
    assert "backbone" not in plain(answer)
