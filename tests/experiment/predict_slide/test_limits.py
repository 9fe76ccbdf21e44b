"""An answer warns of slides that are unlike the training slides, and states what is promised of a single patient."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from html_page import Page

from dmml.__main__ import main
from dmml.evaluation.limits.survival_bounds import as_curve, last_day
from dmml.experiment.load_model import load_model
from dmml.networks.packing import pack, unpack

pytestmark = pytest.mark.slow


def predict(*argv) -> int:
    return main(["predict-slide", *[str(word) for word in argv]])


def limits_of(folder) -> dict:
    return json.loads((folder / "prediction.json").read_text())["limits"]


def with_fitted(models, path, **changes) -> str:
    """The student's checkpoint with other fitted values; None removes one."""
    checkpoint = torch.load(models.best("student"), weights_only=True)
    fitted = checkpoint["hyper_parameters"]["fitted"]
    fitted.update(changes)
    for name in [name for name, value in changes.items() if value is None]:
        del fitted[name]
    torch.save(checkpoint, path)
    return str(path)


def test_a_real_slide_is_unlike_simulated_ones_in_the_answer_and_on_its_page(models, whole_slide):
    limits = whole_slide.record["limits"]
    [slide] = limits["slides"]
    assert slide["distance"] > slide["threshold"] > 0
    assert slide["distance"] == max(slide["parts"].values())
    assert slide["largest_part"] == f"the tile features at {max(slide['parts'], key=slide['parts'].get)[:2]}×"
    assert limits["warnings"][0].startswith("The slide is unlike the training slides")
    page = Page((whole_slide.folder / "report.html").read_text()).text.replace("\u00a0", " ")
    assert page.index("unlike the training slides") < page.index(whole_slide.record["answer"][0].split(" of ")[0])
    assert limits["warnings"][0] in page


def test_teachers_and_students_know_their_training_slides_and_their_encoder(models):
    for name in ("teacher", "student", "grade"):
        fitted = load_model(models.best(name)).module.fitted
        limits = fitted["slide_limits"]
        assert set(limits["parts"]) == {"10x", "20x"}  # simulated features have no thumbnails
        assert limits["n_patients"] == fitted["n_training"]
        assert limits["encoder"] == {key: fitted["encoder"][key] for key in ("name", "weights")}
        assert limits["threshold"] > 0


def test_strict_ends_with_2_and_one_line_after_all_answers_are_written(models, tmp_path, capsys):
    twin = tmp_path / "twin.jpg"
    shutil.copy(models.plain, twin)
    argv = (
        models.plain,
        twin,
        "--mpp",
        0.5,
        "--ckpt_path",
        models.best("student"),
        "--out",
        tmp_path / "o",
        "--strict",
    )
    assert predict(*argv) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "--strict: histo_500x300: The slide is unlike the training slides" in line
    assert "2 of 2 patients have warnings" in line
    for name in ("histo_500x300", "twin"):
        assert limits_of(tmp_path / "o" / name)["warnings"]
        assert (tmp_path / "o" / name / "report.html").is_file()


def test_strict_passes_a_slide_without_a_warning(models, tmp_path):
    limits = unpack(load_model(models.best("student")).module.fitted["slide_limits"])
    wide = limits | {"threshold": 1e6, "tiles": {}}
    checkpoint = with_fitted(models, tmp_path / "wide.ckpt", slide_limits=pack(wide))
    assert predict(models.svs, "--ckpt_path", checkpoint, "--out", tmp_path / "o", "--strict") == 0
    assert limits_of(tmp_path / "o" / "cmu_small_region")["warnings"] == []


def test_a_checkpoint_of_an_earlier_dmml_gets_one_note_and_no_error(models, whole_slide, tmp_path, capsys):
    checkpoint = with_fitted(models, tmp_path / "old.ckpt", slide_limits=None, conformal=None)
    assert predict(models.svs, "--ckpt_path", checkpoint, "--out", tmp_path / "o") == 0
    folder = tmp_path / "o" / "cmu_small_region"
    record = json.loads((folder / "prediction.json").read_text())
    assert sum("This checkpoint knows nothing about its training slides." in note for note in record["notes"]) == 1
    assert record["limits"]["warnings"] == record["limits"]["slides"] == record["limits"]["sentences"] == []
    assert record["prediction"] == whole_slide.record["prediction"]
    assert predict(models.svs, "--ckpt_path", checkpoint, "--out", tmp_path / "p", "--strict") == 2
    assert "knows nothing about its training slides" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_promises_are_stated_or_the_reason_why_there_are_none(models, whole_slide, tmp_path):
    # Five patients of the inner validation are too few.
    [sentence] = whole_slide.record["limits"]["sentences"]
    assert "too few for 90 %, 9 are needed" in sentence
    model = load_model(models.best("student")).module
    tau = last_day(as_curve(model.fitted["censoring"]), model.task.end)
    calibration = {"n": 40, "events": 2, "tau": tau, "total": 40.0, "scores": [0.01, 0.9], "weights": [3.5, 30.0]}
    checkpoint = with_fitted(models, tmp_path / "c.ckpt", conformal=calibration)
    assert predict(models.svs, "--ckpt_path", checkpoint, "--out", tmp_path / "o") == 0
    limits = limits_of(tmp_path / "o" / "cmu_small_region")
    days = {each["level"]: each["days"] for each in limits["promise"]["bounds"]}
    assert set(days) <= {0.9, 0.8, 0.5}
    assert sorted(days.values()) == [days[level] for level in (0.9, 0.8, 0.5) if level in days]
    page = Page((tmp_path / "o" / "cmu_small_region" / "report.html").read_text()).text.replace("\u00a0", " ")
    for sentence in limits["sentences"]:
        assert sentence in page
    assert "need not hold for this patient" in limits["sentences"][-1]
