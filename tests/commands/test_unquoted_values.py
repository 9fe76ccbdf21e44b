"""Words of a config that YAML takes for something else are explained, with the quotes that they need; numbers are classes."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from dmml.__main__ import main
from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
from dmml.commands.config.reading import read_config
from dmml.commands.config.unquoted_values import check_quotes
from dmml.errors import InputError
from dmml.tasks import Classification

GENES = genes_of(read_gene_sets()["tumor"])[:40] + genes_of(read_gene_sets()["tme"])[:40]


@pytest.fixture
def config(monkeypatch):
    """Writes a config of three labels, and lets nothing heavier than the tables be imported."""
    monkeypatch.setitem(sys.modules, "dmml.cli", None)
    patients = [f"p{i:02d}" for i in range(30)]
    grade = [2 + i % 3 for i in range(30)]
    table = pd.DataFrame({"patient_id": patients, "grade": grade, "on": ["Yes", "No", "NA"] * 10, "2024": "x"})
    table.assign(relapse=np.where(np.arange(30) % 2, "Yes", "No")).to_csv("c.csv", index=False)
    values = np.random.default_rng(0).gamma(0.5, size=(30, len(GENES)))
    rna = pd.DataFrame(1e6 * values / values.sum(1, keepdims=True), index=patients, columns=GENES)
    rna.to_csv("rna.csv", index_label="patient_id")

    def write(classes: str, data: str) -> str:
        task = f"task: {{class_path: Classification, init_args: {{classes: {classes}}}}}"
        model = f"model: {{class_path: SubspaceTeacher, init_args: {{width: 8, {task}}}}}\n"
        with open("c.yaml", "w") as file:
            file.write(f"{model}data: {{clinical: c.csv, expression: rna.csv, {data}}}\n")
        return "c.yaml"

    return write


@pytest.mark.parametrize(
    ("classes", "data", "message"),
    [
        ("[Yes, No]", "outcome: {label: relapse}", 'model.task.classes: YAML reads a word such as Yes, on or true without quotes as true; put quotes around the classes as the label column has them, such as ["Yes", "No"]'),
        ("[low, 2024-01-01]", "outcome: {label: grade}", "model.task.classes: YAML reads 2024-01-01 without quotes as a date"),
        ("[low, ~]", "outcome: {label: grade}", "model.task.classes: YAML reads null, ~ or nothing as no value"),
        ("[2, 3, 4]", "outcome: {label: on}", "data.outcome.label: YAML reads a word such as Yes, on or true without quotes as true; put quotes around it"),
        ("[2, 3, 4]", "outcome: {label: 2024}", 'data.outcome.label: YAML reads 2024 without quotes as a number; put quotes around it, such as "2024"'),
        ("[2, 3, 4]", "outcome: {label: grade}, slide_id: no", "data.slide_id: YAML reads a word such as No, off or false without quotes as false"),
        ("[2, 3, 4]", "outcome: {label: grade}, name: 2024-01-01", 'data.name: YAML reads 2024-01-01 without quotes as a date; put quotes around it, such as "2024-01-01"'),
        ("[2, 3, 4]", "outcome: {label: grade}, covariates: [on]", "data.covariates: YAML reads a word such as Yes, on"),
        ("[2, 3, 4]", "outcome: {label: grade}, features: 5", "data.features: YAML reads 5 without quotes as a number"),
        ("[2, 3, 4]", "outcome: {label: grade}, split: 5", "data.split: 5 is neither folds nor a path; write {folds: 5} for"),
        ("[2, 3, 4]", "outcome: {time: a, event: b, checked: 'no'}", "outcome: checked is 'no'; write true or false, without quotes"),
        ("[2, 3, 4]", "outcome: {time: off, event: on}", "data.outcome.time: YAML reads a word such as No, off"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", [["fit"], ["doctor"], ["crossval"]])
def test_a_value_that_lacks_quotes_is_explained_in_one_line(config, capsys, command, classes, data, message):
    assert main([*command, "--config", config(classes, data)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("classes", "data"),
    [
        ('["Yes", "No"]', "outcome: {label: relapse}"),
        ('["Yes", "No"]', 'outcome: {label: "on"}'),
        ("[2, 3, 4]", 'outcome: {label: grade}, name: "2024", covariates: ["2024"]'),
        ("[low, high]", "outcome: {label: grade}, slide_id: null, split: {folds: 3, stratify: true}"),
    ],
)
def test_a_value_that_has_quotes_or_needs_none_reaches_the_fit(config, classes, data):
    with pytest.raises(ImportError):  # of the Lightning CLI, which the checks come before
        main(["fit", "--config", config(classes, data)])


def test_text_on_the_command_line_needs_no_quotes(config):
    path = config("[2, 3, 4]", "outcome: {label: grade}")
    section = read_config(["fit", "--config", path, "--data.name", "2024", "--data.slide_id=on"])["data"]["init_args"]
    assert (section["name"], section["slide_id"]) == ("2024", "on")
    assert read_config(["fit", "--config", path, "--data.name", "null"])["data"]["init_args"]["name"] is None


def test_a_value_of_a_further_cohort_is_reported_with_the_cohort_s_name():
    with pytest.raises(InputError, match=r"data\[1\]\.name: YAML reads 5"):
        check_quotes({"clinical": "a.csv", "also": [{"clinical": "b.csv", "name": 5}]})


@pytest.mark.parametrize("classes", [[2, 3, 4], ["2", "3", "4"], [2.0, 3.0, 4.0], ["2.0", "3.0", "4.0"]])
@pytest.mark.parametrize("column", [["2", "3", "4", None], ["2.0", "3.0", "4.0", None]])
def test_numbers_are_recognised_as_classes_in_any_spelling(classes, column):
    task = Classification(classes, class_weights="balanced")
    task.fit({"label": column})
    target = task.encode({"label": column})
    assert target["label"].tolist()[:3] == [0, 1, 2]
    assert target["observed"].tolist() == [True, True, True, False]
    assert task.class_weights == [1.0, 1.0, 1.0]
    assert task.decode(target)["label"] == [*task.classes, None]


def test_labels_that_are_no_numbers_keep_their_spelling():
    task = Classification(["1.0", "1.5", "v2.0", "v2"])
    assert task.encode({"label": ["v2", "v2.0", "1"]})["label"].tolist() == [3, 2, 0]
    with pytest.raises(InputError, match=r"label 2\.0, 3: not among the model's classes \(1\.0, 1\.5, v2\.0, v2\)"):
        task.encode({"label": ["3", "2.0"]})
    with pytest.raises(ValueError, match="at least two different names"):
        Classification(["2", "2.0"])


def test_the_parser_of_fit_accepts_numbers_as_classes(tmp_path):
    from dmml.experiment.crossval.fit import build

    section = yaml.safe_load("{class_path: Classification, init_args: {classes: [2, 3, 4]}}")
    model, _ = build({"class_path": "SubspaceTeacher", "init_args": {"width": 8, "task": section}}, {"logger": False})
    assert model.task.classes == ["2", "3", "4"]
