"""Predicted programs of a test, and how they correlate with the measured RNA and with the model's answer."""

from __future__ import annotations

import csv
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.errors import InputError
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import MUTED, SUBSPACE_COLOR, new_figure, style
from dmml.evaluation.report.tables import Cell, Table, value_cell

SHOWN = 12
"""Maximum number of programs in the plot."""
LISTED = 60
LEAST = 10
"""Minimum number of patients for a correlation."""
NAMES = {"tumor": "tumor", "tme": "TME"}


@dataclass(frozen=True)
class Program:
    """One program of a subspace over the tested patients.

    Attributes:
        subspace: tumor or tme.
        name: Name of the program.
        agreement: Spearman correlation of the predicted and the measured score; NaN if too few patients have RNA.
        measured: Number of patients with a measured score.
        with_answer: Spearman correlation of the predicted score with the risk (or with the last class's probability).
    """

    subspace: str
    name: str
    agreement: float
    measured: int
    with_answer: float


def read_programs(test: Evaluation) -> list[Program]:
    """Read `programs.csv`, with the strongest correlation to the answer first; an empty list if the file is absent.

    Its columns are `<subspace>|<magnification>x|<program>` for predicted and `<subspace>|measured|<program>` for
    measured scores. Magnifications are averaged.

    Raises:
        InputError: The file is damaged.
    """
    path = test.folder / "programs.csv"
    if not path.is_file():
        return []
    try:
        table = pd.read_csv(path, dtype={"patient_id": str}).set_index("patient_id")
        answer = _answer(test).reindex(table.index).to_numpy(float)
        columns: dict[tuple[str, str], dict[str, list[NDArray]]] = {}
        for column in table:
            subspace, source, name = str(column).split("|", 2)
            kind = "measured" if source == "measured" else "predicted"
            columns.setdefault((subspace, name), {}).setdefault(kind, []).append(table[column].to_numpy(float))
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table of programs ({error}); run `dmml test` again") from None
    found = []
    for (subspace, name), scores in columns.items():
        if "predicted" in scores:
            predicted = _mean(scores["predicted"])
            measured = _mean(scores.get("measured", [np.full(len(table), np.nan)]))
            known = int(np.isfinite(measured).sum())
            found.append(Program(subspace, name, spearman(predicted, measured), known, spearman(predicted, answer)))
    return sorted(found, key=lambda program: -abs(np.nan_to_num(program.with_answer)))


def programs_part(test: Evaluation) -> tuple[str, list[str], list[Plot], list[Table]]:
    """(title, sentences, plots, tables) for the report; empty lists if no programs were predicted."""
    programs = read_programs(test)
    title = "Predicted programs"
    if not programs:
        return title, [], [], []
    known = [program for program in programs if np.isfinite(program.agreement)]
    sentences = [
        f"From the tissue alone the model predicts {len(programs)} expression programs; in use they tell what a region "
        "looks like in terms of genes."
    ]
    if known:
        median = float(np.median([program.agreement for program in known]))
        best = max(known, key=lambda program: program.agreement)
        median_words, best_words = (f"{value:.2f}".replace("-", "−") for value in (median, best.agreement))
        sentences.append(
            f"On the {best.measured} patients with RNA the median rank correlation of predicted and measured scores is "
            f"{median_words}; {best.name} ({NAMES.get(best.subspace, best.subspace)}) is told best, {best_words}."
        )
    else:
        sentences.append("Too few tested patients have RNA to compare them with.")
    return title, sentences, _plots(programs, _answer_name(test)), [_table(programs, _answer_name(test))]


def spearman(a: NDArray, b: NDArray) -> float:
    """Rank correlation over the rows known in both; NaN for fewer than `LEAST` rows or if one of them is constant."""
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < LEAST or np.ptp(a[both]) == 0 or np.ptp(b[both]) == 0:
        return float("nan")
    ranks = [pd.Series(values[both]).rank().to_numpy() for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def _mean(columns: list[NDArray]) -> NDArray[np.float64]:
    stacked = np.stack(columns)
    known = np.isfinite(stacked)
    return np.where(known.any(0), np.where(known, stacked, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)


def _answer(test: Evaluation) -> pd.Series:
    _, score = test.endpoint.score(test.predictions, test.context)
    return pd.Series(score, test.predictions["patient_id"])


def _answer_name(test: Evaluation) -> str:
    return test.endpoint.score(test.predictions, test.context)[0]


def _plots(programs: list[Program], answer: str) -> list[Plot]:
    shown = [program for program in programs if np.isfinite(program.with_answer)][:SHOWN]
    if not shown:
        return []
    tooltips = {}
    with style():
        figure, axes = new_figure(width=5.2, height=0.8 + 0.27 * len(shown))
        axes.axvline(0, color=MUTED, linewidth=1)
        for index, program in enumerate(shown):
            gid = f"program-{index}"
            agreement = "" if np.isnan(program.agreement) else f"; with measured RNA {program.agreement:.2f}"
            tooltips[gid] = f"{program.name}: with {answer} {program.with_answer:.2f}{agreement}".replace("-", "−")
            color = SUBSPACE_COLOR.get(program.subspace, MUTED)
            axes.barh(-index, program.with_answer, height=0.62, color=color)[0].set_gid(gid)
        axes.set_yticks([-index for index in range(len(shown))], [_named(program) for program in shown])
        axes.set_xticks([-1, -0.5, 0, 0.5, 1])
        axes.set(xlim=(-1, 1), xlabel=f"rank correlation with the predicted {answer}")
        axes.grid(axis="y", visible=False)
    caption = (
        f"The {len(shown)} programs that go most closely with the model's answer; orange: tumor subspace, blue: TME. "
        "An association within the model, not a cause."
    )
    return [Plot("programs", "Predicted programs", figure, caption, "; ".join(tooltips.values()), tooltips)]


def _named(program: Program) -> str:
    """Name of the program with its subspace, so that the subspace is not shown by colour alone."""
    short = program.name.removeprefix("HALLMARK_").replace("_", " ")
    short = short if len(short) <= 30 else short[:29] + "…"
    return f"{short} ({NAMES.get(program.subspace, program.subspace)})"


def _table(programs: list[Program], answer: str) -> Table:
    rows = [
        [
            Cell(program.name),
            Cell(NAMES.get(program.subspace, program.subspace)),
            value_cell(_known(program.with_answer), 2),
            value_cell(_known(program.agreement), 2),
            Cell(str(program.measured), order=program.measured),
        ]
        for program in programs[:LISTED]
    ]
    more = f", the first {LISTED} of {len(programs)}" if len(programs) > LISTED else ""
    columns = ["program", "subspace", f"with {answer}", "with measured RNA", "patients with RNA"]
    return Table(f"Programs and their rank correlations{more}", columns, rows, frozenset({2, 3, 4}), wide=True)


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None
