"""The tables of the paper, row by row, beside the released code's numbers and those of your own runs.

The paper's and the released code's numbers stand in `paper_tables.json` as facts; this script never changes them. Every
run that is named fills rows of the page, and rows without a run stay empty.

    python benchmarks/paper_tables.py [--crossval TASK=FOLDER …] [--row KEY:TASK=FOLDER …] [--external KEY=FOLDER …] [--out docs/results]

`--crossval diagnosis=runs/paper_diagnosis_crossval` names the folder of a `dmml crossval` and fills the rows of all its
models: teacher, distilled student, student, and the baselines. `--row cgc:diagnosis=FOLDER` names the cross-validation of
an ablation for one row. `--external teacher=FOLDER` names the folder of a `dmml test` on an external cohort.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from paper_tables_page import page
from paper_tables_rows import MAIN, PAPER_METRICS, TASKS, Counterpart, counterparts

from dmml.errors import InputError
from dmml.evaluation.crossval.results import CrossvalResult, read_crossval
from dmml.evaluation.result_folders import read_json

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "results"


class Result(NamedTuple):
    """One metric of a run, in per cent (a hazard ratio as it is): over folds as the paper computes it, and over patients as dmml does.

    `mean` and `sd` are None for a single test, `low` and `high` where the interval is undefined.
    """

    mean: float | None
    sd: float | None
    value: float | None
    low: float | None
    high: float | None


Results = dict[tuple[str, str], Result]
"""{(key of the row, "<task> <metric>"): result}"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crossval", action="append", default=[], metavar="TASK=FOLDER")
    parser.add_argument("--row", action="append", default=[], metavar="KEY:TASK=FOLDER")
    parser.add_argument("--external", action="append", default=[], metavar="KEY=FOLDER")
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args(arguments)
    try:
        results, runs = collect(args.crossval, args.row, args.external)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    words = [
        f"--{name} {shlex.quote(item)}" for name in ("crossval", "row", "external") for item in getattr(args, name)
    ]
    command = " ".join(["python benchmarks/paper_tables.py", *words])
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "paper_tables.md").write_text(page(load_facts(), results, runs, command), encoding="utf-8")
    print(args.out / "paper_tables.md")
    return 0


def collect(crossvals: Iterable[str], rows: Iterable[str], external: Iterable[str]) -> tuple[Results, list[str]]:
    """Read every named run.

    Args:
        crossvals: Values of `--crossval`.
        rows: Values of `--row`.
        external: Values of `--external`.

    Returns:
        The results, and one line about each run.

    Raises:
        InputError: A value is malformed, or a folder does not hold what it should.
    """
    results: Results = {}
    runs: list[str] = []
    for item in crossvals:
        task, folder = _split(item, "--crossval", "TASK=FOLDER")
        crossval = _read_crossval(folder, _checked_task(task, item))
        for each in MAIN.values():
            if each.model in crossval.models:
                results |= _of_crossval(crossval, task, each)
        runs.append(_line(task, crossval))
    for item in rows:
        name, folder = _split(item, "--row", "KEY:TASK=FOLDER")
        key, _, task = name.rpartition(":")
        crossval = _read_crossval(folder, _checked_task(task, item))
        each = _counterpart(key, item)
        if each.model not in crossval.models:
            raise InputError(f"--row {item}: {folder} has no model {each.model}; name another cross-validation")
        results |= _of_crossval(crossval, task, each)
        runs.append(f"{_line(task, crossval)}, row `{key}`")
    for item in external:
        key, folder = _split(item, "--external", "KEY=FOLDER")
        metrics = read_json(folder / "metrics.json")
        entry = metrics.get("c_index")
        if not entry:
            raise InputError(f"--external {item}: {folder}/metrics.json has no c_index; name a test of survival")
        ends = (_percent(entry[name]) for name in ("value", "low", "high"))
        results[_counterpart(key, item).key, "survival c_index_external"] = Result(None, None, *ends)
        runs.append(f"external: `{folder}`, {entry['n']} patients, {entry['events']} events, row `{key}`")
    return results, runs


def _of_crossval(crossval: CrossvalResult, task: str, row: Counterpart) -> Results:
    """Return the results of one model of a cross-validation."""
    results: Results = {}
    for metric, (_, name) in PAPER_METRICS.items():
        entry = crossval.models[row.model].get(name)
        if entry is None or (task == "survival") != (metric == "c_index"):
            continue
        pooled = entry["pooled"]
        ends = (_percent(pooled[end]) for end in ("value", "low", "high"))
        results[row.key, f"{task} {metric}"] = Result(*_over_folds(crossval, entry["folds"]), *ends)
    ratio = (crossval.content.get("hazard_ratio") or {}).get(row.model)
    if ratio is not None:
        results[row.key, f"{task} hazard_ratio"] = Result(None, None, *(ratio[end] for end in ("value", "low", "high")))
    return results


def _over_folds(crossval: CrossvalResult, values: list[float | None]) -> tuple[float | None, float | None]:
    """Return mean and population SD over folds in per cent, as the paper states them; seeds are averaged first."""
    by_fold: dict[tuple[int, int], list[float]] = {}
    for fit, value in zip(crossval.fits, values, strict=True):
        if value is not None:
            by_fold.setdefault((fit["repeat"], fit["fold"]), []).append(value)
    means = [float(np.mean(of_seeds)) for of_seeds in by_fold.values()]
    return (100 * float(np.mean(means)), 100 * float(np.std(means))) if means else (None, None)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _line(task: str, crossval: CrossvalResult) -> str:
    return f"{task}: `{crossval.folder}`, {crossval.content['patients']} patients, {crossval.n_folds} folds"


def _split(item: str, option: str, form: str) -> tuple[str, Path]:
    name, separator, folder = item.partition("=")
    if not (name and separator and folder):
        raise InputError(f"{option} {item}: give it as {form}")
    return name, Path(folder)


def _checked_task(task: str, item: str) -> str:
    if task not in TASKS:
        raise InputError(f"{item}: there is no task {task!r}; use {', '.join(TASKS)}")
    return task


def _read_crossval(folder: Path, task: str) -> CrossvalResult:
    crossval = read_crossval(folder)
    if (crossval.metric == "c_index") != (task == "survival"):
        raise InputError(f"{folder}: its primary metric is {crossval.metric}, so it cannot fill rows of {task}")
    return crossval


def _counterpart(key: str, item: str) -> Counterpart:
    keys: Mapping[str, Counterpart] = counterparts()
    if key not in keys:
        raise InputError(f"{item}: there is no row {key!r}; use {', '.join(keys)}")
    return keys[key]


def load_facts() -> dict[str, Any]:
    """Return the content of `paper_tables.json`."""
    return json.loads((FOLDER / "paper_tables.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    raise SystemExit(main())
