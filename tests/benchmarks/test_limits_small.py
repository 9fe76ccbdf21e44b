"""The true probabilities by which `benchmarks/limits.py` measures coverage are those of the simulation."""

import numpy as np
import pytest

from dmml.simulate.truth import GRADES, draw_patients


@pytest.fixture
def benchmark(monkeypatch, repository):
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import limits

    return limits


def test_chances_of_grades_and_survival_agree_with_what_patients_have(benchmark):
    patients = draw_patients("development", 3000, 5)
    chances = [benchmark.grade_chances(patient) for patient in patients]
    assert all(sum(chance.values()) == pytest.approx(1) for chance in chances)
    for grade in GRADES:
        share = np.mean([patient.grade == grade for patient in patients])
        assert np.mean([chance[grade] for chance in chances]) == pytest.approx(share, abs=0.025)
    for days in (100, 300, 500):  # nobody is censored before day 500
        share = np.mean([patient.days >= days for patient in patients])
        expected = np.mean([benchmark.survival_chance(patient, days) for patient in patients])
        assert expected == pytest.approx(share, abs=0.025)


def test_the_page_states_a_miss(benchmark):
    cohort = {f"bound {level:g}": level for level in benchmark.LEVELS} | {"set 0.9": 0.85, "classes in a set": 1.5}
    cohort |= {f"days {level:g}": 100.0 for level in benchmark.LEVELS} | {"n_calibration": 59, "checkpoint_bytes": 5000}
    cohort |= {"same_sites": {"any_warning": 0.12, "unlike": 0.1}, "elsewhere": {"any_warning": 0.5, "unlike": 0.5}}
    cohorts = [cohort | {"deep_share": [0.0, 0.5], "at the last day 0.5": 0.1}] * 2
    rows = benchmark.coverage_rows(cohorts)
    assert [row["within_three_points"] for row in rows] == [False, True, True, True]
    page = benchmark.markdown({"cohorts": cohorts, "coverage": rows, "minutes": 3.0}, "command")
    assert "| set of grades | 90.0 % | 85.0 % | 85.0 % to 85.0 % | **no** |" in page
    assert "Of the 2 cohorts, 0 leave at least 90 of the 100 unseen slides without a warning" in page
