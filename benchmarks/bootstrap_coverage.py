"""How often do the 95 % intervals of dmml contain the true value? Cohorts are drawn from a population with a known value.

    python benchmarks/bootstrap_coverage.py            # 1,000 cohorts per row, about 12 minutes on one core
    python benchmarks/bootstrap_coverage.py --quick    # 200 cohorts of one scenario, about 20 seconds

Intervals are computed as those of `metrics.json` and `crossval.json`: stratified resamples, bias-corrected, accelerated.
They are compared with plain percentiles of the unscaled stratified bootstrap.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dmml.cohort.clinical.follow_up import CensoringCurve, censoring_curve
from dmml.evaluation.bootstrap import resamples, weighted_difference, weighted_interval
from dmml.evaluation.statistics import classification, weighted
from dmml.evaluation.statistics.bca import percentiles
from dmml.evaluation.statistics.pooled import FoldPredictions, pooled_metric
from dmml.evaluation.statistics.weighted import Weighted

POPULATION, POPULATIONS = 4_000, 8
"""Number of populations over which the true value is averaged: pairs grow with the square of the patients, precision does not"""
CLASSES = (0.5, 0.3, 0.2)


class Scenario(NamedTuple):
    """A population: follow-up in days (from, to), distance between the classes, and the day of `ibs` and AUC."""

    name: str
    follow_up: tuple[float, float]
    separation: float
    day: float


SCENARIOS = (
    Scenario("usual: most events seen, classes overlap", (200, 3000), 1.2, 1095),
    Scenario("hard: few events, classes nearly apart", (20, 400), 2.0, 200),
)
FOLDS = (0.5, 0.8, 1.2)
"""Noise of the models of three folds, whose risks have different scales"""
TRAINING = 200
"""Patients whose follow-up gives the censoring distribution, which an interval takes as fixed"""
STEPS = 20
"""Number of times of the integrated Brier score"""
CHECKED = (
    "c_index", "c_index_ipcw", "ibs", "auc_<day>", "auc", "balanced_accuracy", "f1_macro", "kappa_quadratic", "ece",
    "pooled c_index", "paired difference of c_index",
)  # fmt: skip
UNCHECKED = (
    "accuracy, share_of_oracle, pooled metrics other than concordance, intervals over several repeats and seeds, "
    "and the slope and intercept of calibration."
)


class Survivors(NamedTuple):
    """Patients with the risks of two models, of which `a` is the better one."""

    time: NDArray
    event: NDArray
    a: NDArray
    b: NDArray


def survivors(n: int, scenario: Scenario, seed: int, followed: bool = True) -> Survivors:
    """Exponential survival with a true log hazard of standard deviation 1; both risks are this log hazard with noise.

    Args:
        n: Number of patients.
        scenario: The population.
        seed: Seed of all random numbers.
        followed: Whether patients are censored; otherwise all times are times of death.
    """
    generator = np.random.default_rng([seed, 1])
    hazard = generator.normal(size=n)
    death, end = generator.exponential(1000 * np.exp(-hazard)), generator.uniform(*scenario.follow_up, n)
    a, b = (hazard + spread * generator.normal(size=n) for spread in (0.8, 1.5))
    if not followed:
        return Survivors(death, np.ones(n), a, b)
    return Survivors(np.minimum(death, end), (death <= end).astype(float), a, b)


def classified(n: int, scenario: Scenario, seed: int) -> tuple[NDArray, NDArray]:
    """Labels (n,) of three classes, and probabilities (n, 3)."""
    generator = np.random.default_rng([seed, 2])
    label = generator.choice(len(CLASSES), n, p=CLASSES)
    logit = generator.normal(size=(n, len(CLASSES)))
    logit[np.arange(n), label] += scenario.separation
    probability = np.exp(logit)
    return label, probability / probability.sum(1, keepdims=True)


def of_folds(n: int, scenario: Scenario, seed: int) -> list[FoldPredictions]:
    """Patients (n) in three folds, each predicted by a separate model."""
    people, parts = survivors(n, scenario, seed), []
    generator = np.random.default_rng([seed, 3])
    for fold, index in enumerate(np.array_split(generator.permutation(n), len(FOLDS))):
        risk = 100 * fold + people.a[index] + FOLDS[fold] * generator.normal(size=len(index))
        parts.append(
            FoldPredictions(
                index, pd.DataFrame({"time": people.time[index], "event": people.event[index], "risk": risk})
            )
        )
    return parts


def of_survival(people: Survivors, scenario: Scenario, censoring: CensoringCurve) -> dict[str, Weighted]:
    """{metric: weighted form} of the better model."""
    times = np.linspace(0, scenario.day, STEPS + 1)[1:]
    curves = np.exp(-times * np.exp(people.a)[:, None] / 1000)  # too dispersed, like the predictions of many models
    outcome = (people.time, people.event)
    return {
        "c_index": weighted.harrell(*outcome, people.a),
        "c_index_ipcw": weighted.uno(*outcome, people.a, censoring, scenario.day),
        "ibs": weighted.brier(*outcome, curves, times, censoring),
        "auc_<day>": weighted.dynamic_auc(*outcome, people.a, scenario.day, censoring),
    }


def of_classes(label: NDArray, probability: NDArray) -> dict[str, Weighted]:
    """{metric: weighted form}."""
    return {
        "auc": classification.macro_auc(label, probability),
        "balanced_accuracy": classification.balanced_accuracy(label, probability),
        "f1_macro": classification.macro_f1(label, probability),
        "kappa_quadratic": classification.quadratic_kappa(label, probability),
        "ece": classification.calibration_error(label, probability),
    }


def truths(scenario: Scenario) -> dict[str, float]:
    """True values, from populations so large that chance does not matter.

    Metrics that are weighted against censoring are computed without censoring; Harrell's depends on the follow-up.
    """
    nobody = CensoringCurve(np.zeros(0), np.zeros(0))
    populations = []
    for seed in range(10**6, 10**6 + POPULATIONS):
        people, whole = (survivors(POPULATION, scenario, seed, followed) for followed in (True, False))
        forms = of_survival(whole, scenario, nobody) | of_classes(*classified(POPULATION, scenario, seed))
        forms["c_index"] = weighted.harrell(people.time, people.event, people.a)
        values = {name: weighted.estimate(form, POPULATION) for name, form in forms.items()}
        other = weighted.estimate(weighted.harrell(people.time, people.event, people.b), POPULATION)
        values["pooled c_index"] = weighted.estimate(
            pooled_metric("c_index", of_folds(POPULATION, scenario, seed)), POPULATION
        )
        values["paired difference of c_index"] = values["c_index"] - other
        populations.append([values[name] for name in CHECKED])
    return dict(zip(CHECKED, map(float, np.mean(populations, axis=0)), strict=True))


def one_cohort(n: int, scenario: Scenario, seed: int, draws: int) -> dict[str, tuple[tuple, tuple]]:
    """{metric: (interval of dmml, plain percentiles)} of a cohort."""
    people, (label, probability) = survivors(n, scenario, seed), classified(n, scenario, seed)
    training = survivors(TRAINING, scenario, seed + 10**7)
    censoring = censoring_curve(training.time, training.event)
    parts = of_folds(n, scenario, seed)
    fold = np.zeros(n, int)
    for number, part in enumerate(parts):
        fold[part.index] = number
    b = weighted.harrell(people.time, people.event, people.b)
    forms = {name: (form, people.event) for name, form in of_survival(people, scenario, censoring).items()}
    forms |= {name: (form, label) for name, form in of_classes(label, probability).items()}
    a = forms["c_index"][0]
    forms["pooled c_index"] = (pooled_metric("c_index", parts), 2 * fold + people.event)
    forms["paired difference of c_index"] = (lambda weights: a(weights) - b(weights), people.event)
    intervals_of = {}
    for name in CHECKED:
        metric, strata = forms[name]
        strata = None if name == "ibs" else strata
        counts = resamples(n, strata, draws, seed)
        ours = weighted_difference(a, b, counts) if name.startswith("paired") else weighted_interval(metric, counts)
        plain = percentiles(metric(resamples(n, strata, draws, seed, whole=True)))
        intervals_of[name] = ((ours.low, ours.high), plain)
    return intervals_of


def measure(n: int, scenario: Scenario, cohorts: int, draws: int) -> list[dict]:
    """One row per metric: how often the true value lies in, above and below the interval, and the mean width."""
    true = truths(scenario)
    ends = {name: [] for name in true}
    for seed in range(cohorts):
        for name, both in one_cohort(n, scenario, seed, draws).items():
            ends[name].append(both)
    rows = []
    for name, both in ends.items():
        ours, plain = np.moveaxis(np.array(both), 1, 0)  # each (cohorts, 2)
        rows.append(
            {
                "scenario": scenario.name,
                "n": n,
                "metric": name,
                "truth": true[name],
                "coverage": float(((ours[:, 0] <= true[name]) & (true[name] <= ours[:, 1])).mean()),
                "truth_below": float((true[name] < ours[:, 0]).mean()),
                "truth_above": float((true[name] > ours[:, 1]).mean()),
                "width": float((ours[:, 1] - ours[:, 0]).mean()),
                "plain_percentiles": float(((plain[:, 0] <= true[name]) & (true[name] <= plain[:, 1])).mean()),
                "cohorts": cohorts,
            }
        )
    return rows


def markdown(rows: list[dict], command: str, draws: int) -> str:
    """The page of docs/results."""
    lines = [
        "# Do the 95 % intervals contain the true value?",
        "",
        f"`{command}`. Cohorts of n patients are drawn from a population with a known value, and each gets an "
        f"interval computed as those of `metrics.json` and `crossval.json`, but from {draws:,} draws in place of "
        f"2,000, which makes its ends slightly less stable. {rows[0]['cohorts']:,} cohorts per row: the coverage "
        "itself is accurate to about ± "
        f"{196 * np.sqrt(0.95 * 0.05 / rows[0]['cohorts']):.1f} %.",
        "",
        "| scenario | n | metric | truth | coverage | truth below | truth above | mean width | plain percentiles |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shares = [f"{100 * row[key]:.1f} %" for key in ("coverage", "truth_below", "truth_above")]
        lines.append(
            f"| {row['scenario']} | {row['n']} | {row['metric']} | {row['truth']:.3f} | {' | '.join(shares)} | "
            f"{row['width']:.3f} | {100 * row['plain_percentiles']:.1f} % |"
        )
    reported = [row for row in rows if row["metric"] != "ece"]
    low, high = (pick(row["coverage"] for row in reported) for pick in (min, max))
    plain = min(row["plain_percentiles"] for row in reported)
    lines += [
        "",
        f"Coverage lies between {100 * low:.1f} and {100 * high:.1f} % except for `ece`. Plain percentiles, the "
        "usual choice, fall to "
        f"{100 * plain:.1f} %. The differences: m − 1 of the m patients of a stratum are drawn, with the weight m / "
        "(m − 1), "
        "and the ends are corrected for bias and skewness (BCa).",
        "",
        f"`c_index_ipcw`, `ibs` and `auc_<day>` take the censoring distribution of {TRAINING} training patients, and "
        "look to "
        f"day {' and day '.join(f'{one.day:g}' for one in SCENARIOS)} in the two scenarios; their true value is that "
        "of a population without censoring. `pooled c_index` is that of three folds with one model each. An "
        "expected calibration "
        "error is not a smooth statistic: bins with few patients vary, so a small error looks larger than it is, and "
        "neither kind of interval is reliable.",
        "",
        f"Not measured: {UNCHECKED}",
    ]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="200 cohorts of 90 patients, one scenario")
    parser.add_argument("--cohorts", type=int, default=1000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[90, 150])
    parser.add_argument("--draws", type=int, default=1000, help="resamples")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args(argv)
    command = "python benchmarks/bootstrap_coverage.py"
    scenarios = SCENARIOS
    if args.quick:
        scenarios, args.cohorts, args.sizes, args.draws = SCENARIOS[:1], 200, [90], 500
        command += " --quick"
    elif (args.cohorts, args.draws) != (1000, 1000):
        command += f" --cohorts {args.cohorts} --draws {args.draws}"
    rows = [row for scenario in scenarios for n in args.sizes for row in measure(n, scenario, args.cohorts, args.draws)]
    page = markdown(rows, command, args.draws)
    print(page)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "bootstrap_coverage.md").write_text(page, encoding="utf-8")
    (args.out / "bootstrap_coverage.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
