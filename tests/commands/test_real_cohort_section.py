"""Data sections with several cohorts, another platform or fewer genes; and proof that test patients do not leak into a fit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from html_page import Page

from dmml.__main__ import main
from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
from dmml.networks.packing import unpack

pytestmark = pytest.mark.slow

SETS = read_gene_sets()
GENES = genes_of(SETS["tumor"])[::6] + genes_of(SETS["tme"])[::3]


def hospital(folder: Path, prefix: str, n: int = 60, genes=GENES, seed: int = 0) -> Path:
    """A cohort with RNA in TPM; half of its hazard is in the first genes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    ids = [f"{prefix}{i:03d}" for i in range(n)]
    x = rng.gamma(0.5, size=(n, len(genes))) + 1e-3
    rna = pd.DataFrame(1e6 * x / x.sum(1, keepdims=True), index=pd.Index(ids, name="patient_id"), columns=genes)
    time = rng.exponential(900 * np.exp(-0.3 * np.log2(rna.iloc[:, 0] + 1) / 4))
    end = rng.uniform(200, 3000, n)
    table = pd.DataFrame(
        {"patient_id": ids, "days": np.minimum(time, end).round() + 1, "died": (time <= end).astype(int)}
    )
    table["age"] = rng.integers(40, 80, n)
    table["site"] = rng.choice(list("abc"), n)
    table.to_csv(folder / "clinical.csv", index=False)
    rna.to_csv(folder / "rna.csv")
    return folder


def section(folder: Path, **more) -> dict:
    return {
        "name": folder.name,
        "clinical": str(folder / "clinical.csv"),
        "outcome": {"time": "days", "event": "died", "unit": "days"},
        "covariates": ["age"],
        "expression": str(folder / "rna.csv"),
    } | more


def config(name: str, data, **trainer) -> str:
    content = {
        "seed_everything": 1,
        "model": {"class_path": "SubspaceTeacher", "init_args": {"width": 16, "task": {"class_path": "Survival"}}},
        "data": data,
        "trainer": {
            "default_root_dir": f"runs/{name}",
            "max_epochs": 1,
            "enable_progress_bar": False,
            "accelerator": "cpu",
        }
        | trainer,
    }
    Path(f"{name}.yaml").write_text(yaml.safe_dump(content))
    return f"{name}.yaml"


def fit(name: str, data, **trainer) -> dict:
    """Hyper-parameters and weights of the best checkpoint."""
    assert main(["fit", "--config", config(name, data, **trainer)]) == 0
    return torch.load(f"runs/{name}/checkpoints/best.ckpt", weights_only=True)


def results_of(name: str, data: dict, cohort: str) -> tuple[pd.DataFrame, dict]:
    Path("test.yaml").write_text(yaml.safe_dump({"data": data}))
    assert main(["test", "--config", "test.yaml", "--ckpt_path", f"runs/{name}/checkpoints/best.ckpt"]) == 0
    out = Path("runs") / name / "test" / cohort
    return pd.read_csv(out / "predictions.csv", dtype={"patient_id": str}), json.loads(
        (out / "metrics.json").read_text()
    )


def test_two_cohorts_are_trained_together(tmp_path, capsys):
    one = hospital(tmp_path / "one", "a")
    two = hospital(tmp_path / "two", "b", 45, genes=GENES[40:], seed=1)
    folds = {"folds": 3, "seed": 0, "site": "site"}
    both = [section(one, split=folds, batch_size=32, fold=1), section(two)]
    kept = fit("both", both)
    hparams = kept["hyper_parameters"]
    fitted = unpack(hparams["fitted"])
    genes = {gene for s in ("tumor", "tme") for gene in fitted["gene_statistics"][s]["genes"]}
    assert genes <= set(GENES[40:])
    assert len(genes) > 0.8 * len(GENES[40:])
    assert set(fitted["hashes"]) == {"clinical", "expression", "also[1].clinical", "also[1].expression", "partition"}
    printed = capsys.readouterr().out
    assert "one+two, train: " in printed

    predictions, metrics = results_of("both", both, "one+two_fold1")
    clinical = pd.concat(pd.read_csv(folder / "clinical.csv") for folder in (one, two)).set_index("patient_id")
    ids = predictions["patient_id"]
    assert 30 <= len(ids) <= 40
    assert {name[0] for name in ids} == {"a", "b"}  # the outer test fold of each
    np.testing.assert_allclose(predictions["time"], clinical.loc[ids, "days"])
    assert metrics["c_index"]["n"] == len(ids)
    saved = yaml.safe_load(Path("runs/both/config.yaml").read_text())  # and the saved config runs again
    assert [one["name"] for one in saved["data"]["init_args"]["also"]] == ["two"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcome": {"label": "site"}}, "one: survival, two: classification"),
        ({"covariates": []}, "covariate 'age' is named in only one of one and two"),
        ({"expression": {"path": "two/rna.csv", "scale": "fpkm"}}, r"different scales (one: tpm, two: fpkm)"),
        ({"expression": "two/few.csv"}, "two has the fewest"),
        ({"split": {"folds": 4}}, "the folds [0, 1, 2, 3]"),
        ({"fold": 2}, "cohorts name different fold (1, 2)"),
        ({"class_path": "Other", "init_args": {}}, "leave class_path out"),
    ],
)
def test_cohorts_that_cannot_be_joined_are_refused(tmp_path, capsys, change, message):
    one, two = hospital(tmp_path / "one", "a"), hospital(tmp_path / "two", "b", seed=1)
    few = pd.read_csv(two / "rna.csv", index_col=0)
    few.iloc[:, :30].mul(1e6 / few.iloc[:, :30].sum(axis=1), axis=0).to_csv(two / "few.csv")
    both = [section(one, split={"folds": 3}, fold=1), section(two) | change]
    assert main(["fit", "--config", config("x", both)]) == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_cohort_of_another_platform_is_standardised_within_itself_only_on_request(tmp_path, capsys):
    home = hospital(tmp_path / "home", "a")
    fit("home", section(home, split={"folds": 3}))
    away = hospital(tmp_path / "away", "x", 40, seed=2)
    rna = pd.read_csv(away / "rna.csv", index_col=0)
    absent = sorted(set(GENES))[::3]
    array = (np.log2(rna + 1) * 0.7 + 4).drop(columns=absent)  # a microarray that lacks a third of the genes
    array.to_csv(away / "array.csv")
    other = section(away, expression={"path": str(away / "array.csv"), "scale": "log2"})
    Path("test.yaml").write_text(yaml.safe_dump({"data": other}))
    checkpoint = "runs/home/checkpoints/best.ckpt"
    assert main(["test", "--config", "test.yaml", "--ckpt_path", checkpoint]) == 2
    assert "standardise: within_cohort" in capsys.readouterr().err

    shifted, metrics = results_of("home", other | {"standardise": "within_cohort"}, "away_transductive")
    printed = capsys.readouterr().out
    report = "runs/home/test/away_transductive/report.html"
    assert f"{report}: 40 patients of away_transductive; transductive: RNA standardised within the cohort" in printed
    first = Page(Path(report).read_text()).text.split("orders patients by risk")[0]
    assert "transductive: RNA standardised within the cohort, so that each prediction depends on the other" in first
    shift = json.loads(Path("runs/home/test/away_transductive/shift.json").read_text())
    for entry in shift["expression"].values():
        assert entry["within"]  # a gene that has the training mean by construction is no finding
        assert "median_shift" not in entry
        assert entry["p"] > 0.01  # nor are the genes that the array lacks
    assert any("standardised within this cohort, so that every gene has the training mean" in w for w in shift["words"])
    lost = [gene for gene in absent if gene in genes_of(SETS["tumor"])]
    assert f"{len(lost)} tumor genes are not measured and count as the training mean ({lost[0]}, {lost[1]}, " in printed
    assert metrics["c_index"]["n"] == 40
    context = json.loads(Path("runs/home/test/away_transductive/context.json").read_text())
    tested = context["tested_hashes"]
    for option, file in (("clinical", "clinical.csv"), ("expression", "array.csv")):
        assert (
            tested[option] == hashlib.sha256((away / file).read_bytes()).hexdigest()[:16] != context["hashes"][option]
        )
    assert not Path("runs/home/test/away").exists()  # never where the headline stands
    # It undoes the platform: the same patients' TPM, standardised within, give the same answers.
    rna.drop(columns=absent).to_csv(away / "tpm.csv")
    tpm = other | {"expression": {"path": str(away / "tpm.csv"), "scale": "tpm"}, "standardise": "within_cohort"}
    Path("test.yaml").write_text(yaml.safe_dump({"data": tpm}))
    assert main(["predict", "--config", "test.yaml", "--ckpt_path", checkpoint]) == 0
    again = pd.read_csv("runs/home/predict/away_transductive/predictions.csv")
    kept = json.loads(Path("runs/home/predict/away_transductive/provenance.json").read_text())["hashes"]
    assert (kept["clinical"], kept["expression"] == tested["expression"]) == (tested["clinical"], False)
    np.testing.assert_allclose(again["risk"], shifted["risk"], atol=1e-4)

    array.iloc[:29].to_csv(away / "array.csv")
    Path("test.yaml").write_text(yaml.safe_dump({"data": other | {"standardise": "within_cohort"}}))
    assert main(["test", "--config", "test.yaml", "--ckpt_path", checkpoint]) == 2
    assert (
        "29 patients have RNA, too few to standardise a cohort within itself (30 are needed)" in capsys.readouterr().err
    )
    for verb, folder in (("fit", "y"), ("crossval", "y_crossval")):
        assert main([verb, "--config", config("y", section(home, standardise="within_cohort"))]) == 2
        assert "is for test and predict" in capsys.readouterr().err
        assert not Path("runs", folder).exists()


def spoil(folder: Path, patients: list[str], target: Path) -> Path:
    """A copy with absurd RNA, outcomes and covariates of some patients."""
    target.mkdir()
    table = pd.read_csv(folder / "clinical.csv")
    rows = table["patient_id"].isin(patients)
    assert rows.sum() == len(patients) > 0
    table.loc[rows, "days"] = 9_999
    table.loc[rows, "died"] = 1 - table.loc[rows, "died"]
    table.loc[rows, "age"] = 400
    table.to_csv(target / "clinical.csv", index=False)
    rna = pd.read_csv(folder / "rna.csv", index_col=0)
    rna.loc[patients] = rna.loc[patients].to_numpy()[:, ::-1] * 1.1
    rna.to_csv(target / "rna.csv")
    return target


def bits(kept: dict) -> dict[str, object]:
    """Everything in a checkpoint that was fitted, and every weight, except hashes of files and ids."""
    fitted = {
        k: v for k, v in unpack(kept["hyper_parameters"]["fitted"]).items() if k not in ("hashes", "patients", "cohort")
    }
    weights = {name: values.numpy().tobytes() for name, values in kept["state_dict"].items()}
    hparams = {k: kept["hyper_parameters"][k] for k in ("genes", "programs", "task")}
    return {"fitted": fitted, "weights": weights, "hparams": hparams}


@pytest.mark.parametrize(
    "rule", [{"preset": "released_code"}, {"most_variable": 0.3}], ids=lambda rule: next(iter(rule))
)
def test_test_patients_affect_no_fitted_number_and_no_weight(rule, tmp_path):
    home = hospital(tmp_path / "home", "a")
    (tmp_path / "splits").mkdir()
    ids = list(pd.read_csv(home / "clinical.csv")["patient_id"])
    parts = {"train": ids[:34], "val": ids[34:45], "test": ids[45:]}
    columns = {part: pd.Series(patients) for part, patients in parts.items()}
    pd.DataFrame(columns).to_csv(tmp_path / "splits" / "splits_0.csv", index=False)
    common = {"split": str(tmp_path / "splits"), "gene_sets": rule, "name": "home", "batch_size": 8}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        runs = {"base": home}
        runs["unseen"] = spoil(home, parts["test"], tmp_path / "unseen")
        runs["validation"] = spoil(home, parts["val"], tmp_path / "validation")
        runs["seen"] = spoil(home, parts["train"][:3], tmp_path / "seen")
        kept = {name: fit(name, section(folder) | common, max_epochs=2) for name, folder in runs.items()}
    finally:
        torch.set_num_threads(threads)
    base, unseen, seen = (bits(kept[name]) for name in ("base", "unseen", "seen"))
    assert base == unseen
    assert bits(kept["validation"])["hparams"]["genes"] == base["hparams"]["genes"]
    assert base["weights"] != seen["weights"]  # the comparison can fail
    assert base["fitted"] != seen["fitted"]
    genes = unpack(kept["base"]["hyper_parameters"]["genes"])
    numbers = {s: len(names) for s, names in genes.items()}
    wanted = {s: int(0.3 * len(set(GENES) & set(genes_of(SETS[s]))) + 0.5) for s in SETS}
    assert numbers == (wanted if "most_variable" in rule else {"tumor": 59, "tme": 361})
    assert genes != unpack(kept["seen"]["hyper_parameters"]["genes"])
    assert unpack(kept["base"]["hyper_parameters"]["fitted"])["gene_choice"] == ", ".join(
        f"{key}: {value}" for key, value in rule.items()
    )
