"""`dmml simulate`: what it writes, that it is the same every time, and what it refuses."""

import argparse
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from dmml.cohort.rna.expression import read_expression
from dmml.commands.simulate import add_arguments, run
from dmml.errors import InputError
from dmml.simulate import simulation
from dmml.simulate.truth import FACTOR_NAMES
from dmml.store import FeatureStore


def simulate(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    run(parser.parse_args([str(argument) for argument in arguments]))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


SMALL = ("--patients", 6, "--held-out", 3, "--features-only", "--dim", 16)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("features") / "study"
    simulate(out, *SMALL)
    return out


def test_tables_name_the_same_patients_and_slides(study):
    for cohort, n in (("development", 6), ("held_out", 3)):
        clinical = pd.read_csv(study / cohort / "clinical.csv")
        truth = pd.read_csv(study / cohort / "truth.csv")
        assert (
            list(clinical.columns)
            == "patient_id slide_id site os_days os_event grade age sex stage molecular_score".split()
        )
        assert list(truth.columns) == ["patient_id", *FACTOR_NAMES, "risk"]
        assert truth["patient_id"].is_unique
        assert len(truth) == n
        assert set(truth["patient_id"]) == set(clinical["patient_id"])
        assert clinical["slide_id"].is_unique
        assert clinical.groupby("patient_id")["os_days"].nunique().eq(1).all()
        assert FeatureStore(study / cohort / "features.zarr").slides() == sorted(clinical["slide_id"])
        assert {p.stem for p in (study / cohort / "truth").glob("*.png")} == set(clinical["slide_id"])


def test_cohorts_share_no_patient(study):
    ids = [set(pd.read_csv(study / cohort / "truth.csv")["patient_id"]) for cohort in ("development", "held_out")]
    assert not ids[0] & ids[1]


def test_the_expression_table_is_read_as_tpm(study):
    expression = read_expression(study / "held_out" / "expression.parquet")
    assert expression.scale == "tpm"
    np.testing.assert_allclose(expression.table.sum(axis=1), 1e6, rtol=1e-3)
    assert set(expression.table.index) == set(pd.read_csv(study / "held_out" / "truth.csv")["patient_id"])


def test_the_same_arguments_give_the_same_bytes(study, tmp_path):
    simulate(tmp_path / "again", *SMALL)
    assert contents(tmp_path / "again") == contents(study)


def test_another_seed_gives_other_patients(study, tmp_path):
    simulate(tmp_path / "other", *SMALL, "--seed", 1)
    ours, others = (pd.read_csv(folder / "development" / "truth.csv") for folder in (study, tmp_path / "other"))
    assert not np.isclose(ours[list(FACTOR_NAMES)], others[list(FACTOR_NAMES)]).any()
    assert not set(ours["patient_id"]) & set(others["patient_id"])


def test_a_complete_study_is_left_alone(study, capsys):
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*")}
    simulate(study, *SMALL)
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*")} == before


def test_other_arguments_are_refused_unless_overwriting(study, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(study, out)
    with pytest.raises(InputError, match=r"held_out = 3 instead of 2.*--overwrite"):
        simulate(out, *SMALL, "--held-out", 2)
    simulate(out, *SMALL, "--held-out", 2, "--overwrite")
    assert len(pd.read_csv(out / "held_out" / "truth.csv")) == 2


def test_a_killed_run_is_resumed(study, tmp_path, monkeypatch):
    out, written = tmp_path / "study", []
    write = FeatureStore.write

    def dies(store, slide_id, *rest, **named):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(slide_id)
        write(store, slide_id, *rest, **named)

    monkeypatch.setattr(FeatureStore, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        simulate(out, *SMALL)
    assert json.loads((out / "simulation.json").read_text())["state"] == "running"
    kept = out / "development" / "features.zarr" / "slides" / written[0] / "zarr.json"
    stamp = kept.stat().st_mtime_ns
    monkeypatch.setattr(FeatureStore, "write", write)
    simulate(out, *SMALL)
    assert kept.stat().st_mtime_ns == stamp
    assert contents(out) == contents(study)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="no simulation wrote"):
        simulate(tmp_path, *SMALL, "--overwrite")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_an_unreadable_marker_is_named(tmp_path):
    (tmp_path / "simulation.json").write_text("{")
    with pytest.raises(InputError, match=r"simulation\.json: cannot be read"):
        simulate(tmp_path, *SMALL)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--patients", 0), "--patients"),
        (("--held-out", -1), "--held-out"),
        (("--seed", -1), "--seed"),
        (("--features-only", "--dim", 1), "--dim"),
        (("--visibility", 0), "--visibility"),
        (("--visibility", 1.2), "--visibility"),
    ],
)
def test_impossible_numbers_are_refused_with_the_name_of_the_option(tmp_path, arguments, named):
    with pytest.raises(InputError, match=f"^{named}: "):
        simulate(tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_without_tifffile_the_message_names_the_extra(tmp_path, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tifffile" else find(name))
    with pytest.raises(InputError, match=r"dmml\[demo\]"):
        simulate(tmp_path / "out")


def test_the_summary_counts_patients_deaths_and_missing_rna():
    patients = simulation.draw_patients("development", 50, seed=0)
    line = simulation.summary(patients)
    assert line.startswith("50 patients, ")
    assert f"{sum(p.event for p in patients)} deaths" in line
    assert f"{sum(not p.has_expression for p in patients)} without RNA" in line


def test_arguments_are_checked_before_anything_heavy_is_imported(tmp_path):
    import subprocess
    import sys

    code = (
        "import argparse, sys\n"
        "from dmml.commands.simulate import add_arguments, run\n"
        "from dmml.errors import InputError\n"
        "parser = argparse.ArgumentParser(); add_arguments(parser)\n"
        "(open('mine.txt', 'w')).close()\n"
        "try:\n    run(parser.parse_args(['.', '--features-only']))\n"
        "except InputError as error:\n    print(error)\n"
        "print(sorted({'numpy', 'pandas', 'torch', 'zarr', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[0].startswith(".: holds files that no simulation wrote")
    assert done.stdout.splitlines()[1] == "[]"
