"""The page that compares the paper's tables with the released code and with dmml: its facts, its arithmetic, its rows."""

from __future__ import annotations

import json
import re
import statistics

import pytest
import yaml
from crossvals import write_config

from dmml.__main__ import main as dmml


@pytest.fixture(scope="module")
def facts(repository):
    return json.loads((repository / "docs" / "results" / "paper_tables.json").read_text())


def rows_of(facts, table):
    return {row["row"]: row["values"] for each in facts["tables"] if each["table"] == table for row in each["rows"]}


def main_rows(facts):
    merged = {}
    for table in ("I", "II", "III"):
        for row, values in rows_of(facts, table).items():
            merged.setdefault(row, {}).update(values)
    return merged


REPEATED = {
    ("IV", "all three"): "teacher",
    ("V", "student, 2 clusters"): "student",
    ("V", "distilled"): "distilled",
    ("VI–VIII", "all"): "teacher",
    ("IX", "30 % variable"): "teacher",
    ("X", "5"): "student",
}


@pytest.mark.parametrize(("table", "row"), REPEATED, ids=" ".join)
def test_rows_that_the_paper_repeats_are_transcribed_alike(facts, table, row):
    values, first = rows_of(facts, table)[row], main_rows(facts)[REPEATED[table, row]]
    assert values
    assert {column: first[column] for column in values} == values


def test_every_number_is_a_percentage_and_only_external_ones_lack_an_sd(facts):
    for table in facts["tables"]:
        for row in table["rows"]:
            for column, (mean, sd) in row["values"].items():
                assert 0 < mean < 100, (table["table"], row["row"], column)
                assert (sd is None) == (column == "survival c_index_external"), (table["table"], row["row"], column)
                assert sd is None or 0 < sd < 15


def test_population_sd_over_the_checkpoints_is_what_the_tables_state(facts):
    """It would not be with the sample SD, so the paper's ± is divided by 3."""
    rows, code = main_rows(facts), facts["released_code"]["folds"]
    for model, column in (
        ("teacher", "survival c_index"),
        ("student", "grading auc"),
        ("student", "diagnosis accuracy"),
    ):
        mean, sd = rows[model][column]
        assert statistics.fmean(code[model][column]) == pytest.approx(mean, abs=0.0051)
        assert statistics.pstdev(code[model][column]) == pytest.approx(sd, abs=0.0051)
        assert abs(statistics.stdev(code[model][column]) - sd) > 0.1


@pytest.mark.parametrize(
    ("a", "b", "column", "expected", "is_within"),
    [
        ("teacher", "MMP", "diagnosis auc", 0.14, True),
        ("teacher", "MMP", "grading auc", 0.03, True),
        ("teacher", "MMP", "survival c_index", 0.39, True),
        ("distilled", "student", "survival c_index", 0.49, True),
        ("distilled", "student", "survival c_index_external", -0.52, None),
        ("teacher", "MMP", "grading accuracy", 3.75, False),
    ],
)
def test_differences_are_those_of_the_tables(facts, a, b, column, expected, is_within):
    from paper_tables_claims import difference, values_of

    value, larger = difference(values_of(facts, "I to III"), a, b, column)
    assert value == expected
    assert (None if larger is None else abs(value) <= larger) == is_within


def test_the_sentence_on_the_sds_counts_the_cells_of_its_table(facts):
    from paper_tables_claims import differences

    lines = differences(facts)
    n, within = map(int, re.search(r"Of (\d+) differences with SDs, (\d+) lie", "\n".join(lines)).groups())
    cells = [
        cell
        for line in lines
        if line.startswith("| I") or line.startswith(("| V", "| X"))
        for cell in line.split(" | ")[2:]
    ]
    cells = [cell.strip(" |") for cell in cells]
    tested = [cell for cell in cells if cell != "–" and "no SD" not in cell]
    assert n == len(tested)
    assert within == sum("**" not in cell for cell in tested)
    assert within > n / 2, "the page says that most lie within"


def test_rows_that_beat_the_teacher_are_listed(facts):
    from paper_tables_claims import claims

    [line] = [line for line in claims(facts) if "best on all metrics" in line]
    rows = main_rows(facts)
    for column, (teacher, _) in rows["teacher"].items():
        for row, values in rows.items():
            if column in values and values[column][0] > teacher:
                assert f"{row} {values[column][0]:.2f}" in line


def test_the_page_in_docs_is_that_of_the_facts(facts, repository, tmp_path):
    import paper_tables

    assert paper_tables.main(["--out", str(tmp_path)]) == 0
    made = (tmp_path / "paper_tables.md").read_text()
    committed = (repository / "docs" / "results" / "paper_tables.md").read_text()
    without_runs = "No run has been named yet"
    assert without_runs not in committed or made == committed
    for table in facts["tables"]:
        for row in table["rows"]:
            assert f"| **{row['row']}** |" in made


def test_every_counterpart_answers_a_row_of_the_paper(facts):
    from paper_tables_rows import ABLATIONS, DIFFERENCES, MAIN

    from dmml.evaluation.crossval.model_names import MODELS

    assert set(MAIN) <= set(main_rows(facts))
    for table, rows in ABLATIONS.items():
        assert set(rows) <= set(rows_of(facts, table)), table
    assert {each.model for each in MAIN.values()} <= set(MODELS)
    for table, pairs in DIFFERENCES.items():
        rows = main_rows(facts) if table == "I to III" else rows_of(facts, table)
        assert {row for pair in pairs for row in pair} <= set(rows), table


@pytest.mark.parametrize("n_clusters", [8, 32])
def test_a_student_with_more_clusters_is_made_by_the_options_of_its_row(repository, n_clusters):
    from paper_tables_rows import counterparts

    from dmml.experiment.crossval.fit import build

    model = yaml.safe_load((repository / "configs" / "paper" / "grading_student.yaml").read_text())["model"]
    model["init_args"] |= {"teacher": None, "n_features": 8, "width": 16}
    for option in re.findall(r"`([^`]+)`", counterparts()[f"clusters-{n_clusters}"].how):
        model["init_args"] |= yaml.safe_load(option)
    student, _ = build(model, {"logger": False, "accelerator": "cpu"})
    assert student.aggregator["10x"].n_merged == n_clusters
    assert student.aggregator["10x"].tissue_attention is not None


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Cross-validations of grade and of survival on a simulated cohort, and a test on its held-out cohort."""
    root = tmp_path_factory.mktemp("runs")
    argv = ["--features-only", "--patients", "40", "--held-out", "20", "--dim", "8"]
    assert dmml(["simulate", str(root), *argv]) == 0
    task = {"class_path": "Classification", "init_args": {"classes": ["G2", "G3", "G4"]}}
    common = {"split": {"folds": 3}, "covariates": None}
    cohort = root / "development"
    grade = write_config(root / "grade.yaml", cohort, {"width": 8, "task": task}, outcome={"label": "grade"}, **common)
    death = write_config(root / "death.yaml", cohort, {"width": 8}, **common)
    for config, models, seeds in ((grade, "rna_network", "2"), (death, "histology_abmil", "1")):
        out = str(root / config.stem)
        assert dmml(["crossval", "--config", str(config), "--models", models, "--seeds", seeds, "--out", out]) == 0
    teacher = write_config(root / "teacher.yaml", cohort, {"width": 8}, features=None, split=None, covariates=None)
    assert dmml(["fit", "--config", str(teacher)]) == 0
    held_out = yaml.safe_load(teacher.read_text())
    held_out["data"]["init_args"] |= {"clinical": str(root / "held_out" / "clinical.csv"), "name": "held_out"}
    held_out["data"]["init_args"] |= {"expression": str(root / "held_out" / "expression.parquet")}
    (root / "held_out.yaml").write_text(yaml.safe_dump({"data": held_out["data"]}))
    best = root / "runs" / "teacher" / "checkpoints" / "best.ckpt"
    assert dmml(["test", "--config", str(root / "held_out.yaml"), "--ckpt_path", str(best)]) == 0
    return root


def filled(page: str, table: str, row: str) -> dict[str, list[str]]:
    """{source: cells of the metrics} of one row of a table of the page."""
    section = page.split(f"Table {table}: ")[1].split("\n### ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    start = next(i for i, cells in enumerate(lines) if cells[0] == f"**{row}**")
    end = next((i for i in range(start + 1, len(lines)) if lines[i][0]), len(lines))
    return {cells[2]: cells[3:-1] for cells in lines[start:end]}


@pytest.mark.slow
def test_runs_fill_their_rows_with_the_numbers_of_their_files(runs, tmp_path):
    import paper_tables

    external = runs / "runs" / "teacher" / "test" / "held_out"
    named = ["--crossval", f"grading={runs / 'grade'}", "--crossval", f"survival={runs / 'death'}"]
    assert paper_tables.main([*named, "--external", f"teacher={external}", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "paper_tables.md").read_text()
    assert "has been named yet" not in page
    assert f"grading: `{runs / 'grade'}`, " in page

    content = json.loads((runs / "grade" / "crossval.json").read_text())
    snn = content["models"]["rna_network"]
    row = filled(page, "II", "SNN")
    for i, metric in enumerate(("auc", "accuracy", "balanced_accuracy", "specificity_macro", "f1_macro")):
        by_fold = {}
        for unit, value in zip(content["units"], snn[metric]["folds"], strict=True):
            by_fold.setdefault(unit["fold"], []).append(value)
        means = [100 * statistics.fmean(values) for values in by_fold.values()]
        assert len(means) == 3
        assert row["dmml, folds"][i] == f"{statistics.fmean(means):.2f} ± {statistics.pstdev(means):.2f}"
        pooled = snn[metric]["pooled"]
        interval = f"({100 * pooled['low']:.1f}–{100 * pooled['high']:.1f})"
        assert row["dmml, patients"][i] == f"{100 * pooled['value']:.2f} {interval}"
    assert filled(page, "II", "teacher")["dmml"] == [""] * 5, "no teacher was fitted"
    assert filled(page, "I", "SNN")["dmml"] == [""] * 5, "no diagnosis was fitted"
    assert filled(page, "III", "ABMIL")["dmml, folds"][0] != "–"
    assert filled(page, "III", "CLAM-SB").keys() == {"paper"}

    metrics = json.loads((external / "metrics.json").read_text())["c_index"]
    of_teacher = filled(page, "III", "teacher")
    assert of_teacher["dmml, patients"][1].startswith(f"{100 * metrics['value']:.2f} (")
    assert of_teacher["dmml, folds"] == ["–", "–"]
    assert of_teacher["code"] == ["77.49 ± 2.57", "65.18 (fold 2 alone)"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crossval", "grade={grade}"], "there is no task 'grade'; use diagnosis, grading, survival"),
        (["--crossval", "survival={grade}"], "its primary metric is auc"),
        (["--crossval", "{grade}"], "give it as TASK=FOLDER"),
        (["--crossval", "grading={grade}/none"], "has no crossval.json"),
        (["--row", "cgx:grading={grade}"], "there is no row 'cgx'"),
        (["--row", "cgc:grading={grade}"], "has no model teacher"),
        (["--external", "teacher={grade}"], "has no c_index"),
    ],
)
def test_what_cannot_fill_a_row_is_refused_in_one_line(runs, tmp_path, capsys, options, message):
    import paper_tables

    options = [option.replace("{grade}", str(runs / "grade")) for option in options]
    assert paper_tables.main([*options, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())
