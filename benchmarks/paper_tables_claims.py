"""What follows from the paper's own numbers: which differences exceed its SDs, and where its claims and tables disagree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
from paper_tables_rows import DIFFERENCES, PAPER_METRICS

COMPARED = (
    "diagnosis auc",
    "diagnosis accuracy",
    "diagnosis f1",
    "grading auc",
    "grading accuracy",
    "grading f1",
    "survival c_index",
    "survival c_index_external",
)
"""Columns of the table of differences."""
PARTS = ("CGC", "IGC", "GS")
Values = dict[str, dict[str, list[float | None]]]
"""{row: {"<task> <metric>": [mean, SD or None]}}"""


def differences(facts: Mapping[str, Any]) -> list[str]:
    """Return the section that holds the paper's differences beside its SDs."""
    names = [short_name(column) for column in COMPARED]
    table = ["| table | a − b | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    n_within, n_compared = 0, 0
    for name, pairs in DIFFERENCES.items():
        values = values_of(facts, name)
        for a, b in pairs:
            cells = []
            for column in COMPARED:
                cell = difference(values, a, b, column)
                if cell is None:
                    cells.append("–")
                    continue
                value, larger = cell
                if larger is None:
                    cells.append(f"{signed(value)} (no SD)")
                    continue
                is_within = abs(value) <= larger
                n_within, n_compared = n_within + is_within, n_compared + 1
                cells.append(signed(value) if is_within else f"**{signed(value)}**")
            table.append(f"| {name} | {a} − {b} | " + " | ".join(cells) + " |")
    return [
        "## Differences and the paper's own SDs",
        "",
        "Differences a − b between rows of the paper, in percentage points. **Bold**: larger than the larger of the two "
        "rows' SDs. The others lie within the spread of the three folds, so the paper's numbers do not show that they would "
        "hold on other folds. No difference is tested in the paper, and paired differences per fold are not reported: as "
        "all models share the folds, a difference may be steadier than the SDs suggest.",
        "",
        f"Of {n_compared} differences with SDs, {n_within} lie within them.",
        "",
        *table,
        "",
    ]


def claims(facts: Mapping[str, Any]) -> list[str]:
    """Return the section that holds where the paper disagrees with itself, and with the released code."""
    lines = ["## Where the paper disagrees with itself", ""]
    lines += [f"- {line}" for line in (*_best_on_all(facts), *_distillation(facts), *_added_parts(facts))]
    lines += [f"- {line}" for line in (*_clusters(facts), *_rna_alone(facts))]
    lines += [
        "- Print errors: table V has 6654 ± 2.72 for 66.54 ± 2.72; eq. 8 counts heads to i, eq. 9 to M; eq. 11 squares what "
        "the text calls a distance; the caption of Fig. 7 swaps its parts (a) and (b).",
        "",
        "## Where the released code's checkpoints disagree with the paper",
        "",
    ]
    return [*lines, *(f"- {line}" for line in _checkpoints(facts)), ""]


def values_of(facts: Mapping[str, Any], table: str) -> Values:
    """Return the values of a table; "I to III" joins these three."""
    names = ("I", "II", "III") if table == "I to III" else (table,)
    values: Values = {}
    for each in facts["tables"]:
        if each["table"] in names:
            for row in each["rows"]:
                values.setdefault(row["row"], {}).update(row["values"])
    return values


def difference(values: Values, a: str, b: str, column: str) -> tuple[float, float | None] | None:
    """Return the difference of two rows and the larger of their SDs; None if one of them is not reported."""
    first, second = values[a].get(column), values[b].get(column)
    if first is None or second is None or first[0] is None or second[0] is None:
        return None
    sds = [sd for sd in (first[1], second[1]) if sd is not None]
    return round(first[0] - second[0], 2), max(sds) if len(sds) == 2 else None


def short_name(column: str) -> str:
    """Name of a column in a table of many, e.g. "grading F1"; survival has one metric."""
    task, metric = column.split(" ")
    return PAPER_METRICS[metric][0] if task == "survival" else f"{task} {PAPER_METRICS[metric][0]}"


def signed(value: float) -> str:
    """Return a difference with its sign, a minus being as long as a plus."""
    return f"{value:+.2f}".replace("-", "−")


def _best_on_all(facts: Mapping[str, Any]) -> Iterator[str]:
    values = values_of(facts, "I to III")
    better: dict[str, list[str]] = {}
    for column, (teacher, _) in values["teacher"].items():
        ahead = [(v[column][0], row) for row, v in values.items() if column in v and v[column][0] > teacher]
        if ahead:
            rows = ", ".join(f"{row} {value:.2f}" for value, row in sorted(ahead, reverse=True))
            better[column] = [f"{short_name(column)} (teacher {teacher:.2f}; {rows})"]
    listed = "; ".join(text for texts in better.values() for text in texts)
    yield f"The teacher is called best on all metrics. Other rows are ahead of it in {len(better)} of {len(values['teacher'])}: {listed}."


def _distillation(facts: Mapping[str, Any]) -> Iterator[str]:
    values = values_of(facts, "I to III")
    internal, external = (
        difference(values, "distilled", "student", column)
        for column in ("survival c_index", "survival c_index_external")
    )
    if internal is not None and external is not None and external[0] < 0:
        yield (
            f"Distillation adds {signed(internal[0])} to the internal C-index, and {signed(external[0])} to the external "
            "one, which the text does not mention."
        )


def _added_parts(facts: Mapping[str, Any]) -> Iterator[str]:
    """Steps of table IV at which a part is added and a metric falls."""
    values = values_of(facts, "IV")
    name_of = {frozenset(): "none", frozenset(PARTS): "all three"}
    name_of |= {frozenset(some): "+".join(some) for n in (1, 2) for some in combinations(PARTS, n)}
    falls = []
    for parts, row in name_of.items():
        for part in [each for each in PARTS if each not in parts]:
            after = name_of[parts | {part}]
            steps = {column: difference(values, after, row, column) for column in values[row]}
            fallen = [
                f"{short_name(column)} {signed(step[0])}" for column, step in steps.items() if step and step[0] < 0
            ]
            if fallen:
                falls.append(f"{row} to {after}: {', '.join(fallen)}")
    yield f"In table IV a metric falls at {len(falls)} of the 12 steps at which a part is added ({'; '.join(falls)})."


def _clusters(facts: Mapping[str, Any]) -> Iterator[str]:
    values = values_of(facts, "V")
    falls = [
        f"{short_name(column)} {signed(step[0])}"
        for column in ("diagnosis f1", "grading accuracy")
        if (step := difference(values, "8 clusters in place of 2", "student, 2 clusters", column))
    ]
    yield f"The number of clusters is called insensitive; from 2 to 8 clusters: {', '.join(falls)}."


def _rna_alone(facts: Mapping[str, Any]) -> Iterator[str]:
    snn = values_of(facts, "III")["SNN"]["survival c_index"][0]
    preliminary = facts["figure_2b_rna_alone"]["parallel at 30 %"]
    yield (
        f"RNA alone reaches a C-index of {preliminary} in Fig. 2b and of {snn:.2f} (SNN) in table III; that the populations "
        "differ is not explained."
    )


def _checkpoints(facts: Mapping[str, Any]) -> Iterator[str]:
    """Compare the mean and SD over the checkpoints' folds with the tables."""
    values, code = values_of(facts, "I to III"), facts["released_code"]
    same, different = [], []
    for model, columns in code["folds"].items():
        for column, folds in columns.items():
            mean, sd = round(float(np.mean(folds)), 2), round(float(np.std(folds)), 2)
            reported = values[model][column]
            agrees = np.allclose([mean, sd], [float(x) for x in reported], atol=0.011)
            text = f"{model}, {short_name(column)}"
            same += [text] if agrees else []
            different += (
                [] if agrees else [f"{text}: {mean:.2f} ± {sd:.2f}, table {reported[0]:.2f} ± {reported[1]:.2f}"]
            )
    yield (
        f"Mean and population SD (divided by 3, not by 2) over the three checkpoints equal the tables for {len(same)} of "
        f"{len(same) + len(different)} figures: {'; '.join(same)}. So ± is the population SD over folds."
    )
    yield f"They differ for {'; '.join(different)}: the checkpoints named in the configs are not those of table I."
    for model, columns in code["one_fold"].items():
        for column, (value, fold) in columns.items():
            reported = values[model][column][0]
            yield (
                f"The external C-index of the {model} is {reported:.2f} in table III, without an SD. A comment in a config "
                f"attaches {value:.2f} to the {model} of fold {fold} alone"
                + (": the table's figure is that of one fold." if value == reported else ", which is another figure.")
            )
