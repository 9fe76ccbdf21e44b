"""What the answer says in words, from numbers made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dmml.experiment.predict_slide import text
from dmml.experiment.predict_slide.answer import Answer, extremes, plain
from dmml.experiment.predict_slide.tile_scores import TileScores
from dmml.tasks import Classification, Survival
from dmml.tasks.presentation import Presentation

SURVIVAL = Answer(
    task="survival",
    presentation=Survival().presentation(),
    prediction={"risk": -2.0, "survival_1095": 0.61},
    by_magnification={10: {"risk": -1.9, "survival_1095": 0.58}, 20: {"risk": -2.1, "survival_1095": 0.64}},
    without={"tumor": {"risk": -2.5, "survival_1095": 0.7}, "tme": {"risk": -2.0, "survival_1095": 0.6}},
    without_by_magnification={},
    subspace_logits={},
    headline=Survival().presentation().headline({"risk": -2.0, "survival_1095": 0.61}),
    median_risk=-2.2,
    programs={"tumor": {"A": 0.1}, "tme": {}},
    programs_by_magnification={},
)
MODEL = {"n_training": 80, "training_cohort": "luad"}
SLIDE = {
    "source": "a.svs",
    "tiles": {"10": 300, "20": 1100},
    "tiles_unreadable": 0,
    "mpp": 0.25,
    "mpp_source": "aperio.MPP",
}


def test_the_headline_names_the_side_of_the_median():
    assert text.headline(SURVIVAL, MODEL) == "Above the median risk of the 80 training patients of luad"
    assert text.headline(replace(SURVIVAL, median_risk=-1.0), MODEL).startswith("Below")
    unknown = replace(SURVIVAL, median_risk=None)
    assert "does not record" in text.headline(unknown, MODEL)
    assert plain(unknown)["training_patients"] == {"median_risk": None, "risk_is": None}


def test_the_outlook_gives_the_views_of_both_magnifications():
    assert text.outlook(SURVIVAL) == "61 % chance of being event-free after 3 years (10×: 58 %, 20×: 64 %)"
    alone = replace(SURVIVAL, by_magnification={10: {"risk": -2.0, "survival_1095": 0.61}})
    assert text.outlook(alone) == "61 % chance of being event-free after 3 years"
    assert "one magnification" in text.how_certain(alone)[0]


def test_disagreement_is_stated_and_is_not_called_a_confidence_interval():
    agree = " ".join(text.how_certain(SURVIVAL))
    assert "6 percentage points apart" in agree
    assert "same side" in agree
    assert "not a confidence interval" in agree
    apart = replace(SURVIVAL, median_risk=-2.0)
    assert "above the median risk by 10× alone, below the median risk by 20× alone" in " ".join(text.how_certain(apart))
    assert any("not clear-cut" in note for note in text.notes(apart, [SLIDE], False))
    assert text.notes(SURVIVAL, [SLIDE], False) == []


def on_a_backbone(deep_share: float) -> Answer:
    """The answer of a model on a backbone."""
    scores = {(10, "tissue"): np.array([0.2, -0.1]), (20, "tissue"): np.array([0.3])}
    nothing = dict.fromkeys(("tumor", "tme", "tissue"), 0.0)
    return replace(SURVIVAL, tiles=TileScores(deep_share, deep_share, scores, nothing, nothing))


def test_without_a_deep_part_the_backbone_alone_determines_the_answer():
    alone, both = on_a_backbone(0.0), on_a_backbone(0.25)
    assert "The backbone alone determines this answer" in text.what_decides(alone)
    assert "25 % of what the deep part" in text.what_decides(both)
    assert text.what_decides(SURVIVAL) == ""
    assert text.outlook(alone) == "61 % chance of being event-free after 3 years"
    assert "10×" in text.outlook(both)
    assert text.how_certain(alone) == [
        "The model reads all magnifications together, so there is no second view that could agree or disagree."
    ]
    assert "include the contribution of the backbone" in " ".join(text.how_certain(both))
    assert alone.spread is None
    assert alone.tiles.together["tissue"] == pytest.approx(0.4)


def test_classes_are_named_with_their_probabilities():
    views = {10: {"prob_G2": 0.6, "prob_G3": 0.4}, 20: {"prob_G2": 0.2, "prob_G3": 0.8}}
    answer = replace(
        SURVIVAL,
        task="classification",
        presentation=Classification().presentation(),
        prediction={"prob_G2": 0.4, "prob_G3": 0.6},
        by_magnification=views,
        headline=Classification().presentation().headline({"prob_G2": 0.4, "prob_G3": 0.6}),
        median_risk=None,
    )
    assert text.headline(answer, MODEL) == "G3, with a probability of 60 %"
    assert text.outlook(answer) == "Next in order: G2 40 %. G3 by magnification: 10×: 40 %, 20×: 80 %"
    assert "G2 by 10× alone, G3 by 20× alone" in " ".join(text.how_certain(answer))


def test_a_task_of_the_users_own_is_described_by_its_columns():
    answer = replace(
        SURVIVAL,
        task="dose",
        presentation=Presentation(),
        prediction={"dose": 1.25, "doubt": 0.5},
        by_magnification={10: {"dose": 1.2, "doubt": 0.5}, 20: {"dose": 1.3, "doubt": 0.5}},
        without={"tumor": {"dose": 1.0}, "tme": {"dose": 1.1}},
        headline=Presentation().headline({"dose": 1.25, "doubt": 0.5}),
        median_risk=None,
    )
    assert text.headline(answer, MODEL) == "dose: 1.250"
    assert text.outlook(answer) == "dose 1.250, doubt 0.500"
    assert text.how_certain(answer)
    assert "1.000" in text.subspaces(answer)


def test_the_answer_without_each_subspace_is_stated():
    sentence = text.subspaces(SURVIVAL)
    assert "61 %" in sentence
    assert "Without the tumor's part it would be 70 %" in sentence
    assert "60 %" in sentence
    assert "neither" not in sentence
    view = {"risk": -2.2, "survival_1095": 0.55}
    sentence = text.subspaces(replace(SURVIVAL, without=SURVIVAL.without | {"tissue": view}))
    assert "without the tissue-specific part, which belongs to neither, 55 %" in sentence


def test_notes_mention_little_tissue_a_given_scale_and_missing_rna():
    slide = SLIDE | {"tiles": {"10": 3, "20": 9}, "tiles_unreadable": 2, "mpp_source": "--mpp"}
    slide["findings"] = {"unreadable": 1.25}
    notes = " ".join(text.notes(SURVIVAL, [slide], True))
    assert "3 tiles at 10×" in notes
    assert "2 tiles could not be decoded" in notes
    assert "1.25 mm² could not be decoded" in notes
    assert "0.25 µm per pixel was given by hand" in notes
    assert "RNA" in notes


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("HALLMARK_E2F_TARGETS", "E2F targets"),
        ("HALLMARK_TNFA_SIGNALING_VIA_NFKB", "TNFA signaling via NFKB"),
        ("ESTIMATE_STROMAL", "Estimate stromal"),
        ("TP53", "TP53"),
    ],
)
def test_program_names_are_shortened(name, words):
    assert text.program_name(name) == words


def test_no_program_is_both_among_the_highest_and_the_lowest():
    scores = {str(i): float(i) for i in range(7)}
    high, low = extremes(scores, n=5)
    assert [name for name, _ in high] == ["6", "5", "4", "3"]
    assert [name for name, _ in low] == ["0", "1", "2"]
    assert extremes({"a": 1.0}) == ([("a", 1.0)], [])
    high, low = extremes({str(i): float(i) for i in range(30)}, n=5)
    assert ([name for name, _ in high], [name for name, _ in low]) == (
        ["29", "28", "27", "26", "25"],
        ["0", "1", "2", "3", "4"],
    )
