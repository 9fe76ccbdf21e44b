"""Several tests → one self-contained HTML page; one test folder → its metrics.json, plots/ and report.html."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from dmml._version import __version__
from dmml.evaluation import words
from dmml.evaluation.attention import AttentionSlide, attention_slides
from dmml.evaluation.comparison import Pair, by_cohort, paired
from dmml.evaluation.facts import attention_facts, commands, configuration, patient_counts, provenance
from dmml.evaluation.figures import models_picture, pictures
from dmml.evaluation.pages import page_environment
from dmml.evaluation.plots import Picture
from dmml.evaluation.runs import find_tests
from dmml.evaluation.survival_plots import p_words
from dmml.evaluation.tested import Tested, load_test
from dmml.evaluation.training_curves import training_pictures

MAX_SLIDES = 4
"""Slides with attention maps a test: enough to see a habit, and the page stays small."""


def write_evaluation(folder: str | Path) -> dict[str, dict]:
    """Judge a test folder: reads predictions.csv and context.json, writes metrics.json, plots/ and report.html.

    Args:
        folder: `runs/<run>/test/<cohort>`.

    Returns:
        What metrics.json holds.

    Raises:
        InputError: The folder or what it holds is unusable; nothing is written then.
    """
    [found] = find_tests([folder])
    test = load_test(found)
    drawn = pictures(test)
    slides = attention_slides(test.folder / "attention.npz")
    page = _page([test], {id(test): drawn}, {id(test): slides})
    plots = Path(tempfile.mkdtemp(prefix=".plots-", dir=test.folder))
    for picture in drawn:
        picture.save(plots)
    for slide in slides:
        for panel in slide.panels:
            (plots / f"{panel.name}.png").write_bytes(panel.png())
    plots.chmod(0o755)
    shutil.rmtree(test.folder / "plots", ignore_errors=True)
    plots.replace(test.folder / "plots")
    write_text(test.folder / "report.html", page)
    write_text(test.folder / "metrics.json", json.dumps(test.metrics, indent=2, allow_nan=False) + "\n")
    return test.metrics


def write_report(paths: Iterable[str | Path], out: str | Path | None = None) -> Path:
    """One page from one or several runs.

    Args:
        paths: Run folders, or single test folders.
        out: The page; default: report.html in the last of `paths`.

    Returns:
        Where it was written.

    Raises:
        InputError: A run is missing or not finished.
    """
    paths = [Path(path) for path in paths]
    tests = [load_test(found) for found in find_tests(paths)]
    out = Path(out) if out is not None else paths[-1] / "report.html"
    write_text(out, _page(tests, {}, {}))
    return out


def write_text(path: Path, text: str) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _page(tests: list[Tested], drawn: dict[int, list[Picture]], slides: dict[int, list[AttentionSlide]]) -> str:
    environment = page_environment(Path(__file__).parent)
    svg = _Inliner()
    cohorts = []
    for group in by_cohort(tests):
        pairs = paired(group)
        models = models_picture(group)
        sections = [_test(test, drawn.get(id(test)), slides.get(id(test)), svg) for test in group]
        cohorts.append(
            {
                "name": group[0].cohort,
                "summary": words.summary(group, pairs),
                "picture": svg(models) if models else (sections[0]["pictures"] or [None])[0],
                "pairs": [_pair(pair) for pair in pairs],
                "models": _models(group) if len(group) > 1 else [],
                "tests": sections,
                "lead_is_first": models is None,
            }
        )
    first = {test.run_folder.resolve(): test for test in reversed(tests)}
    return environment.get_template("report.html").render(
        title=f"{' and '.join(dict.fromkeys(test.run for test in tests))} on "
        f"{' and '.join(dict.fromkeys(test.cohort for test in tests))}",
        css=(Path(__file__).parent / "report.css").read_text(encoding="utf-8"),
        cohorts=cohorts,
        runs=[_run(test, svg) for test in reversed(first.values())],
        commands=commands(tests),
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


class _Inliner:
    """Turns pictures into what the template shows, with ids that no other picture on the page has."""

    def __init__(self):
        self._count = 0

    def __call__(self, picture: Picture) -> dict:
        from markupsafe import Markup

        self._count += 1
        # Markup is safe here: matplotlib escapes every text that it draws.
        svg = Markup(picture.inline_svg(f"f{self._count}"))
        return {"svg": svg, "title": picture.title, "caption": picture.caption, "alt": picture.alt}


def _test(test: Tested, drawn: list[Picture] | None, slides: list[AttentionSlide] | None, svg: _Inliner) -> dict:
    slides = attention_slides(test.folder / "attention.npz") if slides is None else slides
    return {
        "run": test.run,
        "model": words.model_words(test),
        "metrics": [_metric(name, entry) for name, entry in test.metrics.items()],
        "events": test.survival,
        "pictures": [svg(picture) for picture in (pictures(test) if drawn is None else drawn)],
        "classes": _classes(test),
        "slides": [_slide(slide) for slide in slides[:MAX_SLIDES] if slide.panels],
        "counts": patient_counts(test),
    }


def _metric(name: str, entry: dict) -> dict:
    label, hint = words.metric_name(name)
    notes = [entry.get("reason"), entry.get("note"), f"up to day {entry['tau']:.0f}" if "tau" in entry else None]
    interval = "—" if entry["value"] is not None else ""
    if entry["low"] is not None:
        # A dash between numbers of which one may be negative would read as a minus.
        between = "–" if entry["low"] >= 0 else " to "
        interval = f"{words.number(entry['low'], 3)}{between}{words.number(entry['high'], 3)}"
    return {
        "key": name,
        "name": label,
        "hint": "; ".join([hint] * (entry["value"] is not None) + [note for note in notes if note]),
        "value": words.number(entry["value"], 3),
        "interval": interval,
        "n": entry["n"],
        "events": "" if entry["events"] is None else entry["events"],
    }


def _models(group: list[Tested]) -> dict:
    names = [name for name in group[0].metrics if all(name in test.metrics for test in group)]
    rows = []
    for test in group:
        cells = [(words.number(test.metrics[name]["value"]), _short_interval(test.metrics[name])) for name in names]
        rows.append({"run": test.run, "model": test.model, "cells": cells})
    return {"names": [words.metric_name(name)[0] for name in names], "rows": rows}


def _short_interval(entry: dict) -> str:
    return "" if entry["low"] is None else f"{words.number(entry['low'])}–{words.number(entry['high'])}"


def _pair(pair: Pair) -> dict:
    difference = pair.difference
    return {
        "a": pair.a.run,
        "b": pair.b.run,
        "metric": words.metric_name(pair.a.primary)[0],
        "estimate": words.number(difference.estimate, 3),
        "interval": pair.refused or f"{words.number(difference.low, 3)} to {words.number(difference.high, 3)}",
        "p": p_words(pair.p_holm).removeprefix("= "),
        "primary": pair.primary,
        "n": pair.n,
    }


def _classes(test: Tested) -> list[dict]:
    if test.survival or test.known.empty:
        return []
    from dmml.evaluation.classification import per_class

    label, probability = test.labels
    rows = per_class(label, probability, test.classes).to_dict("records")
    shown = ("precision", "recall", "f1", "auc")
    return [{**row, **{name: words.number(row[name]) for name in shown}} for row in rows]


def _slide(slide: AttentionSlide) -> dict:
    panels = [
        {
            "title": panel.title,
            "caption": panel.caption,
            "uri": "data:image/jpeg;base64," + base64.b64encode(panel.jpeg()).decode(),
            "height": panel.pixels.shape[0],
            "width": panel.pixels.shape[1],
        }
        for panel in slide.panels
    ]
    return {"facts": attention_facts(slide.facts), "panels": panels}


def _run(test: Tested, svg: _Inliner) -> dict:
    curves, coordination = training_pictures(test.run_folder / "metrics.csv")
    return {
        "name": test.run,
        "curves": [svg(picture) for picture in curves],
        "coordination": [svg(picture) for picture in coordination],
        "provenance": provenance(test),
        "config": configuration(test),
    }
