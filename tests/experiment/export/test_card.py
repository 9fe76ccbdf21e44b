"""The model card and the TRIPOD+AI table say what checkpoint, run and tests have on record, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from exported_students import student_checkpoint

from dmml.experiment.export.card.licences import encoder_licence
from dmml.experiment.export.card.model_card import model_card
from dmml.experiment.export.card.model_record import read_model_record
from dmml.experiment.export.card.tripod import read_items, tripod_table
from dmml.experiment.export.conversion import Interface
from dmml.experiment.export.names import describe_column
from dmml.experiment.export.verification import Agreement, Case
from dmml.experiment.load_model import load_model

METRICS = {
    "c_index": {"value": 0.7154, "low": 0.601, "high": 0.8042, "n": 50, "events": 32, "interval_level": 0.95},
    "deep_share": {"value": 0.5, "low": None, "high": None},
}
COUNTS = {"train": {"patients": 64, "events": 50}, "val": {"patients": 16, "events": 13}}
INTERFACE = Interface([], [describe_column("risk")], {})
AGREEMENTS = [Agreement(Case(20_000), 3e-6, "risk", 0.0)]


def record_of(tmp_path: Path, **student):
    """ModelRecord of a student with one test of it, and one of another checkpoint."""
    run = tmp_path / "run"
    model = load_model(student_checkpoint(run / "checkpoints" / "best.ckpt", **student))
    for name, digest in (("elsewhere", model.identity["sha256"]), ("stale", "0" * 16)):
        folder = run / "test" / name
        folder.mkdir(parents=True)
        (folder / "context.json").write_text(json.dumps({"checkpoint": {"sha256": digest}}))
        (folder / "metrics.json").write_text(json.dumps(METRICS))
    (run / "provenance.json").write_text(json.dumps({"counts": COUNTS, "command": "dmml fit --config x.yaml"}))
    return read_model_record(model)


def test_the_card_has_data_split_figures_with_intervals_limits_and_use(tmp_path):
    card = model_card(record_of(tmp_path), INTERFACE, AGREEMENTS)
    for heading in (
        "Intended use",
        "Inputs",
        "Training data",
        "Performance",
        "Limits",
        "Outputs of the graph",
        "Origin",
    ):
        assert f"\n## {heading}\n" in card
    assert "made up; 48 training patients" in card
    assert "64 patients, 50 events" in card
    assert "fold 1 of the cohort is left out" in card
    assert "| Concordance (Harrell) | 0.715 | 0.601 to 0.804 (95 %) | 50, 32 events |" in card
    assert "not a medical device" in card
    assert "a test encoder" in card
    assert "edges: 300, 700, 1300 days; end: 2000 days" in card
    assert "share of 0.5" in card
    assert "3.0e-06" in card
    assert "{" not in card


def test_results_of_another_checkpoint_are_left_out_by_name(tmp_path):
    record = record_of(tmp_path)
    assert [test.name for test in record.tests] == ["elsewhere"]
    assert record.other_tests == ("stale",)
    assert "Results of other checkpoints in the same run are left out: stale." in model_card(record, INTERFACE, [])


def test_a_card_without_a_test_says_so(tmp_path):
    model = load_model(student_checkpoint(tmp_path / "m.ckpt", "classification", with_backbone=False))
    card = model_card(read_model_record(model), INTERFACE, [])
    assert "this card has no figures" in card
    assert "one of the classes a, b, c" in card


def test_the_table_has_the_27_items_of_tripod_ai_each_filled_by_someone(tmp_path):
    items = read_items(record_of(tmp_path))
    assert len({item.number for item in items}) == len(items) == 52
    assert list(dict.fromkeys(int(re.match(r"\d+", item.number)[0]) for item in items)) == list(range(1, 28))
    assert all(item.dmml or item.author for item in items)
    assert {item.filled_by for item in items} == {"dmml", "both", "author"}
    by_number = {item.number: item for item in items}
    assert by_number["17"].filled_by == "author", "no program knows the ethics committee"
    assert "0.715 (0.601 to 0.804)" in by_number["23a"].dmml
    assert "64 patients, 50 events" in by_number["21"].dmml
    assert "No recalibration" in by_number["24"].dmml


def test_the_table_is_markdown_with_as_many_cells_in_every_row(tmp_path):
    lines = [line for line in tripod_table(record_of(tmp_path)).splitlines() if line.startswith("|")]
    assert len(lines) == 52 + 2
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {7}


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("uni", "CC BY-NC-ND 4.0"),
        ("hf-hub:MahmoodLab/UNI", "CC BY-NC-ND 4.0"),
        ("tf_efficientnet_lite0", "Apache-2.0"),
        ("mine", "not on record"),
    ],
)
def test_the_licence_of_an_encoder_is_stated_where_it_is_on_record(name, licence):
    assert licence in encoder_licence(name)
