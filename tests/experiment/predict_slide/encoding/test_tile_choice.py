"""A new slide's tissue is found as on the training slides, or the answer says that it was not."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from dmml.__main__ import main
from dmml.data.joined_store import JoinedStore
from dmml.errors import InputError
from dmml.experiment.predict_slide.encoding.tile_choice import check_options, choose_tiles
from dmml.store import FeatureStore, SlideFeatures

COLOUR = {"tissue": "colour", "least_tissue": 0.25, "precision": "32"}
CUSTOM = {**COLOUR, "tissue": "finder:everything", "least_tissue": 0.6}
ENCODER = {"name": "x", "weights": "0", "dim": 4, "preprocessing": {}}


def test_tiles_are_chosen_as_in_training():
    choice = choose_tiles("c.ckpt", {**COLOUR, "least_tissue": 0.6})
    assert choice.record == {"tissue": "colour", "min_tissue": 0.6, "as_in_training": True}
    assert choose_tiles("c.ckpt", CUSTOM, tissue="finder:everything").record == {
        "tissue": "finder:everything",
        "min_tissue": 0.6,
        "as_in_training": True,
    }


def test_a_function_that_a_checkpoint_names_is_not_run_unless_the_user_names_it():
    with pytest.raises(InputError, match=r"c\.ckpt.*finder:everything.*--tissue finder:everything.*--tissue colour"):
        choose_tiles("c.ckpt", CUSTOM)


@pytest.mark.parametrize(
    ("extraction", "options", "notes"),
    [
        ({}, {}, [r"method colour, and tiles with at least 25 % tissue.*is not recorded"]),
        (None, {"min_tissue": 0.5}, [r"at least 50 % tissue were read; how this was done .* is not recorded"]),
        (CUSTOM, {"tissue": "colour"}, [r"method colour; on the training slides it was finder:everything"]),
        (COLOUR, {"min_tissue": 0.125}, [r"at least 12\.5 % tissue were read; on the training slides it was 25 %"]),
        ({**COLOUR, "tissue": None}, {}, [r"method colour; the training cohorts differ in this"]),
        ({**COLOUR, "least_tissue": None}, {}, [r"at least 25 % tissue were read; the training cohorts differ"]),
        (COLOUR, {"roi": "r"}, [r"tissue in regions drawn by hand was read; on the training slides it was all tissue"]),
        ({**COLOUR, "roi": "regions"}, {}, [r"all tissue was read; on the training slides it was tissue in regions"]),
        ({**COLOUR, "roi": None}, {"roi": "r"}, [r"regions drawn by hand was read; the training cohorts differ"]),
    ],
)
def test_every_difference_from_training_is_named(extraction, options, notes):
    choice = choose_tiles("c.ckpt", extraction, **options)
    assert len(choice.notes) == len(notes)
    assert all(re.search(pattern, note) for pattern, note in zip(notes, choice.notes, strict=True))
    assert not choice.record["as_in_training"]


def test_regions_as_in_training_are_no_difference():
    choice = choose_tiles("c.ckpt", {**COLOUR, "roi": "regions of each slide"}, roi="rois")
    assert choice.record == {"tissue": "colour", "min_tissue": 0.25, "roi": "rois", "as_in_training": True}


@pytest.mark.parametrize("options", [{"min_tissue": 0.0}, {"min_tissue": 1.5}, {"tissue": "gone:function"}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=r"--(min-)?tissue"):
        check_options(**options)


def test_joined_stores_record_an_extraction_only_as_far_as_they_agree(tmp_path):
    def store(name, extraction):
        made = FeatureStore.create(tmp_path / name, ENCODER, {20: 0.5}, extraction=extraction)
        made.write(name, {20: SlideFeatures(np.ones((1, 4)), np.zeros((1, 2)))}, {})
        return made

    first, same, other, unknown = (store(n, e) for n, e in (("a", COLOUR), ("b", COLOUR), ("c", CUSTOM), ("d", None)))

    def joined(*stores):
        return JoinedStore({each.path: each for each in stores}).attributes["extraction"]

    assert joined(first, same) == COLOUR
    assert joined(first, other) == {"tissue": None, "least_tissue": None, "precision": "32"}
    assert joined(first, unknown) == {}


@pytest.mark.slow
def test_a_checkpoint_records_the_extraction_and_predict_slide_follows_it(models, tmp_path, monkeypatch, capsys):
    """With a share of tissue that not all tiles of the slide reach, fewer tiles are read."""
    import torch

    fitted = torch.load(models.best("student"), weights_only=True)["hyper_parameters"]["fitted"]
    assert fitted["extraction"] == {}  # the simulated features were not extracted

    def predict(extraction, *options):
        path = models.changed("student", tmp_path / "c.ckpt", fitted=fitted | {"extraction": extraction})
        argv = ["predict-slide", models.svs, "--ckpt_path", path, "--out", str(tmp_path / "o"), "--overwrite"]
        code = main([*argv, *options])
        return code, json.loads((tmp_path / "o" / "cmu_small_region" / "prediction.json").read_text())

    (_, recorded), (_, strict), (_, unknown) = (predict(each) for each in (COLOUR, COLOUR | {"least_tissue": 0.99}, {}))
    assert recorded["tiles_chosen"] == {"tissue": "colour", "min_tissue": 0.25, "as_in_training": True}
    assert strict["slides"][0]["tiles"]["20"] < recorded["slides"][0]["tiles"]["20"]
    assert unknown["slides"][0]["tiles"] == recorded["slides"][0]["tiles"]
    assert [any("not recorded" in note for note in each["notes"]) for each in (recorded, strict, unknown)] == [
        False,
        False,
        True,
    ]
    capsys.readouterr()
    assert predict(CUSTOM)[0] == 2
    assert "--tissue finder:everything" in capsys.readouterr().err
    code = "import numpy as np\n\n\ndef everything(picture, mpp):\n    return np.ones(picture.shape[:2], bool)\n"
    (tmp_path / "finder.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    code, custom = predict(CUSTOM, "--tissue", "finder:everything")
    assert code == 0
    assert custom["tiles_chosen"]["as_in_training"]
    assert custom["slides"][0]["tiles"]["20"] > recorded["slides"][0]["tiles"]["20"]
    assert "--tissue finder:everything" in custom["command"]
