"""The benchmark on real RNA: its cohorts, its models by hand, its chain through `dmml crossval`, its page."""

import json

import numpy as np
import pandas as pd
import pytest


def test_outcomes_dealt_anew_stay_pairs_and_leave_their_patients(shared_data):
    from real_rna_cohorts import dealt_anew, luad_clinical

    table = luad_clinical(shared_data)
    dealt = dealt_anew(table, ["os_days", "os_event"], seed=1)
    pairs = [sorted(map(tuple, t[["os_days", "os_event"]].dropna().to_numpy())) for t in (table, dealt)]
    assert pairs[0] == pairs[1]
    assert table["os_days"].isna().equals(dealt["os_days"].isna())
    assert (table["os_days"] == dealt["os_days"]).sum() < 20
    others = ["patient_id", "age", "sex", "stage", "dss_days"]
    pd.testing.assert_frame_equal(table[others], dealt[others])
    assert not dealt.equals(dealt_anew(table, ["os_days", "os_event"], seed=2))


def test_patients_with_both_forms_tell_one_story(shared_data):
    from real_rna_cohorts import luad_both

    table = luad_both(shared_data)
    assert len(table) == 450
    assert (table["os_event"] == 1 - table["censorship"]).mean() > 0.99
    assert np.corrcoef(table["os_days"], table["survival_months"])[0, 1] > 0.99


def test_by_hand_reaches_what_the_tables_are_known_for(shared_data):
    import real_rna_by_hand as by_hand
    from real_rna import gbmlgg_folds
    from real_rna_cohorts import PORPOISE, gbmlgg_clinical

    genes, folds = by_hand.expression(shared_data / PORPOISE), gbmlgg_folds(shared_data)
    assert genes.abs().max().max() == by_hand.CLIP
    assert all(not set(train) & set(test) for train, test in folds)
    label = gbmlgg_clinical(shared_data).set_index("patient_id")["diagnosis"]
    assert np.mean(by_hand.logistic(genes, label, folds[:1])) == pytest.approx(0.97, abs=0.04)


def test_concordance_within_a_grade_counts_no_pair_of_two():
    from real_rna import within

    rows = pd.DataFrame(
        {
            "model": "m",
            "repeat": 0,
            "fold": [0, 0, 0, 0, 1, 1],
            "seed": 0,
            "patient_id": list("abcdef"),
            "time": [1.0, 2, 3, 4, 1, 2],
            "event": [1, 1, 1, 1, 1, 0],
            # Right within G2 (a before b) of fold 0, wrong within G3 (c, d), right within G2 of fold 1 (e, f).
            "risk": [2.0, 1, 3, 4, 9, 8],
        }
    )
    grade = pd.Series({"a": "G2", "b": "G2", "c": "G3", "d": "G3", "e": "G2", "f": "G2"})
    assert within(rows, grade) == {"m": {"G2": 1.0, "G3": 0.0}, "events": {"G2": 3, "G3": 2}}


def test_a_shuffle_runs_through_the_command_and_is_not_done_again(shared_data, tmp_path, monkeypatch):
    import real_rna

    outcome = {"time": "os_days", "event": "os_event", "unit": "days"}
    table = real_rna.dealt_anew(real_rna.luad_clinical(shared_data), real_rna.OUTCOME, seed=0)
    words = (tmp_path / "work", shared_data, "--models", "rna_linear")
    found = real_rna.luad_fit(*words, clinical=table, outcome=outcome)
    assert found["patients"] == 450
    assert 0.3 < found["models"]["rna_linear"]["c_index"]["mean"] < 0.7
    monkeypatch.setattr(real_rna, "dmml", lambda _: pytest.fail("fitted again"))
    assert real_rna.luad_fit(*words, clinical=table, outcome=outcome) == found


def test_the_published_page_is_what_its_figures_say(repository):
    from real_rna_page import page

    folder = repository / "docs" / "results"
    results = json.loads((folder / "real_rna.json").read_text(encoding="utf-8"))
    assert (folder / "real_rna.md").read_text(encoding="utf-8") == page(results)
