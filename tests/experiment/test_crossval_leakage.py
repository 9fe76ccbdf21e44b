"""What a fold fits does not know its outer test patients: their RNA, outcomes and covariates may be anything."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from crossvals import parts_in_files, run, write_config

MODELS = "teacher,student,rna_linear,clinical"
FITTED = ("edges", "end", "horizons", "censoring", "median_risk", "penalty", "weight_norm", "weights", "n_training")


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


def fitted(cohort, config, split, out):
    rna = {"path": str(cohort / "expression.parquet"), "scale": "tpm"}
    run(
        "--config",
        write_config(config, cohort, split=split, expression=rna),
        "--models",
        MODELS,
        "--out",
        out,
        "--only-fold",
        0,
    )
    found = {}
    for folder in sorted((out / "fold_0").iterdir()):
        context = json.loads((folder / "context.json").read_text())
        found[folder.name] = {"inner": pd.read_csv(folder / "inner.csv").select_dtypes("number").to_numpy()}
        found[folder.name] |= {key: context[key] for key in FITTED if key in context}
        checkpoint = folder / "checkpoints" / "best.ckpt"
        if checkpoint.is_file():
            kept = torch.load(checkpoint, weights_only=True)
            found[folder.name] |= {f"weight {name}": values.numpy() for name, values in kept["state_dict"].items()}
            for s, statistics in (kept["hyper_parameters"]["fitted"]["gene_statistics"] or {}).items():
                found[folder.name][f"statistics {s}"] = {k: statistics[k] for k in ("mean", "std")}
    return found


def assert_same(a, b):
    assert a.keys() == b.keys()
    for model in a:
        assert a[model].keys() == b[model].keys()
        for key, value in a[model].items():
            if isinstance(value, np.ndarray):
                np.testing.assert_allclose(value, b[model][key], rtol=1e-5, atol=1e-6, err_msg=f"{model}: {key}")
            elif isinstance(value, float):
                assert value == pytest.approx(b[model][key], rel=1e-5), (model, key)
            else:
                assert value == b[model][key], (model, key)


def test_absurd_values_of_test_patients_change_nothing_that_is_fitted(cohort, tmp_path):
    split = tmp_path / "splits"
    parts = parts_in_files(cohort, split)
    base = fitted(cohort, tmp_path / "a.yaml", str(split), tmp_path / "a")
    assert {"teacher", "student", "rna_linear", "clinical", "rna_linear+clinical"} <= set(base)
    assert base["teacher"]["statistics tumor"]
    unseen = poisoned(cohort, tmp_path / "unseen", parts["test"])
    assert_same(base, fitted(unseen, tmp_path / "b.yaml", str(split), tmp_path / "b"))
    # The test rows did change, so the comparison was of something; and the same values in training are seen.
    risks = [pd.read_csv(tmp_path / out / "fold_0/rna_linear/predictions.csv")["risk"] for out in "ab"]
    assert not np.allclose(*risks)
    seen = poisoned(cohort, tmp_path / "seen", parts["train"][:2])
    with pytest.raises(AssertionError):
        assert_same(base, fitted(seen, tmp_path / "d.yaml", str(split), tmp_path / "d"))
