"""The table of all answers: complete after every answer, extended by later calls, and never lost."""

import csv
import json
import os

import pytest
from html_page import Page

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.experiment.predict_slide.answers_table import AnswersTable


def record_of(risk, headline="Above the median", **more):
    return {
        "prediction": {"risk": risk, "survival_1095": 0.5},
        "answer": [headline, "61 % after 3 years"],
        "headline": {"column": "survival_1095", "value": 0.5},
        "model": {"run": "student", "sha256": "ab" * 32},
        "created": "2026-01-02T03:04:05+00:00",
    } | more


def finish(out, name, record):
    """Write the folder of an answer as far as the table reads it."""
    folder = out / name
    folder.mkdir(parents=True)
    (folder / "prediction.json").write_text(json.dumps(record))
    (folder / "report.html").write_text("<p>answer</p>")
    return folder


def rows_in(out):
    with (out / "answers.csv").open(newline="", encoding="utf-8") as file:
        return {row["patient_id"]: row for row in csv.DictReader(file)}


def test_every_answer_is_in_the_table_as_soon_as_it_is_added(tmp_path):
    table = AnswersTable(tmp_path)
    for n, name in enumerate(["b", "a", "c"], start=1):
        record = record_of(float(n))
        table.add(finish(tmp_path, name, record), record)
        assert len(rows_in(tmp_path)) == n
        assert not list(tmp_path.glob(".*"))
    rows = rows_in(tmp_path)
    assert list(rows) == ["a", "b", "c"]
    assert list(rows["a"]) == [
        "patient_id", "risk", "survival_1095", "headline", "headline_value", "outlook", "run", "checkpoint", "created",
        "report",
    ]  # fmt: skip
    assert (rows["a"]["risk"], rows["a"]["report"], rows["a"]["checkpoint"]) == ("2.0", "a/report.html", "abababababab")
    page = Page((tmp_path / "index.html").read_text())
    assert [link for link in page.links if link.endswith(".html")] == [
        "a/report.html",
        "b/report.html",
        "c/report.html",
    ]
    assert page.nameless == []


def test_a_later_call_extends_the_table_and_replaces_only_its_own_answers(tmp_path):
    first = AnswersTable(tmp_path)
    for name in ("a", "b"):
        first.add(finish(tmp_path, name, record_of(1.0)), record_of(1.0))
    classes = record_of(0.0, prediction={"prob_G2": 0.25, "prob_G3": 0.75}, limits={"warnings": ["little tissue"]})
    AnswersTable(tmp_path).add(finish(tmp_path, "c", classes), classes)
    AnswersTable(tmp_path).add(tmp_path / "b", record_of(5.0))
    rows = rows_in(tmp_path)
    assert [row["risk"] for row in rows.values()] == ["1.0", "5.0", ""]
    assert [row["prob_G3"] for row in rows.values()] == ["", "", "0.75"]
    assert [row["warnings"] for row in rows.values()] == ["", "", "1"]
    assert "warnings" in Page((tmp_path / "index.html").read_text()).text


def test_answers_that_a_killed_call_did_not_list_are_listed_by_the_next(tmp_path):
    finish(tmp_path, "killed", record_of(3.0))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "prediction.json").write_text('{"prediction": ')
    finish(tmp_path, ".half-x", record_of(4.0))
    AnswersTable(tmp_path).add(finish(tmp_path, "new", record_of(1.0)), record_of(1.0))
    assert list(rows_in(tmp_path)) == ["killed", "new"]


def test_an_answer_that_was_moved_away_stays_in_the_table_without_a_link(tmp_path):
    table = AnswersTable(tmp_path)
    table.add(finish(tmp_path, "a", record_of(1.0)), record_of(1.0))
    os.rename(tmp_path / "a", tmp_path / ".elsewhere")
    table.add(finish(tmp_path, "b", record_of(2.0)), record_of(2.0))
    assert list(rows_in(tmp_path)) == ["a", "b"]
    assert [link for link in Page((tmp_path / "index.html").read_text()).links] == ["b/report.html"]


def test_names_with_signs_that_links_reserve_are_quoted(tmp_path):
    name = "50 %#1?<b>"
    AnswersTable(tmp_path).add(finish(tmp_path, name, record_of(1.0)), record_of(1.0))
    page = Page((tmp_path / "index.html").read_text())
    assert page.links == ["50%20%25%231%3F%3Cb%3E/report.html"]
    assert name in page.text


def test_a_file_that_is_no_table_of_answers_is_refused_and_kept(tmp_path):
    (tmp_path / "answers.csv").write_text("student,grade\nx,1\n")
    with pytest.raises(InputError, match="no table of answers"):
        AnswersTable(tmp_path)
    assert (tmp_path / "answers.csv").read_text() == "student,grade\nx,1\n"


def test_the_command_lists_what_it_predicted_even_if_a_later_slide_fails(models, tmp_path, monkeypatch):
    import dmml.experiment.predict_slide.predict_slide as predicting

    write, calls = predicting.write_answer, []

    def fail_at_the_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(*arguments)

    slides = tmp_path / "slides"
    slides.mkdir()
    for name in ("one", "two"):
        os.link(models.plain, slides / f"{name}.jpg")
    monkeypatch.setattr(predicting, "write_answer", fail_at_the_second)
    argv = [
        "predict-slide",
        str(slides),
        "--mpp",
        "0.5",
        "--ckpt_path",
        models.best("grade"),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(argv) == 130
    answer = json.loads((tmp_path / "o" / "one" / "prediction.json").read_text())
    [row] = rows_in(tmp_path / "o").values()
    assert {name: float(row[name]) for name in answer["prediction"]} == answer["prediction"]
    assert row["headline"] == answer["answer"][0]
    page = Page((tmp_path / "o" / "index.html").read_text())
    assert "one/thumbnail.jpg" in page.links
    assert (tmp_path / "o" / "one" / "thumbnail.jpg").stat().st_size < 100_000
