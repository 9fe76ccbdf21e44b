"""Linear baselines of this checkout compared with those of another one and with models written by hand.

    git worktree add ../dmml_before COMMIT
    python benchmarks/linear_baselines.py --data ../shared/data --before ../dmml_before [--out docs/results]

Each checkout runs the same `dmml crossval --models rna_linear,clinical` on TCGA-LUAD (published folds, and folds that keep
sites whole), on TCGA-GBMLGG (published folds) and on a simulated cohort. Results that an earlier run finished in --work
are kept. Then codings of covariates and ways to choose a penalty are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import real_rna_by_hand as by_hand
import yaml
from linear_baselines_page import page
from linear_choices import choices
from real_rna_cohorts import MCAT, config, gbmlgg_clinical, luad_clinical

from dmml.evaluation.bootstrap import resamples, weighted_difference
from dmml.evaluation.statistics.pooled import FoldPredictions, pooled_metric

ROOT = Path(__file__).parent.parent
MODELS = "rna_linear,clinical"
SURVIVAL = {"time": "os_days", "event": "os_event", "unit": "days"}


def dmml(checkout: Path, *words: str) -> None:
    """Run a command of a checkout in its folder, where `python -m` looks first."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "dmml", *words]
    subprocess.run(command, check=True, cwd=checkout, env=environment, stdout=subprocess.DEVNULL)


def cohorts(work: Path, data: Path) -> dict[str, dict[str, Any]]:
    """Write the tables and folds of the cohorts; return {name: config}."""
    luad, gbmlgg, sites, simulated = (work / name for name in ("luad.csv", "gbmlgg.csv", "sites.csv", "simulated"))
    luad_clinical(data).to_csv(luad, index=False)
    gbmlgg_clinical(data).to_csv(gbmlgg, index=False)
    if not sites.is_file():
        words = ("--time", "os_days", "--event", "os_event", "--site", "site", "--out", str(sites))
        dmml(ROOT, "cohort", "split", "--clinical", str(luad), *words)
    if not simulated.is_dir():
        dmml(ROOT, "simulate", str(simulated), "--features-only", "--patients", "200", "--held-out", "4")
    drawn = simulated / "development"
    simulation = {"expression": str(drawn / "expression.parquet"), "split": {"folds": 5}, "outcome": SURVIVAL}
    configs = {
        "luad": config("luad_rna", data, luad),
        "luad_sites": config("luad_rna", data, luad, split=str(sites)),
        "gbmlgg": config("gbmlgg_survival", data, gbmlgg),
        "simulated": config("luad_rna", data, drawn / "clinical.csv", **simulation),
    }
    configs["simulated"]["data"]["init_args"]["name"] = "simulated"
    return configs


def crossval(checkout: Path, content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`crossval.json` of a checkout, and its out-of-fold predictions."""
    out = folder / "crossval"
    if not (out / "crossval.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        words = ("--config", str(folder / "config.yaml"), "--models", MODELS, "--out", str(out))
        dmml(checkout, "crossval", *words)
    rows = pd.read_csv(out / "oof_predictions.csv", dtype={"patient_id": str})
    return {"result": json.loads((out / "crossval.json").read_text(encoding="utf-8")), "rows": rows}


def differences(now: pd.DataFrame, before: pd.DataFrame) -> dict[str, dict[str, float]]:
    """{model: concordance now − before, with its 95 % interval over patients}."""
    observed = now.dropna(subset=["time", "event"])
    patients = observed.drop_duplicates("patient_id").set_index("patient_id")
    row_of = {patient: i for i, patient in enumerate(patients.index)}
    counts = resamples(len(patients), patients.groupby(["fold", "event"]).ngroup().to_numpy())

    def pooled(rows: pd.DataFrame) -> Any:
        folds = [part for _, part in rows.dropna(subset=["time", "event"]).groupby("fold")]
        return pooled_metric(
            "c_index", [FoldPredictions(part["patient_id"].map(row_of).to_numpy(), part) for part in folds]
        )

    return {
        model: weighted_difference(*(pooled(rows[rows["model"] == model]) for rows in (now, before)), counts)._asdict()
        for model in now["model"].unique()
    }


def models_by_hand(name: str, content: dict[str, Any], rows: pd.DataFrame, data: Path) -> dict[str, list[float]]:
    """{model: concordance of each fold}, on the folds in which the patients were tested."""
    if name == "gbmlgg":
        return {}
    rows = rows[rows["model"] == rows["model"].iloc[0]].drop_duplicates("patient_id").set_index("patient_id")
    outcome = rows[["time", "event"]]
    dealt = [
        (list(rows.index[rows["fold"] != k]), list(rows.index[rows["fold"] == k])) for k in sorted(set(rows["fold"]))
    ]
    section = content["data"]["init_args"]
    table = pd.read_csv(section["clinical"]).drop_duplicates("patient_id").set_index("patient_id")
    by_model = {"clinical": by_hand.clinical_cox(table, outcome, dealt)}
    if name.startswith("luad"):
        genes = by_hand.expression(data / MCAT)
        by_model["rna_linear"] = by_hand.cox(genes, outcome, dealt)
        by_model["rna_linear+clinical"] = by_hand.clinical_cox(table, outcome, dealt, genes)
    return by_model


def commit(checkout: Path) -> str:
    """Commit of a checkout, as `git describe` names it."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main(argv: list[str] | None = None) -> None:
    """Fit, compare, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of tcga_luad/ and tcga_gbmlgg/")
    parser.add_argument("--before", type=Path, required=True, help="another checkout of dmml")
    parser.add_argument("--work", type=Path, default=Path("runs/linear_baselines"), help="finished fits are kept here")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args(argv)
    work, data = args.work.resolve(), args.data.resolve()
    work.mkdir(parents=True, exist_ok=True)
    checkouts = {"before": args.before.resolve(), "now": ROOT.resolve()}
    commits = {label: commit(checkout) for label, checkout in checkouts.items()}
    record: dict[str, Any] = {"commits": commits, "cohorts": {}}
    for name, content in cohorts(work, data).items():
        results = {k: crossval(checkout, content, work / commits[k] / name) for k, checkout in checkouts.items()}
        record["cohorts"][name] = {label: one["result"] for label, one in results.items()} | {
            "difference": differences(results["now"]["rows"], results["before"]["rows"]),
            "by hand": models_by_hand(name, content, results["now"]["rows"], data),
        }
    tables = {name: work / f"{name}.csv" for name in ("luad", "gbmlgg")}
    record["choices"] = choices(data, tables, work / "sites.csv")
    record = json.loads(json.dumps(record, default=float))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "linear_baselines.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (args.out / "linear_baselines.md").write_text(page(record), encoding="utf-8")
    print(page(record))


if __name__ == "__main__":
    main()
