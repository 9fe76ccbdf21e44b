"""TransMIL, MCAT and a baseline of the user's own in `dmml crossval` and `dmml report`."""

import json
import sys
from pathlib import Path

import pytest
from crossvals import run, write_config
from doc_blocks import block_with

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.experiment.crossval.models import needs_of, pairs, parse_baselines, select_models

MORE = '''

class Silent(MaxPool):
    reads = None


class OtherArguments(MaxPool):
    def __init__(self, channels):
        super().__init__(channels, {}, 1, 1, (10,))


class Linear(MaxPool):
    """Reads RNA as well."""

    reads = {"slides", "RNA"}
'''


@pytest.fixture
def my_folder(tmp_path, monkeypatch) -> Path:
    """A user's folder with the network that docs/extending.md shows, and more; it is the working directory."""
    (tmp_path / "my_networks.py").write_text(block_with("docs/extending.md", "class MaxPool") + MORE)
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_networks_of_the_user_and_published_ones_have_rows_in_results_and_report(my_folder, cohort, capsys):
    config = write_config(my_folder / "c.yaml", cohort)
    models = ["--models", "histology_abmil,clinical", "--baselines", "transmil,mcat,highest=my_networks.MaxPool"]
    assert main(["crossval", "--config", str(config), *models]) == 0
    out = my_folder / "runs" / "c_crossval"
    result = json.loads((out / "crossval.json").read_text())
    assert list(result["models"])[:5] == ["histology_abmil", "transmil", "mcat", "highest", "clinical"]
    assert "highest+clinical" in result["models"]
    assert result["baselines"]["highest"] == {"network": "my_networks.MaxPool", "reads": ["slides"]}
    assert result["baselines"]["mcat"]["reads"] == ["RNA", "slides"]
    values = {name: result["models"][name]["c_index"]["pooled"]["value"] for name in result["models"]}
    assert len({values[name] for name in ("histology_abmil", "transmil", "mcat", "highest")}) > 1
    assert "highest" in capsys.readouterr().out
    assert main(["report", str(out), "--out", str(my_folder / "page.html")]) == 0
    page = (my_folder / "page.html").read_text()
    assert "slides, TransMIL" in page
    assert "highest" in page
    assert main(["crossval", "--config", str(config), "--baselines", "highest=my_networks.Linear"]) == 2
    assert "highest was fitted in" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("baselines", "message"),
    [
        ("transmill", "there is no baseline 'transmill'"),
        ("my_networks.MinPool", "baseline my_networks.MinPool: module 'my_networks' has no attribute 'MinPool'"),
        ("your_networks.MaxPool", "No module named 'your_networks'"),
        ("my_networks.Silent", "its attribute `reads` is None"),
        ("my_networks.OtherArguments", "cannot be built"),
        ("student2=my_networks.MaxPool", "cannot be called 'student2'"),
        ("histology_abmil=my_networks.MaxPool", "cannot be called 'histology_abmil'"),
        ("a=my_networks.MaxPool,a=my_networks.Linear", "cannot be called 'a'"),
        ("mcat", "--baselines: mcat needs RNA"),
    ],
)
def test_a_baseline_that_cannot_be_fitted_is_refused_before_any_fit(my_folder, cohort, baselines, message):
    config = write_config(my_folder / "c.yaml", cohort, expression=None)
    with pytest.raises(InputError, match=message) as error:
        run("--config", config, "--models", "histology_mean", "--baselines", baselines)
    assert "\n" not in str(error.value)
    assert not (my_folder / "runs").exists()


def test_published_networks_are_fitted_on_request_only():
    everything = {"RNA", "slides", "covariates"}
    assert "transmil" not in select_models(None, everything)
    assert "transmil" in select_models(["transmil"], everything)
    added = needs_of(parse_baselines("transmil"))
    selected = select_models(None, everything, added)
    assert [name for name in selected if name.startswith(("transmil", "mcat"))] == ["transmil", "transmil+clinical"]
    assert set(select_models(["teacher"], everything, added)) == {"teacher", "transmil"}


def test_an_added_baseline_is_compared_with_teacher_and_student():
    primary, others = pairs(["teacher", "student", "histology_abmil", "transmil", "mine", "mine+clinical"])
    assert primary == ("student", "histology_abmil")
    assert {("teacher", "mine"), ("student", "mine"), ("teacher", "transmil"), ("student", "transmil")} <= set(others)
    assert not any("mine+clinical" in pair for pair in others)
