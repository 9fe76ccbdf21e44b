"""The benchmark on real RNA: its cohorts, its models by hand, its chain through `dmml crossval`, its page."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


def test_permuted_outcomes_stay_pairs_and_change_their_patients(shared_data):
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


def test_both_forms_of_the_outcome_agree(shared_data):
    from real_rna_cohorts import luad_both

    table = luad_both(shared_data)
    assert len(table) == 450
    assert (table["os_event"] == 1 - table["censorship"]).mean() > 0.99
    assert np.corrcoef(table["os_days"], table["survival_months"])[0, 1] > 0.99


def test_models_by_hand_reach_the_known_results_of_these_tables(shared_data):
    import real_rna_by_hand as by_hand
    from real_rna import gbmlgg_folds
    from real_rna_cohorts import PORPOISE, gbmlgg_clinical

    genes, folds = by_hand.expression(shared_data / PORPOISE), gbmlgg_folds(shared_data)
    assert genes.abs().max().max() == by_hand.CLIP
    assert all(not set(train) & set(test) for train, test in folds)
    label = gbmlgg_clinical(shared_data).set_index("patient_id")["diagnosis"]
    assert np.mean(by_hand.logistic(genes, label, folds[:1])) == pytest.approx(0.97, abs=0.04)


def test_concordance_within_a_grade_counts_no_pairs_of_two_grades():
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


@pytest.mark.slow
def test_a_permutation_runs_through_the_command_and_is_not_repeated(shared_data, tmp_path, monkeypatch):
    import real_rna

    outcome = {"time": "os_days", "event": "os_event", "unit": "days"}
    table = real_rna.dealt_anew(real_rna.luad_clinical(shared_data), real_rna.OUTCOME, seed=0)
    words = (tmp_path / "work", shared_data, "--models", "rna_linear")
    result = real_rna.luad_fit(*words, clinical=table, outcome=outcome)
    assert result["patients"] == 450
    assert 0.3 < result["models"]["rna_linear"]["c_index"]["mean"] < 0.7
    monkeypatch.setattr(real_rna, "dmml", lambda _: pytest.fail("fitted again"))
    assert real_rna.luad_fit(*words, clinical=table, outcome=outcome) == result


def test_the_published_page_is_made_from_its_record(repository):
    from real_rna_page import page

    folder = repository / "docs" / "results"
    results = json.loads((folder / "real_rna.json").read_text(encoding="utf-8"))
    assert (folder / "real_rna.md").read_text(encoding="utf-8") == page(results)


def test_the_published_page_reaches_every_target(repository):
    lines = (repository / "docs" / "results" / "real_rna.md").read_text(encoding="utf-8").splitlines()
    targets = [line for line in lines[lines.index("| target | measured | |") + 2 :] if line.startswith("| ")][:13]
    assert len([line for line in targets if line.endswith("| reached |")]) == 13
    assert not [line for line in lines if "**missed**" in line]


def test_the_page_names_what_was_not_measured():
    from real_rna_page import page

    text = page({"baselines seconds": 1000.0})
    assert "| LUAD: five folds with all baselines < 15 minutes | 16.7 min | **missed** |" in text
    assert "| GBMLGG grade: accuracy of `teacher` ≥ 0.732 | not measured | |" in text
    assert text.count("Not measured.") == 7


def test_the_record_keeps_results_and_their_origin():
    import real_rna
    from real_rna_page import page

    record = real_rna.merged({"survival by hand, 10 components": [0.8], "dealt": 1}, "luad", {"luad": 2})
    assert set(record) == {"dealt", "luad", "made"}
    assert set(real_rna.KEYS) == set(real_rna.PARTS)
    made = record["made"]["luad"]
    assert f"Made with dmml {made['dmml']}" in page({"made": record["made"]})
    assert f"on {made['date']}: luad." in page({"made": record["made"]})


@pytest.mark.slow
def test_linear_models_of_luad_reach_their_bands_in_either_form_of_the_outcome(shared_data):
    """Days with 1 = died and months with 1 = censored, for the patients who have both, on the published folds."""
    from real_rna_cohorts import config, luad_both

    from dmml.evaluation.metrics import concordance_index
    from dmml.experiment.crossval.fold_data import FoldData
    from dmml.experiment.crossval.linear_models import predict_linear
    from dmml.tasks import Survival

    luad_both(shared_data).to_csv("both.csv", index=False)
    section = config("luad_rna", shared_data, Path("both.csv"))["data"]["init_args"]
    days = {"time": "os_days", "event": "os_event", "unit": "days"}
    months = {"time": "survival_months", "censored": "censorship", "unit": "months"}
    concordances = {"rna_linear": [], "clinical": []}
    for outcome in (days, months):
        data = FoldData(**section | {"outcome": outcome})
        split = data.read()
        scores = {name: [] for name in concordances}
        for fold in range(5):
            data.turn_to(split, fold)
            task = Survival(n_intervals=4)
            task.fit(data.training_outcome())
            for name, scores_of_model in scores.items():
                if outcome is months and name == "rna_linear" and fold > 0:  # one fold tells, and a fit takes a second
                    continue
                rows = pd.DataFrame(predict_linear(name, data, task, "the fold")[1]).dropna(subset=["time", "event"])
                scores_of_model.append(
                    concordance_index(*(rows[column].to_numpy(float) for column in ("time", "event", "risk")))
                )
        for name, scores_of_model in scores.items():
            concordances[name].append(scores_of_model)
    for name, (low, high) in {"rna_linear": (0.63, 0.67), "clinical": (0.66, 0.69)}.items():
        in_days, in_months = concordances[name]
        assert low <= np.mean(in_days) <= high
        assert np.mean(in_months) == pytest.approx(np.mean(in_days[: len(in_months)]), abs=0.01)
