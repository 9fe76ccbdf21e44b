"""`dmml predict-slide` with the folder of a cross-validation gives the mean of its models, and their spread."""

import json
import shutil

import numpy as np
import pytest
import torch
from batches import make_batch
from html_page import Page
from models import build

from dmml.__main__ import main
from dmml.experiment.fold_models.mean_model import MeanModel

pytestmark = pytest.mark.slow
FOLDS = 3


@pytest.fixture(scope="module")
def crossval(models, tmp_path_factory):
    """Students of three folds: the same one with other weights of the backbone and shares of the deep part."""
    folder = tmp_path_factory.mktemp("crossval")
    (folder / "plan.json").write_text("{}")
    for fold in range(FOLDS):
        run = folder / f"fold_{fold}" / "student"
        (run / "checkpoints").mkdir(parents=True)
        checkpoint = torch.load(models.best("student"), weights_only=True)
        checkpoint["state_dict"]["deep_share"].fill_(0.2 * fold)
        for name, weight in checkpoint["state_dict"].items():
            if name.startswith("heads") and name.endswith("bias"):
                weight += 0.3 * fold
        torch.save(checkpoint, run / "checkpoints" / "best.ckpt")
        (run / "done.json").write_text("{}")
    return folder


def predicted(models, checkpoint, out, *options):
    words = ["predict-slide", models.svs, "--ckpt_path", str(checkpoint), "--out", str(out), *options]
    assert main(words) == 0
    return json.loads((out / "cmu_small_region" / "prediction.json").read_text())


@pytest.fixture(scope="module")
def answers(models, crossval, tmp_path_factory):
    """The answer of all models, and those of each."""
    out = tmp_path_factory.mktemp("answers")
    single = [
        predicted(models, crossval / f"fold_{fold}" / "student" / "checkpoints" / "best.ckpt", out / str(fold))
        for fold in range(FOLDS)
    ]
    return predicted(models, crossval, out / "mean"), single, out / "mean" / "cmu_small_region"


def test_predictions_are_averaged_and_their_spread_is_stated(answers):
    mean, single, _ = answers
    for column, value in mean["prediction"].items():
        of_models = [each["prediction"][column] for each in single]
        assert value == pytest.approx(np.mean(of_models), abs=1e-6)
        assert mean["how_sure"]["models"]["sd"][column] == pytest.approx(np.std(of_models, ddof=1), abs=1e-6)
    headline = [each["prediction"][mean["headline"]["column"]] for each in single]
    spread = mean["how_sure"]["models"]
    assert (spread["n"], spread["low"], spread["high"]) == (
        FOLDS,
        pytest.approx(min(headline)),
        pytest.approx(max(headline)),
    )
    assert max(headline) - min(headline) > 1e-3


def test_contributions_of_tiles_are_averaged(answers):
    mean, single, _ = answers
    for key, value in mean["backbone"]["tiles"].items():
        assert value == pytest.approx(np.mean([each["backbone"]["tiles"][key] for each in single]), abs=1e-6)
    assert mean["backbone"]["deep_share"] == pytest.approx(0.2)


def test_the_record_names_every_model_and_the_page_says_how_far_they_are_apart(answers):
    mean, single, folder = answers
    assert [each["sha256"] for each in mean["model"]["models"]] == [each["model"]["sha256"] for each in single]
    text = Page((folder / "report.html").read_text()).text.replace("\u00a0", " ")
    assert "The answer is the mean of 3 models" in text
    assert mean["faithfulness"]
    assert (folder / "tiles.geojson").is_file()


def test_the_mean_model_gives_the_mean_of_outputs():
    networks = [build("student").eval(), build("student").eval()]
    networks[1].load_state_dict(
        {k: 1.1 * v if v.is_floating_point() else v for k, v in networks[0].state_dict().items()}
    )
    batch = make_batch()
    with torch.inference_mode():
        outputs, mean = [network(batch) for network in networks], MeanModel(networks)(batch)
    assert not torch.allclose(outputs[0].logits, outputs[1].logits)
    assert torch.allclose(mean.logits, (outputs[0].logits + outputs[1].logits) / 2)
    for name in ("attention", "subspace_logits", "logits_by_magnification", "programs"):
        for key, value in getattr(mean, name).items():
            assert torch.allclose(value, (getattr(outputs[0], name)[key] + getattr(outputs[1], name)[key]) / 2)


def test_dividing_the_deep_part_of_several_models_is_refused(models, crossval, tmp_path, capsys):
    words = [
        "predict-slide",
        models.svs,
        "--ckpt_path",
        str(crossval),
        "--out",
        str(tmp_path / "o"),
        "--explain",
        "full",
    ]
    assert main(words) == 2
    assert "divides the deep part of one model" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_an_unfinished_cross_validation_is_refused_at_once(models, crossval, tmp_path, capsys):
    copy = shutil.copytree(crossval, tmp_path / "cv")
    (copy / "fold_2" / "student" / "done.json").unlink()
    assert main(["predict-slide", models.svs, "--ckpt_path", str(copy), "--out", str(tmp_path / "o")]) == 2
    assert "student is not finished in fold_2" in capsys.readouterr().err


def test_a_model_of_a_cross_validation_is_not_chosen_in_a_checkpoint(models, tmp_path, capsys):
    words = ["predict-slide", models.svs, "--ckpt_path", models.best("student"), "--out", str(tmp_path / "o")]
    assert main([*words, "--crossval-model", "teacher"]) == 2
    assert "--crossval-model teacher: is for the folder of a cross-validation" in capsys.readouterr().err
