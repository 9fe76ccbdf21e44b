"""`dmml predict-slide --explain`: what each level writes, and what is refused."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from html_page import Page

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.experiment.predict_slide.explain.levels import LEVELS, explain_level

KEYS = ("faithfulness", "deep_part", "program_contributions")


def predict(models, tmp_path, checkpoint, *argv):
    words = [models.plain, "--mpp", "0.5", "--ckpt_path", checkpoint, "--out", str(tmp_path / "o"), *argv]
    assert main(["predict-slide", *words]) == 0
    folder = tmp_path / "o" / "histo_500x300"
    return folder, json.loads((folder / "prediction.json").read_text(), parse_constant=pytest.fail)


def with_deep_share(models, path, run):
    """A run's checkpoint in which half of the deep part counts."""
    checkpoint = torch.load(models.best(run), weights_only=True)
    checkpoint["state_dict"]["deep_share"].fill_(0.5)
    torch.save(checkpoint, path)
    return str(path)


@pytest.mark.slow
def test_nothing_is_explained_where_nothing_is_wanted(models, tmp_path):
    folder, record = predict(models, tmp_path, models.best("student"), "--explain", "none")
    assert record["explained"] == "none"
    assert not set(KEYS) & set(record)
    assert not list(folder.glob("tiles_*.png"))
    assert list(folder.glob("contribution_*.png"))
    assert "--explain none" in record["command"]
    assert "How faithful the maps are" not in Page((folder / "report.html").read_text()).text


@pytest.mark.slow
def test_every_map_of_a_whole_slide_is_tested_by_default(whole_slide):
    record, page = whole_slide.record, Page((whole_slide.folder / "report.html").read_text())
    maps = {path.stem for path in whole_slide.folder.glob("*.png") if path.stem.startswith(("contribution", "overlay"))}
    assert set(record["faithfulness"]) == maps
    assert record["explained"] == "default"
    assert "--explain" not in record["command"]
    for name, result in record["faithfulness"].items():
        assert result["random"]["low"] <= result["random"]["mean"] <= result["random"]["high"]
        assert result["random"]["orders"] == LEVELS["default"].orders
        fall = [result["curve"][0] - value for value in result["curve"][1:]]
        if name.startswith("contribution"):
            assert result["area"] == pytest.approx(sum(fall) / len(fall))
        assert result["better_than_random"] == (result["p"] <= 0.05 + 1e-9)
    useless = [name for name, result in record["faithfulness"].items() if not result["better_than_random"]]
    assert page.text.count("this map is no better than random, so do not rely on it") == len(useless)
    assert page.text.count("this map is better than random") == len(maps) - len(useless)


@pytest.mark.slow
@pytest.mark.parametrize("run", ["student", "grade", "teacher"])
def test_the_deep_part_is_divided_at_the_full_level(models, tmp_path, run):
    checkpoint = with_deep_share(models, tmp_path / "changed.ckpt", run)
    folder, record = predict(models, tmp_path, checkpoint, "--explain", "full")
    parts = record["deep_part"]["parts"]
    assert set(parts) == {f"{m}x_{s}" for m in (10, 20) for s in ("tumor", "tme")}
    assert all(part["complete"] for part in parts.values())
    backbone = record["backbone"]
    for s in ("tumor", "tme"):
        gap = sum(parts[f"{m}x_{s}"]["gap"] for m in (10, 20))
        assert backbone["undivided"][s] == pytest.approx(gap, abs=1e-4)
    page = Page((folder / "report.html").read_text()).text
    assert "divided among tiles by integrated gradients" in page
    assert "error of the division" in page
    assert "deep part, not divided among tiles" not in page
    assert record["program_contributions"]
    assert "Programs that contribute to the deep part" in page


def test_an_unknown_level_is_refused():
    with pytest.raises(InputError, match="--explain all: there is no such level; give none, default, full"):
        explain_level("all")


def test_without_captum_the_full_level_is_refused_and_the_default_is_not(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "captum" else find(name))
    with pytest.raises(InputError, match=r"--explain full: needs captum.*pip install 'dmml\[explain\]'"):
        explain_level("full")
    assert explain_level("default").orders == 19
