"""The flow of patients: it accounts for every patient of the clinical table, and its diagram states every number."""

import json
from xml.etree import ElementTree

import pandas as pd
import pytest
from cohorts import data_of, simulated

from dmml.errors import InputError
from dmml.evaluation.plots.flow import flow_plot
from dmml.evaluation.report.flow_section import checked_flow_plot
from dmml.experiment.patient_flow import FITTED, OF_A_FOLD, TESTED, patient_flow


@pytest.fixture(scope="module")
def gaps(tmp_path_factory):
    """A cohort in which two patients are outside the split, one has no data, and two have no outcome."""
    folder = simulated(tmp_path_factory)
    out = tmp_path_factory.mktemp("gaps")
    clinical = pd.read_csv(folder / "development" / "clinical.csv", dtype=str)
    ids = list(dict.fromkeys(clinical["patient_id"]))
    clinical.loc[clinical["patient_id"].isin([ids[4], ids[20]]), ["os_days", "os_event"]] = None
    extra = clinical[clinical["patient_id"] == ids[5]].head(1).assign(patient_id="X-9999", slide_id=None)
    clinical = pd.concat([clinical, extra])
    clinical.to_csv(out / "clinical.csv", index=False)
    parts = {"train": [*ids[8:20], "X-9999"], "val": ids[20:26], "test": ids[:8]}
    splits = pd.DataFrame({name: pd.Series(members) for name, members in parts.items()})
    splits.to_csv(out / "splits_0.csv", index=False)
    swapped = pd.DataFrame(
        {name: pd.Series(parts[p]) for name, p in (("train", "train"), ("val", "test"), ("test", "val"))}
    )
    swapped.to_csv(out / "splits_1.csv", index=False)

    def data(stage):
        module = data_of(folder, clinical=str(out / "clinical.csv"), split=str(out))
        module.setup(stage)
        return module

    return data


def by_reason(flow):
    return {each["reason"]: each["n"] for step in flow["steps"] for each in step["left_out"]}


def accounted(flow):
    """Patients of the first step: those left out on the way, and those in the parts."""
    return sum(by_reason(flow).values()) + sum(part["n"] for part in flow["parts"])


def test_every_patient_of_the_table_is_in_a_part_or_left_out_for_a_reason(gaps):
    flow = patient_flow(gaps("fit"), OF_A_FOLD)
    assert [step["n"] for step in flow["steps"]] == [31, 27]
    assert by_reason(flow) == {
        "outside the split": 4,
        "neither slides nor RNA": 1,
        "validation patients without a known outcome": 1,
    }
    assert {part["name"]: part["n"] for part in flow["parts"]} == {"training": 12, "validation": 5, "test": 8}
    assert flow["parts"][2]["counts"]["with outcome"] == 7
    assert accounted(flow) == 31


def test_patients_of_the_other_parts_are_left_out_of_a_fit_and_of_a_test(gaps):
    fit = patient_flow(gaps("fit"), FITTED)
    assert by_reason(fit)["test patients of fold 0"] == 8
    test = patient_flow(gaps("test"), TESTED)
    assert by_reason(test) == {"outside the split": 4, "training and validation patients of fold 0": 19}
    assert accounted(fit) == accounted(test) == 31


def test_without_a_split_all_patients_are_tested(tmp_path_factory):
    data = data_of(simulated(tmp_path_factory), "held_out")
    data.setup("test")
    flow = patient_flow(data, TESTED)
    assert by_reason(flow) == {}
    assert (flow["fold"], accounted(flow)) == (None, 8)


def test_the_diagram_states_every_number_and_follows_the_page_into_dark_mode(gaps):
    flow = json.loads(json.dumps(patient_flow(gaps("fit"), OF_A_FOLD)))
    svg = flow_plot(flow, "flow", "Patients").inline_svg("p")
    text = " ".join(
        "".join(each.itertext()) for each in ElementTree.fromstring(svg).iter() if each.tag.endswith("}text")
    )
    for words in ("31 patients", "27 patients", "4 outside the split", "1 neither slides", "12 patients", "8 patients"):
        assert words in text
    for color in ("currentColor", "var(--blue)", "var(--muted)"):
        assert color in svg
    assert "#24292f" not in svg
    assert len(svg) < 20_000


def test_the_boxes_of_the_diagram_do_not_overlap_and_hold_their_text(gaps):
    plot = flow_plot(patient_flow(gaps("fit"), OF_A_FOLD), "flow", "Patients")
    [axes] = plot.figure.axes
    renderer = plot.figure.canvas.get_renderer()
    boxes = [patch.get_window_extent(renderer) for patch in axes.patches[::2]]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
    for text in axes.texts:
        if text.get_text():
            extent = text.get_window_extent(renderer)
            assert any(box.contains(*extent.min) and box.contains(*extent.max) for box in boxes), text.get_text()


def test_a_damaged_record_is_refused_in_one_line(tmp_path):
    for flow in ({"steps": []}, "text", {"steps": [{"n": 1}], "parts": []}):
        with pytest.raises(InputError, match="its flow of patients is damaged"):
            checked_flow_plot(flow, "flow", "Patients", tmp_path / "context.json")
