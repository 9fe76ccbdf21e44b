"""Which model of dmml answers which row of the paper's tables, and which differences between rows the page examines."""

from __future__ import annotations

from dataclasses import dataclass

PAPER_METRICS = {
    "auc": ("AUC", "auc"),
    "accuracy": ("accuracy", "accuracy"),
    "sensitivity": ("sensitivity", "balanced_accuracy"),  # the mean recall over classes, under its other name
    "specificity": ("specificity", "specificity_macro"),
    "f1": ("F1", "f1_macro"),
    "c_index": ("C-index", "c_index"),
    "c_index_external": ("C-index, external", "c_index"),
}
"""{metric of the paper: (its name on the page, its name in `crossval.json` and `metrics.json`)}"""
TASKS = ("diagnosis", "grading", "survival")


@dataclass(frozen=True)
class Counterpart:
    """How dmml answers a row of the paper.

    Attributes:
        key: Name of the row on the command line.
        model: Model of a cross-validation whose results stand in the row.
        how: What is changed in the configs of configs/paper; empty for the models that `dmml crossval` fits anyway.
    """

    key: str
    model: str
    how: str = ""


MAIN = {
    "ABMIL": Counterpart("abmil", "histology_abmil"),
    "TransMIL": Counterpart("transmil", "transmil"),
    "student": Counterpart("student", "student_undistilled"),
    "distilled": Counterpart("distilled", "student"),
    "SNN": Counterpart("snn", "rna_network"),
    "Concat": Counterpart("concat", "early_concat"),
    "MCAT": Counterpart("mcat", "mcat"),
    "teacher": Counterpart("teacher", "teacher"),
}
"""Rows of tables I to III with a counterpart in dmml; one cross-validation fills all of them."""
_TEACHER, _STUDENT, _DISTILLED = MAIN["teacher"], MAIN["student"], MAIN["distilled"]
_WINDOWS = "`aggregator: {class_path: TokenAggregator, init_args: {tissue_attention: true}}`"
_NO_CGC, _NO_IGC, _NO_GS = "no `GradientCoordination`", "`consistency_weight: 0`", "`selection: false` in the fusion"


def _teacher(key: str, *how: str) -> Counterpart:
    return Counterpart(key, "teacher", ", ".join(how))


def _student(key: str, how: str) -> Counterpart:
    return Counterpart(key, "student_undistilled", how)


ABLATIONS: dict[str, dict[str, Counterpart]] = {
    "IV": {
        "none": _teacher("no-parts", _NO_CGC, _NO_IGC, _NO_GS),
        "CGC": _teacher("cgc", _NO_IGC, _NO_GS),
        "IGC": _teacher("igc", _NO_CGC, _NO_GS),
        "GS": _teacher("gs", _NO_CGC, _NO_IGC),
        "CGC+GS": _teacher("cgc+gs", _NO_IGC),
        "IGC+GS": _teacher("igc+gs", _NO_CGC),
        "CGC+IGC": _teacher("cgc+igc", _NO_GS),
        "all three": _TEACHER,
    },
    "V": {
        "w/o H-to-H deformation": _student("no-deformation", "`tissue_attention: false` in the aggregator"),
        "w/o clustering and merging": _student("no-merging", "`n_merged: null`"),
        "8 clusters in place of 2": _student("clusters-8", f"{_WINDOWS}, `n_merged: 8`"),
        "32 clusters in place of 2": _student("clusters-32", f"{_WINDOWS}, `n_merged: 32`"),
        "student, 2 clusters": _STUDENT,
        "distilled, w/o MSE": Counterpart("no-mse", "student", "`feature_weight: 0`"),
        "distilled, w/o KL": Counterpart("no-kl", "student", "`prediction_weight: 0`"),
        "distilled": _DISTILLED,
    },
    "VI–VIII": {
        "10x only": _teacher("10x", "`magnifications: [10]` in the data section"),
        "20x only": _teacher("20x", "`magnifications: [20]` in the data section"),
        "all": _TEACHER,
    },
    "IX": {
        "10 % variable": _teacher("variable-10", "`gene_sets: {most_variable: 0.1}`"),
        "30 % variable": _TEACHER,
        "30 % at random": _teacher("random-30", "`gene_sets: {tumor: FILE, tme: FILE}` with lists of your own"),
        "50 % variable": _teacher("variable-50", "`gene_sets: {most_variable: 0.5}`"),
        "80 % variable": _teacher("variable-80", "`gene_sets: {most_variable: 0.8}`"),
    },
    "X": {
        "3": _student("k-3", "`neighbours: 3` in the aggregator"),
        "5": _STUDENT,
        "7": _student("k-7", "`neighbours: 7`"),
        "9": _student("k-9", "`neighbours: 9`"),
        "11": _student("k-11", "`neighbours: 11`"),
    },
}
"""{table: {row: its counterpart}}; the other rows of these tables have none."""

DIFFERENCES = {
    "I to III": [
        ("teacher", "MMP"),
        ("teacher", "SML"),
        ("student", "WiKG"),
        ("distilled", "LD-CVAE"),
        ("distilled", "student"),
    ],
    "IV": [
        ("CGC", "none"),
        ("IGC", "none"),
        ("GS", "none"),
        ("all three", "CGC+GS"),
        ("all three", "IGC+GS"),
        ("all three", "CGC+IGC"),
    ],
    "V": [
        ("student, 2 clusters", "w/o H-to-H deformation"),
        ("student, 2 clusters", "H-to-H → plain self-attention"),
        ("student, 2 clusters", "w/o clustering and merging"),
        ("student, 2 clusters", "8 clusters in place of 2"),
        ("student, 2 clusters", "32 clusters in place of 2"),
        ("distilled", "distilled, w/o MSE"),
        ("distilled", "distilled, w/o KL"),
    ],
    "VI–VIII": [
        ("all", "10x only"),
        ("all", "20x only"),
        ("all", "w/o tumor genes"),
        ("all", "w/o TME genes"),
        ("all", "w/o disen"),
    ],
    "IX": [
        ("30 % variable", "10 % variable"),
        ("30 % variable", "30 % at random"),
        ("30 % variable", "50 % variable"),
        ("30 % variable", "80 % variable"),
    ],
    "X": [("5", "3"), ("5", "7"), ("5", "9"), ("5", "11")],
}
"""{table: [(a, b)]}, the differences a − b that the paper's claims rest on."""


def counterpart_of(table: str, row: str) -> Counterpart | None:
    """Return the counterpart of a row; None if dmml has none."""
    return ABLATIONS[table].get(row) if table in ABLATIONS else MAIN.get(row)


def counterparts() -> dict[str, Counterpart]:
    """Return {key: counterpart} of all rows that have one."""
    rows = [*MAIN.values(), *(each for table in ABLATIONS.values() for each in table.values())]
    return {each.key: each for each in rows}
