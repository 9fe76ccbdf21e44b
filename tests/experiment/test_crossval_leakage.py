"""What a fold fits does not know its outer test patients: their RNA, outcomes and covariates may be anything."""

import shutil

import numpy as np
import pandas as pd
import pytest
from crossvals import parts_in_files, run, write_config
from everything_fitted import differences, everything, record_regressions

pytestmark = pytest.mark.slow

MODELS = "teacher,student,rna_linear,clinical"


def poisoned(cohort, target, patients):
    """A copy of the cohort in which everything that is known of some patients is absurd."""
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


def test_absurd_values_of_test_patients_change_no_bit_of_what_is_fitted(cohort, tmp_path, monkeypatch):
    regressions = record_regressions(monkeypatch)

    def fitted(cohort, name, split):
        regressions.clear()
        rna = {"path": str(cohort / "expression.parquet"), "scale": "tpm"}
        config = write_config(tmp_path / f"{name}.yaml", cohort, name="small", split=split, expression=rna)
        run("--config", config, "--models", MODELS, "--out", tmp_path / name, "--only-fold", 0)
        return everything(tmp_path / name, regressions)

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
    told = differences(base, fitted(seen, "d", str(split)))
    for model in ("teacher", "student"):
        assert any(line.startswith(f"/{model}/checkpoint/state_dict") for line in told)
