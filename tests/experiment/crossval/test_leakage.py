"""Nothing that a fold fits depends on its outer test patients: not on their RNA, outcomes or covariates."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from crossvals import parts_in_files, run, write_config
from fitted_state import differences, fitted_state, record_regressions

pytestmark = pytest.mark.slow

MODELS = "teacher,student,rna_linear,clinical"


def poisoned(cohort, target, patients):
    """A copy of the cohort in which all data of some patients are absurd."""
    shutil.copytree(cohort, target)
    table = pd.read_csv(target / "clinical.csv", dtype={"patient_id": str})
    rows = table["patient_id"].isin(patients)
    table.loc[rows, "os_days"] = 30_000
    table.loc[rows, "os_event"] = 1 - table.loc[rows, "os_event"]
    table.loc[rows, "age"] = 4_000
    table.loc[rows, "stage"] = "IV"
    table.to_csv(target / "clinical.csv", index=False)
    rna = pd.read_parquet(target / "expression.parquet")
    rows = rna["patient_id"].isin(patients)
    assert rows.any()
    genes = [name for name in rna.columns if name != "patient_id"]
    rna.loc[rows, genes] = (rna.loc[rows, genes] * 1000 + 1e6).astype(np.float32)
    rna.to_parquet(target / "expression.parquet")
    return target


def test_absurd_values_of_test_patients_do_not_change_any_fitted_bit(cohort, tmp_path, monkeypatch):
    regressions = record_regressions(monkeypatch)

    def fitted(cohort, name, split):
        regressions.clear()
        rna = {"path": str(cohort / "expression.parquet"), "scale": "tpm"}
        config = write_config(tmp_path / f"{name}.yaml", cohort, name="small", split=split, expression=rna)
        run("--config", config, "--models", MODELS, "--out", tmp_path / name, "--only-fold", 0)
        return fitted_state(tmp_path / name, regressions)

    split = tmp_path / "splits"
    parts = parts_in_files(cohort, split)
    base = fitted(cohort, "a", str(split))
    assert {"teacher", "student", "rna_linear", "clinical", "rna_linear+clinical"} <= set(base)
    assert len(base["regressions"]) == 2
    unseen = poisoned(cohort, tmp_path / "unseen", parts["test"])
    assert not differences(base, fitted(unseen, "b", str(split)))
    # The test rows did change, so the comparison was of something; and the same values in training are seen.
    risks = [pd.read_csv(tmp_path / out / "fold_0/rna_linear/predictions.csv")["risk"] for out in "ab"]
    assert not np.allclose(*risks)
    seen = poisoned(cohort, tmp_path / "seen", parts["train"][:2])
    paths = differences(base, fitted(seen, "d", str(split)))
    for model in ("teacher", "student"):
        assert any(line.startswith(f"/{model}/checkpoint/state_dict") for line in paths)


def test_regressions_are_fitted_to_all_training_patients_and_join_by_patients_left_out(cohort, tmp_path, monkeypatch):
    regressions = record_regressions(monkeypatch)
    parts = parts_in_files(cohort, tmp_path / "splits")
    stage = {"name": "stage", "levels": ["I", "II", "III", "IV"]}
    config = write_config(tmp_path / "c.yaml", cohort, split=str(tmp_path / "splits"), covariates=["age", "sex", stage])
    run("--config", config, "--models", "clinical,rna_linear", "--out", tmp_path / "out", "--only-fold", 0)
    training = parts["train"] + parts["val"]
    n_training = {}
    for kept in regressions:
        sizes = [len(fold["x"]) + len(fold["x_held_out"]) for fold in kept["inner"]]
        assert set(sizes) == {len(kept["x"])}
        assert sum(len(fold["x_held_out"]) for fold in kept["inner"]) == len(kept["x"])  # each is left out once
        n_training[len(kept["model"].weight)] = len(kept["x"])
    for name in ("clinical", "rna_linear", "rna_linear+clinical"):
        fold_folder = tmp_path / "out" / "fold_0" / name
        assert sorted(pd.read_csv(fold_folder / "inner.csv", dtype=str)["patient_id"]) == sorted(training)
        context = json.loads((fold_folder / "context.json").read_text())
        assert context["n_training"] == n_training.get(context.get("inputs"), len(training))
    clinical = tmp_path / "out" / "fold_0" / "clinical"
    assert json.loads((clinical / "context.json").read_text())["coding"]["stage"].startswith(
        "4 levels in order (I < II"
    )
    # The inner rows are no predictions of the fitted model, which has seen their patients.
    model, inner = regressions[1]["model"], pd.read_csv(clinical / "inner.csv", dtype={"patient_id": str})
    assert not np.allclose(np.sort(inner["risk"]), np.sort(model.score(regressions[1]["x"])[:, 0]))
