"""Writes the TRIPOD+AI table: for every item, what dmml fills in and where, and what an author must write."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dmml._version import __version__
from dmml.evaluation.report.formatting import number
from dmml.evaluation.report.text.metric_names import metric_name
from dmml.experiment.export.card.licences import encoder_licence
from dmml.experiment.export.card.model_card import counts_text, extraction_text, outcome_text
from dmml.experiment.export.card.model_record import ModelRecord, Tested
from dmml.store.encoder_identity import describe_stains

ITEMS = Path(__file__).with_name("tripod_ai.csv")
"""The items in dmml's own words: `number`, `section`, `requirement`, and what `dmml` fills in and the `author` must write"""
_HEADER = """# TRIPOD+AI: what is filled in, and what the author must write

The items are those of TRIPOD+AI (Collins et al., BMJ 2024;385:e078378), in dmml's own words; use the published checklist
for a submission. Files are those of the run, of its tests (`test/<cohort>/`) and of this folder.

"""


@dataclass(frozen=True)
class Item:
    """An item of the checklist.

    Attributes:
        number: Its number, such as 12a.
        section: Part of the report, and topic.
        requirement: What has to be reported.
        dmml: What dmml fills in, with where to find it; empty if nothing.
        author: What the author must write; empty if nothing.
    """

    number: str
    section: str
    requirement: str
    dmml: str
    author: str

    @property
    def filled_by(self) -> str:
        """Who fills in the item: dmml, the author, or both."""
        return "both" if self.dmml and self.author else "dmml" if self.dmml else "author"


def read_items(record: ModelRecord) -> list[Item]:
    """Read all items, with the model's record in what dmml fills in."""
    values = _values(record)
    with ITEMS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        Item(
            row["number"],
            row["section"],
            row["requirement"],
            row["dmml"].format_map(values),
            row["author"].format_map(values),
        )
        for row in rows
    ]


def tripod_table(record: ModelRecord) -> str:
    """Return the table as Markdown."""
    items = read_items(record)
    counts = {who: sum(item.filled_by == who for item in items) for who in ("dmml", "both", "author")}
    summary = (
        f"Of {len(items)} items, dmml fills in {counts['dmml']} and a part of {counts['both']}; {counts['author']} are left to "
        "the author alone.\n\n"
    )
    lines = [
        "| item | section | what to report | filled in by | dmml fills in | the author writes |",
        "|---|---|---|---|---|---|",
    ]
    for item in items:
        cells = (item.number, item.section, item.requirement, item.filled_by, item.dmml or "—", item.author or "—")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return _HEADER + summary + "\n".join(lines) + "\n"


def _values(record: ModelRecord) -> Mapping[str, str]:
    """Return the record that the texts of the items name."""
    encoder, fitted = record.encoder, record.fitted
    cohort = str(fitted.get("cohort") or "not on record")
    tested = "; ".join(_numbers(test) for test in record.tests) or "none of this checkpoint on record"
    fold = fitted.get("fold")
    sets = sum(map(len, record.programs.values()))
    return {
        "outcome": outcome_text(record.task),
        "cohorts": ", ".join([f"{cohort} (development)", *(f"{test.name} (evaluation)" for test in record.tests)]),
        "train": counts_text(record.counts("train")),
        "val": counts_text(record.counts("val")),
        "extraction": extraction_text(record.extraction) or "not on record",
        "stains": describe_stains(encoder),
        "encoder": str(encoder.get("name")),
        "dim": str(encoder.get("dim")),
        "licence": encoder_licence(str(encoder.get("name"))),
        "magnifications": " and ".join(f"{m}x" for m in record.magnifications),
        "programs": f"{sets} ({record.gene_set_source})" if sets else "none",
        "split": "All patients of the cohort were for development."
        if fold is None
        else f"Fold {fold} of the cohort was left out for testing.",
        "parameters": f"{record.n_parameters:,}",
        "figures": ", ".join(dict.fromkeys(metric_name(name)[0] for test in record.tests for name in test.metrics))
        or "none yet",
        "sha256": f"`{record.identity['sha256']}`",
        "median_risk": number(fitted.get("median_risk"), 3),
        "version": __version__,
        "kind": "with a linear backbone" if record.deep_share is not None else "without a backbone",
        "backbone": ""
        if record.deep_share is None
        else " The backbone reads clipped linear statistics of the tiles, in which a missing magnification counts as the training mean.",
        "recalibrated": ", ".join(
            f"`test/{test.name}/recalibrated.json`" for test in record.tests if test.is_recalibrated
        )
        or "No recalibration of this model is on record (`data.recalibrate`).",
        "tested": tested,
        "performance": "; ".join(_figures(test) for test in record.tests) or "No test of this checkpoint is on record.",
    }


def _numbers(test: Tested) -> str:
    entry = next((each for each in test.metrics.values() if each.get("n") is not None), {})
    events = f" with {entry['events']} events" if entry.get("events") is not None else ""
    return f"{test.name}: {entry.get('n', 'an unknown number of')} patients{events}"


def _figures(test: Tested) -> str:
    parts = []
    for name, entry in test.metrics.items():
        if entry.get("value") is not None and entry.get("low") is not None:
            limits = f"{number(entry['low'], 3)} to {number(entry['high'], 3)}"
            parts.append(f"{metric_name(name)[0]} {number(entry['value'], 3)} ({limits})")
    return f"{test.name}: {', '.join(parts)}" if parts else f"{test.name}: no figure with an interval"
