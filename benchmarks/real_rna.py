"""RNA alone on real patients: TCGA-LUAD and TCGA-GBMLGG with `dmml crossval`, compared with models written by hand.

Each part is one cross-validation or several. Folds that an earlier run finished in --work are kept, and parts that are
not run keep their results on the page.

    python benchmarks/real_rna.py --data ../shared/data [--part luad|baselines|dealt|permuted|months|survival|diagnosis|grade] [--out docs/results]

`luad`: the published folds, three seeds. `baselines`: the same with every model that RNA and covariates allow, timed.
`dealt`: three other random folds, two seeds. `permuted`: twenty times with outcomes permuted among the patients, so that
nothing can be learned. `months`: the same outcome as days with 1 = died, and as months with 1 = censored.
`survival`, `diagnosis`, `grade`: GBMLGG on its published folds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import real_rna_by_hand as by_hand
import yaml
from real_rna_cohorts import MCAT, PORPOISE, config, dealt_anew, gbmlgg_clinical, luad_both, luad_clinical
from real_rna_page import page
from tqdm import tqdm

from dmml.__main__ import main as dmml
from dmml._version import __version__

PERMUTATIONS = 20
OUTCOME = ["os_days", "os_event"]
PLAIN = "teacher,rna_linear"
CLINICAL = "teacher,rna_linear,clinical"
BY_HAND = {
    "Cox on 10 components": (3.0, 10, 0.0),
    "ridge Cox on 60 components": (3.0, 60, 0.5),
    "the same, z-scores as they are": (np.inf, 60, 0.5),
}
"""Cox models of GBMLGG: clipping of z-scores, components, penalty. The penalty was chosen on the test folds (0.1 to 2 give
0.83 and 0.79–0.80), so these rows explain a result but are no fair comparison."""


def crossval(folder: Path, content: dict[str, Any], clinical: pd.DataFrame, *options: str) -> dict[str, Any]:
    """Run `dmml crossval` in a folder, or continue an earlier run.

    Args:
        folder: Folder of the clinical table, the config and the results.
        content: The config; its clinical table is `folder / "clinical.csv"`.
        clinical: The table.
        options: Further options of the command.

    Returns:
        `crossval.json`.
    """
    out = folder / "crossval"
    if not (out / "crossval.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        clinical.to_csv(folder / "clinical.csv", index=False)
        (folder / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()):
            code = dmml(["crossval", "--config", str(folder / "config.yaml"), "--out", str(out), *options])
        if code:
            raise SystemExit(f"{folder}: dmml crossval ended with {code}")
    return json.loads((out / "crossval.json").read_text(encoding="utf-8"))


def luad(work: Path, data: Path) -> dict[str, Any]:
    return {"luad": luad_fit(work / "luad", data, "--models", CLINICAL, "--seeds", "3")} | {
        "luad by hand": by_hand.cox(
            by_hand.expression(data / MCAT), luad_outcome(luad_clinical(data)), luad_folds(data)
        )
    }


def baselines(work: Path, data: Path) -> dict[str, Any]:
    started = time.perf_counter()
    result = luad_fit(work / f"baselines-{int(time.time())}", data, "--jobs", "2")
    return {"baselines": result, "baselines seconds": time.perf_counter() - started}


def dealt(work: Path, data: Path) -> dict[str, Any]:
    split = {"folds": 5, "stratify": True, "seed": 0}
    words = ("--models", CLINICAL, "--repeats", "3", "--seeds", "2")
    return {"dealt": luad_fit(work / "dealt", data, *words, split=split)}


def permuted(work: Path, data: Path) -> dict[str, Any]:
    genes, folds, table = by_hand.expression(data / MCAT), luad_folds(data), luad_clinical(data)
    rows = []
    for i in tqdm(range(PERMUTATIONS), desc="permutations"):
        anew = dealt_anew(table, OUTCOME, i)
        result = luad_fit(work / "permuted" / str(i), data, "--models", PLAIN, clinical=anew)
        row = {name: result["models"][name]["c_index"]["mean"] for name in PLAIN.split(",")}
        rows.append(row | {"by hand": float(np.mean(by_hand.cox(genes, luad_outcome(anew), folds)))})
    return {"permuted": rows}


def months(work: Path, data: Path) -> dict[str, Any]:
    table = luad_both(data)
    forms = {
        "days": {"time": "os_days", "event": "os_event", "unit": "days"},
        "months": {"time": "survival_months", "censored": "censorship", "unit": "months"},
    }
    return {
        f"in {name}": luad_fit(work / name, data, "--models", "rna_linear,clinical", clinical=table, outcome=outcome)
        for name, outcome in forms.items()
    }


def survival(work: Path, data: Path) -> dict[str, Any]:
    table = gbmlgg_clinical(data)
    result = gbmlgg_fit(work, data, "survival", "--models", CLINICAL, "--seeds", "3")
    outcome = table.set_index("patient_id")
    outcome = pd.DataFrame({"time": outcome["survival_months"], "event": 1 - outcome["censorship"]})
    by = {
        name: by_hand.cox(by_hand.expression(data / PORPOISE, clip), outcome, gbmlgg_folds(data), n, penalty)
        for name, (clip, n, penalty) in BY_HAND.items()
    }
    rows = pd.read_csv(work / "survival" / "crossval" / "oof_predictions.csv")
    return {"survival": result, "within grade": within(rows, table.set_index("patient_id")["grade"])} | {
        "survival by hand": by
    }


def classified(what: str) -> Callable[[Path, Path], dict[str, Any]]:
    def part(work: Path, data: Path) -> dict[str, Any]:
        result = gbmlgg_fit(work, data, what, "--models", PLAIN, "--seeds", "3")
        label = gbmlgg_clinical(data).set_index("patient_id")[what]
        by_hand_accuracy = by_hand.logistic(by_hand.expression(data / PORPOISE), label, gbmlgg_folds(data))
        return {what: result, f"{what} by hand": by_hand_accuracy}

    return part


def within(rows: pd.DataFrame, grade: pd.Series) -> dict[str, dict[str, float]]:
    """{model: {grade: concordance}} over pairs of one grade, fold and seed; and the `events` of each grade."""
    from dmml.evaluation.statistics.weighted import harrell_pairs

    rows = rows.assign(grade=rows["patient_id"].map(grade)).dropna(subset=["grade", "time", "event"])
    concordances: dict[str, dict[str, float]] = {}
    for (model, level), group in rows.groupby(["model", "grade"]):
        credit = comparable = 0.0
        for _, part in group.groupby(["repeat", "fold", "seed"]):
            counted, earned = harrell_pairs(part["time"], part["event"], part["risk"]).block(slice(None))
            credit, comparable = credit + earned.sum(), comparable + counted.sum()
        concordances.setdefault(str(model), {})[str(level)] = float(credit / comparable)
    first = rows[rows["model"] == rows["model"].iloc[0]].drop_duplicates("patient_id")
    return concordances | {"events": first.groupby("grade")["event"].sum().to_dict()}


def luad_fit(folder: Path, data: Path, *words: str, clinical: pd.DataFrame | None = None, **changed: Any) -> dict:
    table = luad_clinical(data) if clinical is None else clinical
    return crossval(folder, config("luad_rna", data, folder / "clinical.csv", **changed), table, *words)


def gbmlgg_fit(work: Path, data: Path, what: str, *words: str) -> dict[str, Any]:
    folder = work / what
    return crossval(folder, config(f"gbmlgg_{what}", data, folder / "clinical.csv"), gbmlgg_clinical(data), *words)


def luad_outcome(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_index("patient_id")[OUTCOME].set_axis(["time", "event"], axis=1)


def luad_folds(data: Path) -> list[tuple[list[str], list[str]]]:
    return by_hand.folds(data / "tcga_luad" / "splits_5fold")


def gbmlgg_folds(data: Path) -> list[tuple[list[str], list[str]]]:
    return by_hand.folds(data / "tcga_gbmlgg" / "splits_5fold")


KEYS = {
    "luad": ("luad", "luad by hand"),
    "baselines": ("baselines", "baselines seconds"),
    "dealt": ("dealt",),
    "permuted": ("permuted",),
    "months": ("in days", "in months"),
    "survival": ("survival", "within grade", "survival by hand"),
    "diagnosis": ("diagnosis", "diagnosis by hand"),
    "grade": ("grade", "grade by hand"),
}
"""Keys of the record that each part writes; other keys are removed"""
PARTS = {
    "luad": luad,
    "baselines": baselines,
    "dealt": dealt,
    "permuted": permuted,
    "months": months,
    "survival": survival,
    "diagnosis": classified("diagnosis"),
    "grade": classified("grade"),
}


def merged(record: dict[str, Any], name: str, results: dict[str, Any]) -> dict[str, Any]:
    """The record with the results of a part and their origin, without keys that no part writes any more."""
    made = {**record.get("made", {}), name: made_by()}
    written_keys = {key for keys in KEYS.values() for key in keys}
    return {key: value for key, value in (record | results).items() if key in written_keys} | {"made": made}


def made_by() -> dict[str, str]:
    """Version of dmml, date, and commit if there is one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("git") else None
    made = {"dmml": __version__, "date": datetime.now(UTC).date().isoformat()}
    return made | ({"commit": commit.stdout.strip()} if commit and commit.returncode == 0 else {})


def main(argv: list[str] | None = None) -> None:
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of tcga_luad/ and tcga_gbmlgg/")
    parser.add_argument("--part", choices=PARTS, action="append", help="may be repeated (default: all)")
    parser.add_argument("--work", type=Path, default=Path("runs/real_rna"), help="finished fits are kept here")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args(argv)
    record = args.out / "real_rna.json"
    for name in args.part or PARTS:
        part_results = PARTS[name](args.work.resolve(), args.data.resolve())
        # Another part may have been written meanwhile.
        results = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        results = merged(results, name, json.loads(json.dumps(part_results, default=float)))
        args.out.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (args.out / "real_rna.md").write_text(page(results), encoding="utf-8")
    print(page(json.loads(record.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
