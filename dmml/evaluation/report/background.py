"""Background of the results: patient counts, missing data, provenance, and the commands to reproduce them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.report.formatting import horizon_name, number

CONFIG_CHARACTERS = 20_000
VALUE_CHARACTERS = 200


def patient_counts(test: Evaluation) -> list[tuple[str, str]]:
    """Numbers of patients predicted, evaluated, with RNA and with tissue, then the counts recorded by the test."""
    n = len(test.predictions)
    rows = [("patients predicted", str(n)), ("outcome known, so judged", f"{len(test.with_outcome)} of {n}")]
    if test.endpoint.counts_events and len(test.with_outcome):
        rows.append(("events among them", str(int((test.with_outcome["event"] > 0).sum()))))
        rows.append(("median follow-up or time to event", f"{test.with_outcome['time'].median():.0f} days"))
    if (with_rna := test.count("has_expression")) is not None:
        used = "; the student never reads it" if test.model == "student" else ""
        rows.append(("with RNA", f"{with_rna} of {n}{used}"))
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
    for key in (
        "checkpoint",
        "training_cohort",
        "n_training",
        "median_risk",
        "edges",
        "end",
        "horizons",
        "created",
        "versions",
    ):
        if (value := test.context.get(key)) is not None:
            rows += flat(value, key)
    path = test.run_folder / "provenance.json"
    if path.is_file():
        try:
            rows += flat(json.loads(path.read_text(encoding="utf-8")), "run")
        except ValueError:
            rows.append(("provenance.json", "not readable"))
    return [
        (name, value if len(value) <= VALUE_CHARACTERS else value[:VALUE_CHARACTERS] + " …") for name, value in rows
    ]


def configuration(test: Evaluation) -> str:
    """Content of the run's `config.yaml`; empty if there is none."""
    path = test.run_folder / "config.yaml"
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text if len(text) <= CONFIG_CHARACTERS else text[:CONFIG_CHARACTERS] + "\n…"


def commands(tests: list[Evaluation], plot_options: Sequence[str] = ()) -> list[str]:
    """Commands that reproduce this page; the fit writes to a folder next to the finished run, which stays untouched."""
    found = []
    for test in tests:
        if (config := test.run_folder / "config.yaml").is_file():
            words = ("dmml", "fit", "--config", str(config), "--trainer.default_root_dir", f"{test.run_folder}_again")
            found.append(shlex.join(words))
        if command := test.context.get("command"):
            found.append(str(command))
    runs = dict.fromkeys(str(_place(test)) for test in tests)
    report = ["dmml", "report", *runs, *(word for name in plot_options for word in ("--plot", name))]
    return [*dict.fromkeys(found), shlex.join(report)]


def _place(test: Evaluation) -> Path:
    """Folder by which `dmml report` finds a test: the one that contains `test/`, usually the run itself."""
    return test.folder.parent.parent if test.folder.parent.name == "test" else test.run_folder


def attention_facts(fact: dict) -> str:
    """Line of text about a slide: patient, slide, outcome, and the model's prediction."""
    fact = {key: value for key, value in fact.items() if value == value and value != ""}  # NaN means unknown
    parts = [f"patient {fact['patient_id']}"] if "patient_id" in fact else []
    if "slide_id" in fact and fact["slide_id"] != fact.get("patient_id"):
        parts.append(f"slide {fact['slide_id']}")
    if fact.get("risk") is not None:
        parts.append(f"risk {number(float(fact['risk']))}")
    if fact.get("time") is not None:
        happened = fact.get("event")
        state = "followed" if happened is None else "event after" if float(happened) > 0 else "event-free for"
        parts.append(f"{state} {_days(float(fact['time']))}")
    if fact.get("predicted") is not None:
        parts.append(f"predicted {fact['predicted']}")
    if fact.get("label") is not None:
        parts.append(f"true {fact['label']}")
    return ", ".join(parts)


def _days(days: float) -> str:
    return horizon_name(round(days)) if days < 730 else f"{days / 365.25:.1f} years"


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
