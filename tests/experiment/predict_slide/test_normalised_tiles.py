"""A model of stain-normalised tiles: predict-slide normalises as its store was, and other stores are refused."""

import json
import shutil

import pandas as pd
import pytest
import torch
import yaml
from html_page import Page

from dmml.__main__ import main
from dmml.networks.packing import pack, unpack
from dmml.store import FeatureStore

pytestmark = pytest.mark.slow


def with_encoder(models, root, encoder: dict) -> str:
    """A copy of the student's run whose model believes that its features are of this encoder."""
    results = shutil.ignore_patterns("predict", "test")  # other tests may have written some
    shutil.copytree(models.root / "runs" / "student", root / "student", ignore=results)
    path = root / "student" / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    fitted = unpack(checkpoint["hyper_parameters"]["fitted"])
    checkpoint["hyper_parameters"]["fitted"] = pack({**fitted, "encoder": encoder})
    torch.save(checkpoint, path)
    return str(path)


def test_the_answer_is_that_of_a_normalised_store_which_other_models_refuse(models, whole_slide, tmp_path, capsys):
    store = tmp_path / "normalised.zarr"
    assert main(["extract", models.svs, "--out", str(store), "--stain-normalization", "macenko"]) == 0
    checkpoint = with_encoder(models, tmp_path, FeatureStore(store).attributes["encoder"])
    assert main(["predict-slide", models.svs, "--ckpt_path", checkpoint, "--out", str(tmp_path / "o")]) == 0
    folder = tmp_path / "o" / "cmu_small_region"
    answer = json.loads((folder / "prediction.json").read_text())
    assert answer["encoder"]["stain_normalization"] == FeatureStore(store).attributes["encoder"]["stain_normalization"]
    assert answer["slides"][0]["stains"] == FeatureStore(store).slide_attributes("cmu_small_region")["stains"]
    assert "stain-normalised (macenko by torchstain" in Page((folder / "report.html").read_text()).text
    assert answer["prediction"]["risk"] != pytest.approx(whole_slide.record["prediction"]["risk"], abs=1e-6)
    assert "stain_normalization" not in whole_slide.record["encoder"]

    pd.DataFrame({"patient_id": ["P1"], "slide_id": ["cmu_small_region"]}).to_csv(tmp_path / "t.csv", index=False)
    section = {"name": "long", "clinical": str(tmp_path / "t.csv"), "features": str(store)}
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"data": {"class_path": "MultimodalDataModule", "init_args": section}}))
    assert main(["predict", "--config", str(config), "--ckpt_path", checkpoint]) == 0
    row = pd.read_csv(tmp_path / "student" / "predict" / "long" / "predictions.csv").iloc[0]
    for name, value in answer["prediction"].items():
        assert row[name] == pytest.approx(value, abs=1e-5)

    capsys.readouterr()
    assert main(["predict", "--config", str(config), "--ckpt_path", models.best("student")]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "normalised.zarr: its tiles are stain-normalised (macenko by torchstain" in message
    assert "but the model was trained on tiles as scanned; extract the slides with the --stain-normalization" in message
