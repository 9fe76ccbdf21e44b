"""The short form of `benchmarks/bootstrap_coverage.py`: intervals have about their nominal coverage."""

import json
import sys

import pytest


@pytest.mark.slow
def test_intervals_cover_the_true_value_in_the_usual_scenario(monkeypatch):
    import bootstrap_coverage
    from bootstrap_coverage import SCENARIOS, measure

    monkeypatch.setattr(bootstrap_coverage, "POPULATION", 1500)

    rows = measure(90, SCENARIOS[0], cohorts=60, draws=200)
    assert [row["metric"] for row in rows] == list(bootstrap_coverage.CHECKED)
    for row in rows:
        # 60 cohorts know a coverage of 95 % to about ± 6 %; an interval of half the width covers 68 %.
        # An expected calibration error is too large in small cohorts, which no interval mends.
        assert (0.6 if row["metric"] == "ece" else 0.87) <= row["coverage"] <= 1, row["metric"]
        assert row["coverage"] + row["truth_below"] + row["truth_above"] == pytest.approx(1)
        assert 0.04 < row["width"] < 0.45


def test_page_and_record_are_written(tmp_path, monkeypatch):
    import bootstrap_coverage

    monkeypatch.setattr(bootstrap_coverage, "POPULATION", 300)
    bootstrap_coverage.main(["--cohorts", "4", "--draws", "50", "--sizes", "60", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "bootstrap_coverage.json").read_text())
    assert len(rows) == 22
    page = (tmp_path / "bootstrap_coverage.md").read_text()
    assert "--cohorts 4 --draws 50" in page
    assert page.count("\n| ") == 23
    assert "bootstrap_coverage" in sys.modules
