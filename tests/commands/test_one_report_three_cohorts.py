"""One report of one checkpoint that was tested on a cohort, on it without RNA, and on it with one magnification."""

import pandas as pd
import pytest
from html_page import Page

from dmml.__main__ import main
from dmml.evaluation.comparison import across_cohorts
from dmml.evaluation.evaluation_result import read_evaluation
from dmml.evaluation.result_folders import find_tests

pytestmark = pytest.mark.slow

COHORTS = {"whole": {}, "without_rna": {"expression": None}, "one_scale": {"magnifications": [10]}}


def test_one_checkpoint_on_three_cohorts_is_one_report_of_three_sections(journey, tmp_path, capsys):
    run = journey.run("teacher")
    for name, changes in COHORTS.items():
        config = journey.config(name, cohort="held_out", data={"name": name} | changes)
        assert main(["test", "--ckpt_path", journey.best("teacher"), "--config", str(config)]) == 0
    folders = [run / "test" / name for name in COHORTS]
    out = tmp_path / "three.html"
    capsys.readouterr()
    assert main(["report", *map(str, folders), "--out", str(out)]) == 0
    assert "(3 tests, " in capsys.readouterr().out
    page = Page(out.read_text()).check()
    assert out.stat().st_size < 2e6
    for number, name in enumerate(COHORTS, start=1):
        assert f"t{number}-1" in page.ids
        assert f"teacher on {name}" in page.text
        assert f"On the cohort {name} (20 patients" in page.text
    assert page.text.count("Metrics with 95 % intervals") == 3
    assert "here without any RNA" in page.text
    assert page.text.count("events, at 10x alone)") == 1
    pairs = across_cohorts([read_evaluation(test) for test in find_tests(folders)])
    assert [(pair.a.cohort, pair.b.cohort, pair.n) for pair in pairs] == [
        ("without_rna", "whole", 20), ("one_scale", "whole", 20),
    ]  # fmt: skip
    for pair in pairs:
        assert f"{pair.difference.estimate:.3f}".replace("-", "−") in page.text
    programs = pd.read_csv(folders[0] / "programs.csv", dtype={"patient_id": str})
    assert len(programs) == programs["patient_id"].nunique() == 20
    assert any(name.startswith("tme|measured|") for name in programs)
    assert not any("measured" in name for name in pd.read_csv(folders[1] / "programs.csv"))
    assert not any("|20x|" in name for name in pd.read_csv(folders[2] / "programs.csv"))
