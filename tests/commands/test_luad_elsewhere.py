"""A model of TCGA-LUAD's RNA on a cohort of another scale that lacks a third of its genes: the report names them."""

import html
import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from dmml.__main__ import main
from dmml.cohort.rna.expression import read_expression

pytestmark = pytest.mark.slow


@pytest.fixture
def elsewhere(shared_data, repository, tmp_path):
    """A checkpoint fitted on fold 0, and its test patients as a cohort in log2 without every third gene."""
    luad = shared_data / "tcga_luad"
    config = yaml.safe_load((repository / "configs" / "luad_rna.yaml").read_text())
    data = config["data"]["init_args"]
    data["expression"]["path"] = str(luad / "mcat_luad_all_clean.csv.zip")
    data |= {"clinical": str(luad / "clinical.csv"), "split": str(luad / "splits_5fold")}
    config["trainer"] |= {"default_root_dir": "runs/luad", "max_epochs": 2, "enable_progress_bar": False}
    (tmp_path / "luad.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", "luad.yaml"]) == 0

    test = list(pd.read_csv(luad / "splits_5fold" / "splits_0.csv", dtype=str)["val"].dropna())
    z = read_expression(data["expression"]).table.loc[test].clip(-8, 8)
    removed_genes = sorted(z.columns)[::3]
    array = (7 + 1.3 * z.drop(columns=removed_genes)).clip(lower=0)
    silent = sorted(array.columns)[5]
    array[silent] = np.nan  # a column that is there, and empty
    array.iloc[0, 10:20] = np.nan
    array.to_csv("array.csv", index_label="patient_id")
    clinical = pd.read_csv(luad / "clinical.csv", dtype=str)
    clinical[clinical["patient_id"].isin(test)].to_csv("clinical.csv", index=False)
    outcome = {"time": "os_days", "event": "os_event", "unit": "days"}
    section = {"name": "array", "clinical": "clinical.csv", "outcome": outcome, "expression": "array.csv"}
    return section, {*removed_genes, silent}, len(test)


def test_the_report_names_every_gene_that_was_imputed(elsewhere, tmp_path, capsys):
    section, removed_genes, n = elsewhere
    checkpoint = "runs/luad/checkpoints/best.ckpt"
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"data": section}))
    assert main(["test", "--config", "test.yaml", "--ckpt_path", checkpoint]) == 2
    assert "is on the scale log2, but the model was trained on zscore" in capsys.readouterr().err

    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"data": section | {"standardise": "within_cohort"}}))
    assert main(["test", "--config", "test.yaml", "--ckpt_path", checkpoint]) == 0
    printed = capsys.readouterr().out
    assert "tumor genes are not measured and count as the training mean" in printed
    assert re.search(r"\d values of measured genes are missing and count as the training mean", printed)
    out = tmp_path / "runs" / "luad" / "test" / "array_transductive"
    assert json.loads((out / "metrics.json").read_text())["c_index"]["n"] == n
    shift = json.loads((out / "shift.json").read_text())
    page = html.unescape((out / "report.html").read_text())
    for entry in shift["genes"].values():
        assert entry["n"] / 4 < len(entry["imputed"]) < entry["n"] / 2
        assert set(entry["imputed"]) <= removed_genes
        assert ", ".join(entry["imputed"]) in page
    rna = json.loads((out / "context.json").read_text())["rna"]
    assert {s: entry["imputed"] for s, entry in shift["genes"].items()} == rna["genes_imputed"]
    assert 0 < rna["values_imputed"] <= 10
    empty = shift["missing"]["values of measured genes, the training mean stands in"]
    assert empty == {"n": rna["values_imputed"], "of": rna["values_imputed"] + rna["values"]}

    assert main(["doctor", "--config", "test.yaml", "--ckpt_path", checkpoint]) == 0
    report_printed = capsys.readouterr().out
    assert f"{len(shift['genes']['tumor']['imputed'])} imputed" in re.sub(r"\s+", " ", report_printed)
    assert "train patients" not in report_printed  # it is tested whole
