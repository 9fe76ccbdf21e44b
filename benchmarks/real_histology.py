"""Real histology as vectors of slides: students compared with ridge models and gated ABMIL.

Cohorts are prepared with `dmml features import` and fitted with `dmml crossval`, fold by fold. Folds that an earlier run
finished in --work are kept, and parts that are not run keep their results on the page.

    python benchmarks/real_histology.py --data ../shared/data --out docs/results
        [--part luad|nuclear|hancock|oropharynx|musk1] [--folds 0 1 …] [--ridge-only]

`luad`: tissue areas and cells of TCGA-LUAD with RNA, published folds. `nuclear`: the same with the shapes of nuclei (needs
openpyxl). `hancock`, `oropharynx`: p16 of head and neck cancer. `musk1`: molecules, ten folds, five times.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import real_histology_by_hand as by_hand
import real_rna_by_hand as rna_by_hand
from paired_intervals import figures
from real_histology_cohorts import COHORTS, MCAT, CohortFiles
from real_histology_page import page
from real_rna import made_by

from dmml.__main__ import main as dmml
from dmml.cohort.gene_sets.gene_sets import read_gene_sets
from dmml.store import FeatureStore

PROGRAMS = ("ESTIMATE_IMMUNE", "HALLMARK_G2M_CHECKPOINT", "ESTIMATE_STROMAL")
PAIRS = [
    ("student", "student_undistilled"),
    ("student", "ridge"),
    ("student", "histology_abmil"),
    ("student_undistilled", "ridge"),
    ("student_undistilled", "histology_abmil"),
    ("teacher", "rna_linear"),
]


def run_part(name: str, work: Path, data: Path, folds: list[int] | None, ridge_only: bool) -> dict[str, Any]:
    """Fit the missing folds of one cohort, and evaluate all finished ones.

    Returns:
        Number of finished `folds`, and metrics by predicted outcome.
    """
    cohort = COHORTS[name](work, data)
    config, student = cohort.write()
    dealt = cohort.folds()
    if not ridge_only:
        fit(cohort, config, student, range(len(dealt[0])) if folds is None else folds)
    table = cohort.vectors()
    means = by_hand.one_per_patient(table)
    results: dict[str, Any] = {
        "folds": len(finished(cohort)),
        "of": len(dealt[0]),
        "features": FeatureStore(cohort.store).n_features,
    }
    results["ridge features"] = means.shape[1]
    if cohort.task == "Survival":
        results["survival"] = survival(cohort, means, dealt[0])
        results["programs"] = programs(cohort, means, dealt[0], data, config if student is None else student)
    else:
        results["classes"] = classes(cohort, means, dealt)
    return results


def fit(cohort: CohortFiles, config: Path, student: Path | None, folds: Iterable[int]) -> None:
    """Cross-validate the networks of some folds, and write the report when all are finished."""
    words = ["crossval", "--config", str(config), "--out", str(cohort.folder / "crossval")]
    words += ["--student", str(student)] if student else []
    words += ["--models", ",".join(cohort.models), "--repeats", str(cohort.repeats)]
    for fold in folds:
        quietly([*words, "--only-fold", str(fold)])
    if len(finished(cohort)) == len(cohort.folds()[0]):
        quietly([*words, "--collect"])


def quietly(words: list[str]) -> None:
    """Run a command of dmml without its output; exit if it fails."""
    print("dmml", *words, flush=True)
    with contextlib.redirect_stdout(io.StringIO()):
        code = dmml(words)
    if code:
        raise SystemExit(code)


def finished(cohort: CohortFiles) -> list[int]:
    """Folds in which every model of every repeat is finished."""
    repeats = [cohort.folder / "crossval" / (f"repeat_{r}" if r else "") for r in range(cohort.repeats)]
    return [
        k
        for k in range(len(cohort.folds()[0]))
        if all((place / f"fold_{k}" / name / "done.json").is_file() for place in repeats for name in cohort.models)
    ]


def predicted(cohort: CohortFiles, column: str, repeat: int = 0) -> dict[str, pd.Series]:
    """{model: out-of-fold predictions by patient} of the finished folds of a repeat; a patient without slides is left out."""
    place = cohort.folder / "crossval" / (f"repeat_{repeat}" if repeat else "")
    predictions: dict[str, pd.Series] = {}
    for name in cohort.models:
        tables = [
            pd.read_csv(place / f"fold_{k}" / name / "predictions.csv", dtype={"patient_id": str})
            for k in finished(cohort)
        ]
        if tables:
            predictions[name] = pd.concat(tables).set_index("patient_id")[column]
    return predictions


def fold_of(dealt: by_hand.Folds) -> pd.Series:
    """Fold that tests each patient."""
    return pd.Series({patient: k for k, (_, test) in enumerate(dealt) for patient in test})


def survival(cohort: CohortFiles, means: pd.DataFrame, dealt: by_hand.Folds) -> dict[str, Any]:
    """Concordance of the pairs within folds."""
    columns = [cohort.outcome[name] for name in ("time", "event")]
    outcome = (
        cohort.clinical.drop_duplicates("patient_id")
        .set_index("patient_id")[columns]
        .set_axis(["time", "event"], axis=1)
    )
    predictions = {"ridge": by_hand.ridge_cox(means, outcome, dealt)} | predicted(cohort, "risk")
    return evaluated(predictions, outcome.assign(fold=fold_of(dealt)).dropna(), "concordance")


def evaluated(predictions: dict[str, pd.Series], outcome: pd.DataFrame, score: str) -> dict[str, Any]:
    """Metrics over the patients whom all models predict, and of ridge over all its patients if these are more."""
    metrics = figures(predictions, outcome, score, PAIRS)
    whole = figures({"ridge": predictions["ridge"]}, outcome, score, [])
    return metrics | ({"ridge alone": whole} if whole["patients"] > metrics["patients"] else {})


def programs(
    cohort: CohortFiles, means: pd.DataFrame, dealt: by_hand.Folds, data: Path, student: Path
) -> dict[str, Any]:
    """Spearman's correlation of predicted with measured programs, each patient predicted by the fold that tests the patient."""
    genes = rna_by_hand.expression(data / MCAT)
    genes.columns = [name.removesuffix("_rnaseq") for name in genes]
    tested = [tested_programs(cohort, student, k) for k in finished(cohort)]
    by_program = {}
    for subspace, sets in read_gene_sets(None).items():
        for name in set(sets) & set(PROGRAMS):
            measured = genes[[gene for gene in sets[name] if gene in genes]].mean(axis=1)
            predictions = {"ridge": by_hand.ridge(means, measured, dealt)}
            if tested:
                predictions["student"] = pd.concat(tested)[f"{subspace}|20x|{name}"]
            outcome = pd.DataFrame({"measured": measured, "fold": fold_of(dealt)}).dropna()
            by_program[name] = evaluated(predictions, outcome, "spearman")
    return {name: by_program[name] for name in PROGRAMS}


def tested_programs(cohort: CohortFiles, student: Path, fold: int) -> pd.DataFrame:
    """Programs that a fold's student predicts for its test patients, by `dmml test`."""
    root = cohort.folder / "tests" / f"fold_{fold}"
    path = root / "test" / f"{cohort.folder.name}_fold{fold}" / "programs.csv"
    if not path.is_file():
        checkpoint = cohort.folder / "crossval" / f"fold_{fold}" / "student" / "checkpoints" / "best.ckpt"
        words = [
            "test",
            "--config",
            str(student),
            "--ckpt_path",
            str(checkpoint),
            "--data.fold",
            str(fold),
            "--overwrite",
        ]
        quietly([*words, "--trainer.default_root_dir", str(root)])
    return pd.read_csv(path, dtype={"patient_id": str}).set_index("patient_id")


def classes(cohort: CohortFiles, means: pd.DataFrame, dealt: list[by_hand.Folds]) -> dict[str, Any]:
    """AUC of the pairs within folds, and accuracy, over all repeats."""
    label = cohort.clinical.set_index("patient_id")[cohort.outcome["label"]]
    outcomes, parts = [], []
    for repeat, folds in enumerate(dealt):
        observed = pd.DataFrame({"label": (label == cohort.positive) * 1.0, "fold": fold_of(folds)}).dropna()
        predictions = {"ridge": by_hand.ridge_logistic(means, label, folds)}
        predictions |= predicted(cohort, f"prob_{cohort.positive}", repeat)
        outcomes.append(observed.assign(patient=observed.index, fold=f"{repeat}|" + observed["fold"].astype(str)))
        parts.append(
            {name: values.rename(lambda patient, r=repeat: f"{r}|{patient}") for name, values in predictions.items()}
        )
        outcomes[-1].index = [f"{repeat}|{patient}" for patient in observed.index]
    predictions = {name: pd.concat([part[name] for part in parts]) for name in parts[0]}
    outcome = pd.concat(outcomes)
    outcome = outcome if len(dealt) > 1 else outcome.drop(columns="patient")
    return {score: evaluated(predictions, outcome, score) for score in ("auc", "accuracy")}


def main(argv: list[str] | None = None) -> None:
    """Fit, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of tcga_luad/, tcga_luad_histology/, hancock/, mil/"
    )
    parser.add_argument("--part", choices=COHORTS, action="append", help="may be repeated (default: all)")
    parser.add_argument("--folds", type=int, nargs="+", help="folds whose networks are fitted (default: all)")
    parser.add_argument("--ridge-only", action="store_true", help="fit no network; judge those that there are")
    parser.add_argument("--work", type=Path, default=Path("runs/real_histology"), help="finished fits are kept here")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args(argv)
    record = args.out / "real_histology.json"
    for name in args.part or COHORTS:
        if name == "nuclear" and importlib.util.find_spec("openpyxl") is None:
            print("nuclear: not measured, since workbooks need a package: pip install openpyxl")
            continue
        part_results = run_part(name, args.work.resolve(), args.data.resolve(), args.folds, args.ridge_only)
        results = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        results[name] = json.loads(json.dumps(part_results, default=_plain)) | {"made": made_by()}
        args.out.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (args.out / "real_histology.md").write_text(page(results), encoding="utf-8")
    print((args.out / "real_histology.md").read_text(encoding="utf-8"))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


if __name__ == "__main__":
    main()
