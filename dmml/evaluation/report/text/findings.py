"""Sentences of a report that state the main findings before any table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmml.evaluation import interval_settings
from dmml.evaluation.bootstrap import Difference
from dmml.evaluation.caveats import UNKNOWN_KEY, UNKNOWN_TEXT, overlap_text, transductive_text
from dmml.evaluation.comparison import Pair
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.report.formatting import number, p_text, percent, with_interval

NO_DIFFERENCE = "these patients show no clear difference"


def model_description(test: Evaluation) -> str:
    """Describe the model and its inputs: 'the student, which sees only slides'."""
    with_rna, n = test.count("has_expression"), len(test.predictions)
    tokens = [test.count(name) for name in test.predictions if name.startswith("n_tokens_")]
    sees_slides = not tokens or any(tokens)
    if test.model == "student":
        return "the student, which sees only slides"
    if test.model != "teacher":
        return f"the model {test.run}"
    if not sees_slides:
        return "the teacher, here on RNA alone"
    if with_rna == 0:
        return "the teacher, here without any RNA"
    if with_rna is None or with_rna == n:
        return "the teacher, which also sees RNA"
    return f"the teacher, which also sees the RNA of {with_rna} of {n} patients"


def summary(tests: list[Evaluation], pairs: list[Pair], oracle: bool = True) -> list[str]:
    """Sentences about the tests of one cohort: performance, comparison and, with `oracle`, share of the best possible.

    Tests on training patients are left out; see `overlap_sentences`.
    """
    valid = [test for test in tests if not test.overlap]
    if not valid:
        return []
    first, *others = sorted(valid, key=lambda test: (test.model != "student", test.model != "teacher"))
    sentences = [_opening(first), *(_further_model(test) for test in others)]
    sentences += [f"{test.run}: {UNKNOWN_TEXT}." for test in [first, *others] if test.context.get(UNKNOWN_KEY)]
    sentences += [_comparison(pair) for pair in pairs if (pair.leads or pair.refused) and not pair.has_overlap]
    return [*sentences, *(_oracle([first, *others]) if oracle else [])]


def overlap_sentences(tests: list[Evaluation]) -> list[str]:
    """One sentence per test on training patients, which replaces its main result."""
    return [
        f"{test.run} on {test.cohort}: {overlap_text(**test.overlap)}. The results are given below without an assessment."
        for test in tests
        if test.overlap
    ]


def cohort_change_sentences(pairs: list[Pair]) -> list[str]:
    """One sentence per run that was tested on the same patients in two cohorts: the effect of the changed input."""
    sentences = []
    for pair in pairs:
        difference = pair.difference
        if difference.estimate != difference.estimate or pair.has_overlap:
            continue
        verdict = "" if _excludes_zero(difference) else f"; {NO_DIFFERENCE}"
        sentences.append(
            f"On the {pair.n} patients that {pair.a.cohort} shares with {pair.b.cohort}, the "
            f"{pair.a.endpoint.primary_name} of {pair.a.run} changes by {number(difference.estimate, 3)} "
            f"({_interval(difference)}){verdict}."
        )
    return sentences


def _opening(test: Evaluation) -> str:
    entry = test.metrics[test.primary]
    start = f"On the cohort {test.cohort} ({_patients(test)}), {_model_and_training(test)} "
    if entry["value"] is None:
        return f"{start}cannot be evaluated: {entry['reason']}."
    reading = f"; {_reading(entry)}" if test.endpoint.chance == 0.5 else ""
    sentence = f"{start}{test.endpoint.achievement(test.predictions, test.context)} {with_interval(entry)}{reading}."
    second = test.endpoint.second_sentence
    return sentence if second is None else f"{sentence} {second[0]} {with_interval(test.metrics[second[1]])}."


def _patients(test: Evaluation) -> str:
    """Numbers of patients and events, and what is special about the cohort's data."""
    entry, n = test.metrics[test.primary], len(test.predictions)
    evaluated = "" if entry["n"] == n else f"{entry['n']} {test.endpoint.known_outcome_name}"
    events = f"{entry['events']} events" if test.endpoint.counts_events else ""
    counts = " and ".join(filter(None, (evaluated, events)))
    transductive = transductive_text(test.context)
    return f"{n} patients{counts and f', {counts}'}{_single_magnification(test)}{transductive and f'; {transductive}'}"


def _model_and_training(test: Evaluation) -> str:
    name = model_description(test)
    training = test.context.get("training_cohort")
    if not training or training == test.cohort:
        return f"{name}," if "," in name else name
    size = f" ({test.context['n_training']} patients)" if test.context.get("n_training") else ""
    link = " and was" if ", which" in name else ","
    cohort = f"other folds of {training}" if training == test.context.get("cohort") else training
    return f"{name}{link} trained on {cohort}{size},"


def _single_magnification(test: Evaluation) -> str:
    """Name the magnification if tissue is present at only one of those that the model reads; otherwise empty."""
    counts = {
        name.removeprefix("n_tokens_"): test.count(name) for name in test.predictions if name.startswith("n_tokens_")
    }
    present = [magnification for magnification, n in counts.items() if n]
    return f", at {present[0]} alone" if len(present) == 1 < len(counts) else ""


def _reading(entry: Mapping[str, Any]) -> str:
    if entry["low"] is None:
        return "0.5 is expected by chance, and 1 is perfect"
    if entry["low"] > 0.5:
        return "the interval lies entirely above 0.5, the value by chance (1 is perfect)"
    if entry["high"] < 0.5:
        return "this is worse than chance (0.5): check the direction of the outcome"
    return "the interval includes 0.5, so this may be due to chance"


def _further_model(test: Evaluation) -> str:
    entry = test.metrics[test.primary]
    name = model_description(test)
    comma = "," if "," in name else ""
    notes = [] if test.run in name else [test.run]
    notes += ["transductive"] if transductive_text(test.context) else []
    note = f" ({', '.join(notes)})" if notes else ""
    start = f"{name[0].upper()}{name[1:]}{note}{comma}"
    if entry["value"] is None:
        return f"{start} cannot be evaluated: {entry['reason']}."
    return f"{start} reaches {with_interval(entry)}."


def _comparison(pair: Pair) -> str:
    if pair.refused:
        return f"{pair.a.run} and {pair.b.run} are not compared: {pair.refused}."
    by_kind = pair.leads and pair.a.model != pair.b.model
    a, b = (f"the {test.model}" if by_kind else test.run for test in (pair.a, pair.b))
    difference = pair.difference
    if difference.estimate != difference.estimate:
        return f"The difference between {a} and {b} is not defined."
    verdict = "" if _excludes_zero(difference) else f": {NO_DIFFERENCE}"
    p = p_text(difference.p) if pair.primary else f"{p_text(pair.p_holm)} by Holm"
    return (
        f"On the same {pair.n} patients, the {pair.a.endpoint.primary_name} of {a} minus that of {b} is "
        f"{number(difference.estimate, 3)} ({_interval(difference)}, p {p}){verdict}."
    )


def _excludes_zero(difference: Difference) -> bool:
    return difference.low > 0 or difference.high < 0


def _interval(difference: Difference) -> str:
    return f"{interval_settings.level_text()} interval {number(difference.low, 3)} to {number(difference.high, 3)}"


def _oracle(tests: list[Evaluation]) -> list[str]:
    """A sentence about the share of the best possible value that each model reaches; none for real cohorts."""
    shares = []
    for test in tests:
        share = test.metrics.get("share_of_oracle")
        if share is None or share["value"] is None:
            continue
        low, high = share["low"], share["high"]
        interval = "" if low is None or high is None else f" ({percent(low)} to {percent(high)})"
        shares.append(f"{test.run} reaches {percent(share['value'])}{interval}")
        best = test.metrics["c_index_oracle"]["value"]
    if not shares:
        return []
    return [
        f"The cohort is simulated, so the best possible value is known: the true risk reaches {number(best)}. Of its "
        f"excess over chance, {' and '.join(shares)}."
    ]
