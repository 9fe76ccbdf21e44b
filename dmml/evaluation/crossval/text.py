"""Summarise a cross-validation in sentences: the best model, and the gains by RNA, by slides and over covariates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmml.evaluation.crossval.results import JOINED, CrossvalResult
from dmml.evaluation.report.formatting import number, p_words
from dmml.evaluation.report.text.findings import with_interval
from dmml.evaluation.statistics import intervals

LABELS = {
    "teacher": "teacher",
    "student": "student",
    "student_undistilled": "undistilled student",
    "clinical": "clinical covariates",
    "rna_linear": "RNA, linear",
    "rna_network": "RNA, network",
    "histology_mean": "slides, mean pool",
    "histology_abmil": "slides, gated ABMIL",
    "early_concat": "early concatenation",
    "late_fusion": "late fusion",
}
"""Display names of the models."""
ALIKE = "these patients do not tell the two apart"
UNSURE = "the interval leaves out 0, but after adjustment for the number of comparisons chance is not ruled out"
SMALL_P = 0.05


def label(model: str) -> str:
    """Name of a model in tables and plots."""
    plain = model.removesuffix(JOINED)
    return LABELS.get(plain, plain) + (" + clinical" if model.endswith(JOINED) else "")


def described(model: str, reads: set[str]) -> str:
    """Describe a model and its inputs in a phrase for a sentence."""
    plain = model.removesuffix(JOINED)
    sees = " and ".join(sorted(reads, key=("slides", "RNA").index)) or "its inputs"
    words = {
        "teacher": f"the teacher, which sees {sees}",
        "student": "the student, which sees slides alone",
        "student_undistilled": "the student without a teacher, on slides alone",
        "clinical": "the clinical covariates",
        "rna_linear": "a linear model of the RNA",
        "rna_network": "a network on the RNA",
        "histology_mean": "the mean of the tiles' features",
        "histology_abmil": "gated ABMIL on slides alone",
        "early_concat": "early concatenation of slides and RNA",
        "late_fusion": "late fusion of slides and RNA",
    }.get(plain, f"the model {plain}")
    if not model.endswith(JOINED):
        return words
    return f"{words}{',' if ',' in words else ''} joined with the clinical covariates"


def unit_words(result: CrossvalResult, unit: Mapping[str, int]) -> str:
    """Name of a fold, with its repeat and seed if there are several."""
    more = [f"{what} {unit[what]}" for what in ("repeat", "seed") if result.several(what) > 1]
    return ", ".join([f"fold {unit['fold']}", *more])


def outlying_words(result: CrossvalResult) -> list[str]:
    """One sentence per outlying fold, with its models and where to look for the reason."""
    by_fold: dict[str, list[dict[str, Any]]] = {}
    for row in result.outlying:
        by_fold.setdefault(unit_words(result, row), []).append(row)
    found = []
    for fold, rows in by_fold.items():
        told = [
            f"{label(row['model'])} ({number(row['value'], 3)}, its other folds {number(row['lowest'], 3)} to "
            f"{number(row['highest'], 3)})"
            for row in rows
        ]
        folders = [result.place(row, row["model"]) for row in rows]
        trained = [folder for folder in folders if (folder / "metrics.csv").is_file()]  # a regression has none
        curve = "the training curves below, and " if trained else ""
        where = f"{curve}the folder {(trained or folders)[0].relative_to(result.folder)}"
        models = told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"
        found.append(f"In {fold} the {_metric(result)} lies far from that of the other folds: {models}. See {where}.")
    return found


def summary(result: CrossvalResult) -> list[str]:
    """Sentences about a cross-validation, the most important first."""
    found = [_opening(result), *_primary(result), *outlying_words(result), *_clinical(result)]
    found += _added(result, "teacher", "histology_abmil", "What RNA adds to slides", both=True)
    found += _added(result, "teacher", "rna_linear", "What slides add to RNA", both=True)
    found += _added(result, "student", "teacher", "What is lost without RNA at the time of prediction", both=True)
    found += _added(result, "student", "student_undistilled", "What the teacher passed on", both=True)
    return [*found, *_bar(result), _adjustment(result)]


def _opening(result: CrossvalResult) -> str:
    metric = _metric(result)
    events = result.content.get("events")
    people = f"{result.content['patients']} patients" + ("" if events is None else f", {events} events")
    ranked = [name for name in result.models if result.pooled(name)["value"] is not None]
    start = f"On the cohort {result.cohort} ({people}) each patient was judged only by models that never saw them"
    if not ranked:
        return f"{start}; the {metric} is undefined for every model."
    best = max(ranked, key=lambda name: result.pooled(name)["value"])
    words = described(best, result.reads)
    entry = result.pooled(best)
    told = f"{start}. The highest {metric}, {with_interval(entry)}, is that of {words}"
    if len(ranked) == 1:
        return f"{told}."
    return f"{told}, the best of {len(ranked)} models, so this figure leans to the bright side."


def _primary(result: CrossvalResult) -> list[str]:
    row = next((row for row in result.content["paired"] if row.get("primary")), None)
    if row is None:
        return []
    return [
        f"The one comparison fixed beforehand: the {_metric(result)} of {described(row['a'], result.reads)}, "
        f"minus that of {described(row['b'], result.reads)}, is {_difference(row)}: {_verdict(row)}."
    ]


def _clinical(result: CrossvalResult) -> list[str]:
    if "clinical" not in result.models:
        return []
    named = result.covariates
    who = f" ({', '.join(named)})" if named else ""
    found = [f"The clinical covariates alone{who} reach {with_interval(result.pooled('clinical'))}."]
    sees = " and ".join(sorted(result.reads, key=("slides", "RNA").index))
    adders = (
        ("rna_linear", "RNA beside them (a linear model)"),
        ("teacher", f"the teacher beside them ({sees})"),
        ("histology_abmil", "slides beside them (gated ABMIL)"),
        ("student", "the student beside them (slides alone)"),
    )
    for name, words in adders:
        row = result.pair(f"{name}{JOINED}", "clinical")
        if row is None or row["difference"] is None:
            continue
        test = (result.content.get("added_to_clinical") or {}).get(name)
        p, kind = _adjusted(test or {"p": None})
        likelihood = "" if p is None else f"; likelihood-ratio test p {p_words(p)}{kind}"
        verdict = _verdict(row)
        if p is not None and p < SMALL_P:
            gain = f"these patients show no gain in {_metric(result)}"
            fits = {ALIKE: f", but {gain}", UNSURE: f"; for the gain in {_metric(result)} {UNSURE}"}
            verdict = f"the score adds to the fit{fits[verdict]}" if verdict in fits else verdict
        found.append(
            f"With {words}: {with_interval(result.pooled(row['a']))}, "
            f"a difference of {_difference(row)}{likelihood}: {verdict}."
        )
    return found


def _added(result: CrossvalResult, a: str, b: str, lead: str, both: bool) -> list[str]:
    """A sentence about one comparison after a lead; empty for the primary one, which has its own sentence."""
    row = result.pair(a, b)
    if row is None or row.get("primary") or row["difference"] is None or (both and len(result.reads) < 2):
        return []
    return [f"{lead} ({label(a)} − {label(b)}): {_difference(row)}: {_verdict(row)}."]


def _bar(result: CrossvalResult) -> list[str]:
    """Say so if the linear model of the RNA does at least as well as the teacher, so that the network adds nothing."""
    values = {name: result.pooled(name)["value"] for name in ("teacher", "rna_linear") if name in result.models}
    if len(values) < 2 or None in values.values() or values["teacher"] > values["rna_linear"]:
        return []
    return [
        "The linear model of the RNA does at least as well as the teacher: these data make no case for the network."
    ]


def _adjustment(result: CrossvalResult) -> str:
    others = sum(not row.get("primary") for row in result.content["paired"])
    plural = "s" if result.folds > 1 else ""
    more = "".join(
        f", {result.several(what)} {what}s" for what in ("repeat", "seed") if result.several(what) > 1
    )  # fmt: skip
    told = f"Nested cross-validation of {result.folds} fold{plural}{more}; pairs of patients are counted within a fold"
    if result.plan.get("cross_fit"):
        told += "; students learned from teachers that had not seen the patient"
    if others > 1:
        apart = "the primary comparison stands apart, and " if others < len(result.content["paired"]) else ""
        told += f"; {apart}p of the {others} others is adjusted by Holm's method" if apart else (
            f"; p of the {others} comparisons is adjusted by Holm's method"
        )  # fmt: skip
    return f"{told}."


def _metric(result: CrossvalResult) -> str:
    return result.endpoint.primary_name


def _difference(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return "undefined"
    p, kind = _adjusted(row)
    sign = "+" if row["difference"] > 0 else ""
    interval = (
        ""
        if row["low"] is None
        else f"{intervals.level_text()} interval {number(row['low'], 3)} to {number(row['high'], 3)}, "
    )
    return f"{sign}{number(row['difference'], 3)} ({interval}p {p_words(p)}{kind})"


def _verdict(row: dict[str, Any]) -> str:
    if row["difference"] is None or row["low"] is None:
        return "it cannot be told"
    p, _ = _adjusted(row)
    apart = row["low"] > 0 or row["high"] < 0
    if not apart:
        return ALIKE
    if p is not None and p >= SMALL_P:
        return UNSURE
    told = f"a {'gain' if row['difference'] > 0 else 'loss'} that these patients show"
    over_folds, kind = _adjusted(row, "p_resampled")
    if over_folds is None:
        return told
    holds = "and that holds" if over_folds < SMALL_P else "though it is not sure to hold"
    return f"{told}, {holds} from fold to fold (resampled t-test p {p_words(over_folds)}{kind})"


def _adjusted(row: dict[str, Any], key: str = "p") -> tuple[float | None, str]:
    """The p value to report and its label: adjusted, unless the comparison is primary or has no adjusted p."""
    if row.get("primary") or row.get(f"{key}_holm") is None:
        return row.get(key), ""
    return row[f"{key}_holm"], " by Holm"
