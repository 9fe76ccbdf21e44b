"""Sentences of a report that state the main findings before any table."""

from __future__ import annotations

from dmml.evaluation.caveats import OVERLAP, UNKNOWN_KEY, UNKNOWN_TEXT, overlap_text, transductive_text
from dmml.evaluation.comparison import Pair
from dmml.evaluation.endpoints import Endpoint
from dmml.evaluation.evaluation_result import Evaluation
from dmml.evaluation.report.formatting import horizon_name, number, p_text, percent
from dmml.evaluation.statistics import intervals

METRIC_NAMES = {
    OVERLAP: ("Patients that the model was trained on", "among those tested"),
    "c_index": ("Concordance (Harrell)", "higher is better, 0.5 is chance"),
    "c_index_ipcw": ("Concordance, censoring-weighted (Uno)", "higher is better, 0.5 is chance"),
    "ibs": ("Integrated Brier score", "lower is better"),
    "auc": ("AUC, macro one-against-rest", "higher is better, 0.5 is chance"),
    "accuracy": ("Accuracy", "higher is better"),
    "balanced_accuracy": ("Balanced accuracy", "higher is better"),
    "f1_macro": ("F1, macro", "higher is better"),
    "kappa_quadratic": ("Kappa, quadratic", "higher is better, 0 is chance"),
    "ece": ("Expected calibration error", "lower is better; with few patients it and its interval are rough"),
    "deep_share": ("Share of the deep part", "0 = the backbone alone"),
    "c_index_oracle": ("Concordance of the true risk", "the best possible here"),
    "share_of_oracle": ("Share of the possible", "(C − 0.5) / (best C − 0.5)"),
}


def metric_name(name: str, endpoint: Endpoint | None = None) -> tuple[str, str]:
    """(display name, how to read it) of a metric, which an endpoint may name by itself."""
    if endpoint is not None and name in endpoint.metric_names:
        return endpoint.metric_names[name]
    if name.startswith("auc_"):
        return f"AUC at {horizon_name(float(name.removeprefix('auc_')))}", "higher is better, 0.5 is chance"
    return METRIC_NAMES.get(name, (name, ""))


def with_interval(entry: dict, digits: int = 2) -> str:
    """Format an estimate with its interval: 0.71 (95 % interval 0.62 to 0.79)."""
    if entry["low"] is None:
        return number(entry["value"], digits)
    return (
        f"{number(entry['value'], digits)} ({intervals.level_text()} interval {number(entry['low'], digits)} to "
        f"{number(entry['high'], digits)})"
    )


def model_words(test: Evaluation) -> str:
    """Describe the model and its inputs: 'the student, which sees slides only'."""
    with_rna, n = test.count("has_expression"), len(test.predictions)
    tokens = [test.count(name) for name in test.predictions if name.startswith("n_tokens_")]
    sees_slides = not tokens or any(tokens)
    if test.model == "student":
        return "the student, which sees slides only"
    if test.model != "teacher":
        return f"the model {test.run}"
    if not sees_slides:
        return "the teacher, here from RNA alone"
    if with_rna == 0:
        return "the teacher, here without any RNA"
    if with_rna is None or with_rna == n:
        return "the teacher, which also sees RNA"
    return f"the teacher, which also sees the RNA of {with_rna} of {n} patients"


def summary(tests: list[Evaluation], pairs: list[Pair], oracle: bool = True) -> list[str]:
    """Sentences about the tests of one cohort: performance, comparison and, with `oracle`, share of the best possible.

    Tests on training patients are left out; see `overlap_sentences`.
    """
    honest = [test for test in tests if not test.overlap]
    if not honest:
        return []
    head, *others = sorted(honest, key=lambda test: (test.model != "student", test.model != "teacher"))
    sentences = [_opening(head)]
    sentences += [_other(test) for test in others]
    sentences += [f"{test.run}: {UNKNOWN_TEXT}." for test in [head, *others] if test.context.get(UNKNOWN_KEY)]
    sentences += [_difference(pair) for pair in pairs if (pair.leads or pair.refused) and not pair.has_overlap]
    return [*sentences, *(_oracle([head, *others]) if oracle else [])]


def overlap_sentences(tests: list[Evaluation]) -> list[str]:
    """One sentence per test on training patients, which replaces its main result."""
    return [
        f"{test.run} on {test.cohort}: {overlap_text(**test.overlap)}. They are given below without a verdict."
        for test in tests
        if test.overlap
    ]


def _opening(test: Evaluation) -> str:
    entry = test.metrics[test.primary]
    n = len(test.predictions)
    patients = f"{n} patients"
    judged = "" if entry["n"] == n else f"{entry['n']} {test.endpoint.known_outcome_name}"
    events = f"{entry['events']} events" if test.endpoint.counts_events else ""
    if judged or events:
        patients += f", {' and '.join(filter(None, (judged, events)))}"
    patients += _scale(test)
    patients += f"; {transductive}" if (transductive := transductive_text(test.context)) else ""
    name = model_words(test)
    if (training := test.context.get("training_cohort")) and training != test.cohort:
        size = f" ({test.context['n_training']} patients)" if test.context.get("n_training") else ""
        joint = " and was" if ", which" in name else ","
        where = f"other folds of {training}" if training == test.context.get("cohort") else training
        name = f"{name}{joint} trained on {where}{size},"
    elif "," in name:
        name += ","
    start = f"On the cohort {test.cohort} ({patients}), {name} "
    if entry["value"] is None:
        return f"{start}cannot be judged: {entry['reason']}."
    reading = f"; {_reading(entry)}" if test.endpoint.chance == 0.5 else ""
    sentence = f"{start}{test.endpoint.achievement(test.predictions, test.context)} {with_interval(entry)}{reading}."
    second = test.endpoint.second_sentence
    return sentence if second is None else f"{sentence} {second[0]} {with_interval(test.metrics[second[1]])}."


def _scale(test: Evaluation) -> str:
    """Name the magnification if tissue is present at only one of those that the model reads; otherwise empty."""
    tokens = {
        name.removeprefix("n_tokens_"): test.count(name) for name in test.predictions if name.startswith("n_tokens_")
    }
    there = [scale for scale, n in tokens.items() if n]
    return f", at {there[0]} alone" if len(there) == 1 < len(tokens) else ""


def _reading(entry: dict) -> str:
    if entry["low"] is None:
        return "0.5 would be chance, 1 perfect"
    if entry["low"] > 0.5:
        return "the interval lies wholly above 0.5, which is chance (1 is perfect)"
    if entry["high"] < 0.5:
        return "that is worse than chance (0.5): check the direction of the outcome"
    return "the interval includes 0.5, so it is not told from chance"


def _other(test: Evaluation) -> str:
    entry = test.metrics[test.primary]
    name = model_words(test)
    comma = "," if "," in name else ""
    notes = [] if test.run in name else [test.run]
    notes += ["transductive"] if transductive_text(test.context) else []
    run = f" ({', '.join(notes)})" if notes else ""
    start = f"{name[0].upper()}{name[1:]}{run}{comma}"
    if entry["value"] is None:
        return f"{start} cannot be judged: {entry['reason']}."
    return f"{start} reaches {with_interval(entry)}."


def _difference(pair: Pair) -> str:
    a, b = (
        f"the {test.model}" if pair.leads and pair.a.model != pair.b.model else test.run for test in (pair.a, pair.b)
    )
    if pair.refused:
        return f"{pair.a.run} and {pair.b.run} are not compared: {pair.refused}."
    difference = pair.difference
    if difference.estimate != difference.estimate:
        return f"The difference between {a} and {b} is not defined."
    metric = pair.a.endpoint.primary_name
    verdict = "" if difference.low > 0 or difference.high < 0 else ": these patients do not tell the two apart"
    p = p_text(difference.p if pair.primary else pair.p_holm) + ("" if pair.primary else " by Holm")
    return (
        f"Paired on {pair.n} patients, the {metric} of {a} minus that of {b} is {number(difference.estimate, 3)} "
        f"({intervals.level_text()} interval {number(difference.low, 3)} to {number(difference.high, 3)}, p {p}){verdict}."
    )


def across_words(pairs: list[Pair]) -> list[str]:
    """One sentence per run that was tested on the same patients in two cohorts: the effect of the changed input."""
    found = []
    for pair in pairs:
        difference = pair.difference
        if difference.estimate != difference.estimate or pair.has_overlap:
            continue
        metric = pair.a.endpoint.primary_name
        verdict = "" if difference.low > 0 or difference.high < 0 else "; these patients do not tell them apart"
        found.append(
            f"On the {pair.n} patients that {pair.a.cohort} shares with {pair.b.cohort}, the {metric} of {pair.a.run} "
            f"changes by {number(difference.estimate, 3)} ({intervals.level_text()} interval {number(difference.low, 3)} to "
            f"{number(difference.high, 3)}){verdict}."
        )
    return found


def _oracle(tests: list[Evaluation]) -> list[str]:
    shares = []
    for test in tests:
        share = test.metrics.get("share_of_oracle")
        if share and share["value"] is not None:
            interval = "" if share["low"] is None else f" ({percent(share['low'])} to {percent(share['high'])})"
            shares.append(f"{test.run} has {percent(share['value'])}{interval}")
            best = test.metrics["c_index_oracle"]["value"]
    if not shares:
        return []
    return [
        f"The cohort is simulated, so the best possible is known: the true risk itself reaches {number(best)}. "
        f"Of that excess over chance, {' and '.join(shares)}."
    ]
