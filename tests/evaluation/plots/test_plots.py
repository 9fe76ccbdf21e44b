"""Kaplan–Meier, log-rank, calibration, attention images and training curves against hand counts and known truth."""

import json

import numpy as np
import pandas as pd
import pytest
from recomputed import log_rank

from dmml.errors import InputError
from dmml.evaluation.plots.attention import attention_slides
from dmml.evaluation.plots.style import time_axis
from dmml.evaluation.plots.training import training_plots, training_series
from dmml.evaluation.report.formatting import horizon_name
from dmml.evaluation.report.text.coordination import coordination_text
from dmml.evaluation.report.text.deep_part import logits_description, maps_description
from dmml.evaluation.report.text.slide_facts import slide_facts
from dmml.evaluation.statistics.calibration import calibration_at, reliability
from dmml.evaluation.statistics.survival_curves import kaplan_meier, risk_groups


def test_kaplan_meier_equals_the_estimate_by_hand():
    curve = kaplan_meier([1, 2, 2, 3, 5], [1, 1, 0, 1, 0])
    assert [curve.at(day)[0] for day in (0.5, 1, 2.5, 3, 5)] == pytest.approx([1, 0.8, 0.6, 0.3, 0.3])
    assert np.isnan(curve.at(5.1)[0])  # the last patient was censored on day 5: beyond it nothing is known
    assert curve.at_risk([0, 2, 4, 6]) == [5, 4, 1, 0]
    assert curve.censored.tolist() == [2, 5]


def test_risk_groups_are_divided_at_the_training_median_and_compared(cohort):
    table = pd.DataFrame({"time": cohort.time, "event": cohort.event, "risk": cohort.log_rate})
    groups = risk_groups(table, -7.2)
    high = cohort.log_rate > -7.2
    assert [curve.n for curve in groups.curves] == [(~high).sum(), high.sum()]
    assert groups.from_training
    assert groups.p == pytest.approx(log_rank(cohort.time, cohort.event, high), rel=1e-6)
    alone = risk_groups(table, 99.0)
    assert [curve.name for curve in alone.curves] == ["low risk"]
    assert np.isnan(alone.p)
    assert not risk_groups(table, None).from_training


def test_calibration_distinguishes_right_from_too_extreme_predictions(make):
    cohort = make.cohort(1500, seed=4)
    outcome = pd.DataFrame({"time": cohort.time, "event": cohort.event})
    right = calibration_at(outcome.assign(**make.predicted(cohort.log_rate)), 1095)
    assert right.slope == pytest.approx(1, abs=0.15)
    assert right.slope_low < 1 < right.slope_high
    assert right.predicted == pytest.approx(right.observed, abs=0.03)
    assert right.groups["predicted"].to_numpy() == pytest.approx(right.groups["observed"].to_numpy(), abs=0.08)
    assert right.groups["n"].sum() == 1500
    centre = cohort.log_rate.mean()
    extreme = calibration_at(outcome.assign(**make.predicted(centre + 2 * (cohort.log_rate - centre))), 1095)
    assert extreme.slope == pytest.approx(0.5, abs=0.1)
    late = calibration_at(outcome.assign(**make.predicted(cohort.log_rate + 1)), 1095)
    assert late.predicted < late.observed - 0.1


def test_an_undefined_calibration_is_none(cohort, make):
    outcome = pd.DataFrame({"time": cohort.time, "event": cohort.event})
    assert calibration_at(outcome, 365) is None
    full = outcome.assign(**make.predicted(cohort.log_rate))
    assert calibration_at(full, make.end + 1) is None
    assert calibration_at(full.iloc[:20], 365) is None
    same = calibration_at(outcome.assign(**make.predicted(np.full(60, -7.0))), 365)
    assert np.isnan(same.slope)
    assert np.isfinite(same.observed)


def test_reliability_counts_every_patient_once():
    probability = np.random.default_rng(0).dirichlet([1, 1, 1], 100)
    label = np.zeros(100, int)
    table = reliability(label, probability)
    assert table["n"].sum() == 100
    assert (table["n"] * table["hit_rate"]).sum() == pytest.approx((probability.argmax(1) == 0).sum())


@pytest.mark.parametrize("thumbnail", [True, False])
def test_attention_is_painted_at_the_position_of_the_tile(tmp_path, thumbnail):
    position = np.array([[336.0, 336], [560, 336], [336, 560]])
    arrays = {"position_0_10": position, "attention_0_10_tumor": np.array([0.0, 1.0, 0.0])}
    if thumbnail:
        arrays["thumbnail_0"] = np.full((100, 120, 3), 200, np.uint8)
    meta = json.dumps([{"patient_id": "A", "thumbnail_mpp": 8.0, "tile_um": {"10": 224}}])
    np.savez(tmp_path / "attention.npz", meta=meta, **arrays)
    [slide] = attention_slides(tmp_path / "attention.npz")
    assert [panel.title for panel in slide.panels] == (["slide"] if thumbnail else []) + ["tumor, 10×"]
    pixels = slide.panels[-1].pixels.astype(int)
    assert max(pixels.shape) == 420
    # The plot spans 112 µm (half a tile and more) around the tiles; colour is where red and blue part.
    colored = (pixels[..., 0] - pixels[..., 2]) > 60
    rows, columns = np.nonzero(colored)
    um = (560 + 224 - 112) / 420
    assert columns.mean() * um + 112 == pytest.approx(560, abs=15)
    assert rows.mean() * um + 112 == pytest.approx(336, abs=15)
    assert colored.sum() * um**2 == pytest.approx(224**2, rel=0.05)


def test_contributions_are_red_above_and_blue_below_0(tmp_path):
    position = np.array([[336.0, 336], [560, 336], [336, 560]])
    arrays = {"position_0_10": position, "contribution_0_10": np.array([-0.2, 0.2, 0.0])}
    arrays["attention_0_10_tumor"] = np.ones(3) / 3
    fact = {"patient_id": "A", "tile_um": {"10": 224}}
    titles = {0.0: ["contribution of each tile, 10×"], 0.5: ["contribution of each tile, 10×", "tumor, 10×"]}
    for share, expected in titles.items():
        np.savez(tmp_path / "attention.npz", meta=json.dumps([fact | {"deep_share": share}]), **arrays)
        [slide] = attention_slides(tmp_path / "attention.npz")
        assert [panel.title for panel in slide.panels] == expected
    assert "together: +0.00" in slide.panels[0].caption
    pixels = slide.panels[0].pixels.astype(int)
    middle = {name: pixels[y, x] for name, x, y in (("low", 105, 105), ("high", 315, 105), ("none", 105, 315))}
    assert middle["low"][2] > middle["low"][0] + 60
    assert middle["high"][0] > middle["high"][2] + 60
    assert np.ptp(middle["none"]) == 0


def test_without_attention_or_tokens_no_panels_are_drawn(tmp_path):
    path = tmp_path / "attention.npz"
    assert attention_slides(path) == []
    empty = {"position_0_10": np.zeros((0, 2)), "attention_0_10_tumor": np.zeros(0)}
    np.savez(path, meta=json.dumps([{"patient_id": "A"}]), **empty)
    assert attention_slides(path)[0].panels == []
    path.write_bytes(b"PK no archive")
    with pytest.raises(InputError, match="cannot be read"):
        attention_slides(path)


def test_unknown_properties_of_a_slide_are_left_out():
    fact = {"patient_id": "A", "slide_id": "A-1", "risk": -1.234, "time": 812.0, "event": 1}
    assert slide_facts(fact) == "patient A, slide A-1, risk −1.23, event after 2.2 years"
    unknown = {"patient_id": "A", "slide_id": "A", "time": float("nan"), "event": float("nan"), "label": ""}
    assert slide_facts(unknown) == "patient A"


def test_sparse_rows_of_a_training_log_are_joined_to_curves(tmp_path, make):
    make.training(tmp_path / "run", epochs=4)
    series = training_series(tmp_path / "run" / "metrics.csv")
    assert "train/loss_step" not in series
    assert series["train/loss"].to_numpy() == pytest.approx(1.5 * np.exp(-np.arange(4) / 8))
    assert series["val/c_index"].tolist() == [0.6] * 4
    curves, coordination = training_plots(tmp_path / "run" / "metrics.csv")
    assert [plot.title for plot in curves] == ["loss", "c_index", "consistency", "task"]
    assert [plot.title for plot in coordination] == ["confidence", "conflict", "cosine"]
    assert training_plots(tmp_path / "nothing.csv") == ([], [])


def test_the_share_of_the_deep_part_is_drawn_from_0_to_1(tmp_path):
    table = {"epoch": [0, 1], "step": [1, 3], "val/deep_share": [0.0, 0.0], "val/loss": [1.0, 0.9]}
    pd.DataFrame(table).to_csv(tmp_path / "metrics.csv", index=False)
    curves, _ = training_plots(tmp_path / "metrics.csv")
    [share] = [plot for plot in curves if plot.title == "deep_share"]
    [axes] = share.figure.axes
    assert axes.get_title("left") == "Share of the deep part"
    assert axes.get_ylim() == pytest.approx((-0.04, 1.04))


def test_the_share_of_the_deep_part_is_described():
    assert logits_description({}) == ""
    assert "backbone alone" in logits_description({"deep_share": 0.0})
    assert "plus 25 % of what the deep part" in logits_description({"deep_share": 0.25})
    assert maps_description(("raise the predicted risk", "lower it"), None).startswith(
        "Attention of the tumor subspace"
    )
    assert "attention" not in maps_description(("raise the predicted risk", "lower it"), 0.0)
    assert "attention of the deep part" in maps_description(("raise the predicted risk", "lower it"), 0.5)
    assert "speak for the predicted class" in maps_description(
        ("speak for the predicted class", "speak against it"), 0.5
    )


def test_days_and_units_have_readable_names():
    assert [horizon_name(day) for day in (365, 1095, 200)] == ["1 year", "3 years", "200 days"]
    assert [time_axis(days)[1] for days in (3000, 400, 60)] == ["years", "months", "days"]


def test_coordination_is_described_in_sentences(tmp_path):
    pd.DataFrame(
        {
            "epoch": [0, 0, 1],
            "step": [0, 1, 3],
            "coordination/conflict": [0.2, 0.4, 0.5],  # a mean of 0.3 in the first epoch
            "coordination/cosine": [-0.1, -0.1, 0.3],
            "coordination/confidence_tumor": [0.3, 0.3, 0.31],
            "coordination/confidence_tme": [0.3, 0.3, 0.42],
        }
    ).to_csv(tmp_path / "metrics.csv", index=False)
    assert coordination_text(tmp_path / "metrics.csv") == (
        "On average, 40 % of the rows were in conflict, and the mean cosine was 0.10. At the end, the TME subspace was more "
        "confident (tumor 0.31, TME 0.42)."
    )
    assert coordination_text(tmp_path / "absent.csv") == ""


def test_a_damaged_training_log_is_named(tmp_path):
    (tmp_path / "metrics.csv").write_bytes(b"\xff\xfe\x00epoch")
    with pytest.raises(InputError, match=r"metrics.csv cannot be read as a table"):
        training_series(tmp_path / "metrics.csv")
    (tmp_path / "metrics.csv").write_text("epoch,step,val/loss\n0,1,0.5\nbroken,2,0.4\n1,3,0.3\n")
    assert training_series(tmp_path / "metrics.csv")["val/loss"].to_dict() == {1: 0.5, 2: 0.3}
