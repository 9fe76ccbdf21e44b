"""Where results come from: counts of patients, records of run and test, and the commands to reproduce them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from dmml.evaluation.evaluation_result import Evaluation

MAX_CONFIG_LENGTH = 20_000
"""Maximum number of characters of a config on the page."""
MAX_VALUE_LENGTH = 200
"""Maximum number of characters of a value on the page."""
_CONTEXT_KEYS = (
    "checkpoint",
    "training_cohort",
    "n_training",
    "median_risk",
    "edges",
    "end",
    "horizons",
    "created",
    "versions",
)


def patient_counts(test: Evaluation) -> list[tuple[str, str]]:
    """Numbers of patients predicted, evaluated, with RNA and with tissue, then the counts recorded by the test."""
    n = len(test.predictions)
    rows = [("patients predicted", str(n)), ("with known outcome, evaluated", f"{len(test.with_outcome)} of {n}")]
    if test.endpoint.counts_events and len(test.with_outcome):
        rows.append(("events among them", str(int((test.with_outcome["event"] > 0).sum()))))
        rows.append(("median follow-up or time to event", f"{test.with_outcome['time'].median():.0f} days"))
    if (with_rna := test.count("has_expression")) is not None:
        note = "; not used by the student" if test.model == "student" else ""
        rows.append(("with RNA", f"{with_rna} of {n}{note}"))
    for column in test.predictions:
        if column.startswith("n_tokens_"):
            tiles = test.predictions[column]
            magnification = column.removeprefix("n_tokens_")
            median = f", median {tiles[tiles > 0].median():.0f} tiles" if (tiles > 0).any() else ""
            rows.append((f"with tissue at {magnification}", f"{test.count(column)} of {n}{median}"))
    for key in ("counts", "gene_coverage"):
        if (value := test.context.get(key)) is not None:
            rows += flat(value, "" if key == "counts" else key)
    return rows


def provenance(test: Evaluation) -> list[tuple[str, str]]:
    """(name, value) of every record about data, seeds and versions, of the run and of the test."""
    rows = [("run folder", str(test.run_folder)), ("test folder", str(test.folder))]
    for key in _CONTEXT_KEYS:
        if (value := test.context.get(key)) is not None:
            rows += flat(value, key)
    path = test.run_folder / "provenance.json"
    if path.is_file():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            rows += flat({key: value for key, value in record.items() if key != "flow"}, "run")
        except ValueError:
            rows.append(("provenance.json", "not readable"))
    return [
        (name, value if len(value) <= MAX_VALUE_LENGTH else value[:MAX_VALUE_LENGTH] + " …") for name, value in rows
    ]


def configuration(test: Evaluation) -> str:
    """Content of the run's `config.yaml`; empty if there is none."""
    path = test.run_folder / "config.yaml"
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text if len(text) <= MAX_CONFIG_LENGTH else text[:MAX_CONFIG_LENGTH] + "\n…"


def commands(tests: list[Evaluation], user_plots: Sequence[str] = ()) -> list[str]:
    """Commands that reproduce this page; the fit writes to a folder next to the finished run, which stays untouched.

    Args:
        tests: The tests of the page.
        user_plots: Names of the user's plots, `module:function`.
    """
    steps = []
    for test in tests:
        if (config := test.run_folder / "config.yaml").is_file():
            fit = ("dmml", "fit", "--config", str(config), "--trainer.default_root_dir", f"{test.run_folder}_again")
            steps.append(shlex.join(fit))
        if command := test.context.get("command"):
            steps.append(str(command))
    folders = dict.fromkeys(str(_reported_folder(test)) for test in tests)
    options = [word for name in user_plots for word in ("--plot", name)]
    return [*dict.fromkeys(steps), shlex.join(["dmml", "report", *folders, *options])]


def _reported_folder(test: Evaluation) -> Path:
    """Folder by which `dmml report` finds a test: the one that contains `test/`, usually the run itself."""
    return test.folder.parent.parent if test.folder.parent.name == "test" else test.run_folder


def flat(value: object, name: str) -> list[tuple[str, str]]:
    """Flatten nested dictionaries to (name, text) rows, with the keys of all levels joined by commas; lists as text."""
    if isinstance(value, dict):
        return [row for key, part in value.items() for row in flat(part, f"{name}, {key}" if name else str(key))]
    if isinstance(value, float):
        text = f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    elif isinstance(value, list):
        text = ", ".join(flat(part, "")[0][1] if not isinstance(part, dict | list) else "…" for part in value)
    else:
        text = "none" if value is None else str(value)
    return [(name.replace("_", " "), text)]
