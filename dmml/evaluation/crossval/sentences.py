"""Summarise a cross-validation in sentences: the best model, and the gains by RNA, by slides and over covariates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmml.evaluation import interval_settings
from dmml.evaluation.crossval.model_names import joined_inputs, label, phrase
from dmml.evaluation.crossval.results import JOINED, CrossvalResult
from dmml.evaluation.report.formatting import joined, number, p_text, with_interval

NO_DIFFERENCE = "no clear difference between the two"
UNCERTAIN = "the interval excludes 0, but after adjustment for the number of comparisons it may be due to chance"


def summary(result: CrossvalResult) -> list[str]:
    """Sentences about a cross-validation, the most important first."""
    sentences = [_opening(result), *_primary(result), *outlying_sentences(result), *_clinical(result)]
    if len(result.inputs) > 1:
        sentences += _comparison(result, "teacher", "histology_abmil", "What RNA adds to slides")
        sentences += _comparison(result, "teacher", "rna_linear", "What slides add to RNA")
        sentences += _comparison(result, "student", "teacher", "What is lost without RNA at the time of prediction")
        sentences += _comparison(result, "student", "student_undistilled", "What the teacher passed on")
    return [*sentences, *_linear_model(result), _method(result)]


def outlying_sentences(result: CrossvalResult) -> list[str]:
    """One sentence per outlying fold, with its models and where to look for the reason."""
    by_fold: dict[str, list[dict[str, Any]]] = {}
    for row in result.outlying_folds:
        by_fold.setdefault(result.fit_name(row), []).append(row)
    sentences = []
    for fold, rows in by_fold.items():
        values = [
            f"{label(row['model'])} ({number(row['value'], 3)}; other folds {number(row['lowest'], 3)} to "
            f"{number(row['highest'], 3)})"
            for row in rows
        ]
        folders = [result.fit_folder(row, row["model"]) for row in rows]
        networks = [folder for folder in folders if (folder / "metrics.csv").is_file()]  # a regression has no curve
        curve = "the training curves below and " if networks else ""
        place = f"{curve}the folder {(networks or folders)[0].relative_to(result.folder)}"
        name = result.endpoint.primary_name
        sentences.append(f"In {fold} the {name} is far from that of the other folds: {joined(values)}. See {place}.")
    return sentences


def _opening(result: CrossvalResult) -> str:
    metric = result.endpoint.primary_name
    events = result.content.get("events")
    size = f"{result.content['patients']} patients" + ("" if events is None else f", {events} events")
    ranked = [name for name in result.models if result.pooled(name)["value"] is not None]
    start = f"On the cohort {result.cohort} ({size}), every patient was predicted only by models that had not seen them"
    if not ranked:
        return f"{start}; the {metric} is undefined for every model."
    best = max(ranked, key=lambda name: result.pooled(name)["value"])
    value = with_interval(result.pooled(best))
    text = f"{start}. The highest {metric}, {value}, is that of {phrase(best, result.inputs)}."
    return f"{text} It is the best of {len(ranked)} models, so this value is optimistic." if len(ranked) > 1 else text


def _primary(result: CrossvalResult) -> list[str]:
    row = result.primary_comparison
    if row is None:
        return []
    a, b = (phrase(row[side], result.inputs) for side in ("a", "b"))
    comma = "," if "," in b else ""
    return [
        f"In the one comparison that was fixed beforehand, the {result.endpoint.primary_name} of {a}, minus that of "
        f"{b}{comma} is {_difference(row)}: {_verdict(row)}."
    ]


def _clinical(result: CrossvalResult) -> list[str]:
    if "clinical" not in result.models:
        return []
    names = f" ({', '.join(result.covariates)})" if result.covariates else ""
    sentences = [f"The clinical covariates alone{names} reach {with_interval(result.pooled('clinical'))}."]
    additions = {
        "rna_linear": "RNA (a linear model)",
        "teacher": f"the teacher ({joined_inputs(result.inputs)})",
        "histology_abmil": "slides (gated ABMIL)",
        "student": "the student (slides alone)",
    }
    for model, addition in additions.items():
        row = result.comparison(f"{model}{JOINED}", "clinical")
        if row is None or row["difference"] is None:
            continue
        test = (result.content.get("added_to_clinical") or {}).get(model)
        p, adjustment = _p_value(test or {"p": None})
        likelihood = "" if p is None else f"; likelihood-ratio test p {p_text(p)}{adjustment}"
        verdict = _verdict(row)
        if p is not None and p < interval_settings.alpha():
            verdict = _verdict_with_better_fit(verdict, result.endpoint.primary_name)
        sentences.append(
            f"Adding {addition} gives {with_interval(result.pooled(row['a']))}, "
            f"a difference of {_difference(row)}{likelihood}: {verdict}."
        )
    return sentences


def _verdict_with_better_fit(verdict: str, metric: str) -> str:
    """Qualify the verdict on the metric where the likelihood-ratio test says that the model improves the fit."""
    if verdict == NO_DIFFERENCE:
        return f"the score improves the fit, but these patients show no clear gain in {metric}"
    if verdict == UNCERTAIN:
        return f"the score improves the fit; for the gain in {metric}, {UNCERTAIN}"
    return verdict


def _comparison(result: CrossvalResult, a: str, b: str, lead: str) -> list[str]:
    """A sentence about one comparison after a lead; empty for the primary one, which has its own sentence."""
    row = result.comparison(a, b)
    if row is None or row.get("primary") or row["difference"] is None:
        return []
    return [f"{lead} ({label(a)} − {label(b)}): {_difference(row)}: {_verdict(row)}."]


def _linear_model(result: CrossvalResult) -> list[str]:
    """A sentence if the linear model of the RNA does at least as well as the teacher, so that the network adds nothing."""
    values = {name: result.pooled(name)["value"] for name in ("teacher", "rna_linear") if name in result.models}
    if len(values) < 2 or None in values.values() or values["teacher"] > values["rna_linear"]:
        return []
    return [
        "The linear model of the RNA does at least as well as the teacher: these data give no reason to prefer the "
        "network."
    ]


def _method(result: CrossvalResult) -> str:
    """How the cross-validation was made, and how p values are adjusted."""
    counts = [f"{result.n_folds} fold{'s' if result.n_folds > 1 else ''}"]
    counts += [f"{result.n_repeats} repeats"] if result.n_repeats > 1 else []
    counts += [f"{result.n_seeds} seeds"] if result.n_seeds > 1 else []
    parts = [f"Nested cross-validation with {joined(counts)}", "pairs of patients are compared within a fold"]
    if result.plan.get("cross_fit"):
        parts.append("students learned from teachers that had not seen the patient")
    others = sum(not row.get("primary") for row in result.comparisons)
    if others > 1 and others < len(result.comparisons):
        parts.append(
            f"the primary comparison is not adjusted, and the p values of the {others} others are adjusted by Holm's method"
        )
    elif others > 1:
        parts.append(f"the p values of the {others} comparisons are adjusted by Holm's method")
    return f"{'; '.join(parts)}."


def _difference(row: Mapping[str, Any]) -> str:
    if row["difference"] is None:
        return "undefined"
    p, adjustment = _p_value(row)
    sign = "+" if row["difference"] > 0 else ""
    interval = ""
    if row["low"] is not None:
        interval = f"{interval_settings.level_text()} interval {number(row['low'], 3)} to {number(row['high'], 3)}, "
    return f"{sign}{number(row['difference'], 3)} ({interval}p {p_text(p)}{adjustment})"


def _verdict(row: Mapping[str, Any]) -> str:
    if row["difference"] is None or row["low"] is None:
        return "it cannot be evaluated"
    if row["low"] <= 0 <= row["high"]:
        return NO_DIFFERENCE
    p, _ = _p_value(row)
    if p is not None and p >= interval_settings.alpha():
        return UNCERTAIN
    text = f"a {'gain' if row['difference'] > 0 else 'loss'} in these patients"
    p_over_folds, adjustment = _p_value(row, "p_resampled")
    if p_over_folds is None:
        return text
    holds = "which also holds" if p_over_folds < interval_settings.alpha() else "which may not hold"
    return f"{text}, {holds} from fold to fold (resampled t-test p {p_text(p_over_folds)}{adjustment})"


def _p_value(row: Mapping[str, Any], key: str = "p") -> tuple[float | None, str]:
    """The p value to report and its label: adjusted, unless the comparison is primary or has no adjusted p."""
    if row.get("primary") or row.get(f"{key}_holm") is None:
        return row.get(key), ""
    return row[f"{key}_holm"], " by Holm"
