"""How often the 95 % intervals of dmml hold the true value: cohorts are drawn from a population whose value is known.

    python benchmarks/bootstrap_coverage.py            # 1,000 cohorts a row, about 10 minutes on one core
    python benchmarks/bootstrap_coverage.py --quick    # 200 cohorts of one scenario, seconds

Intervals are made as those of `metrics.json` and `crossval.json` are: stratified resamples, bias-corrected, accelerated.
Plain percentiles of the unscaled stratified bootstrap stand beside them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation import classification, weighted
from dmml.evaluation.bca import percentiles
from dmml.evaluation.bootstrap import resamples, weighted_difference, weighted_interval

POPULATION, POPULATIONS = 4_000, 8
"""The truth is a mean over so many: pairs grow with the square of the patients, precision does not."""
CLASSES = (0.5, 0.3, 0.2)


class Scenario(NamedTuple):
    """Where cohorts come from: follow-up in days (from, to), and how far the classes lie apart."""

    name: str
    follow_up: tuple[float, float]
    separation: float


SCENARIOS = (
    Scenario("usual: most events seen, classes overlap", (200, 3000), 1.2),
    Scenario("hard: few events, classes nearly apart", (20, 400), 2.0),
)


class Survivors(NamedTuple):
    """Patients with two models' risks, of which `a` is the better one."""

    time: NDArray
    event: NDArray
    a: NDArray
    b: NDArray


def survivors(n: int, scenario: Scenario, seed: int) -> Survivors:
    """Exponential survival with a true log hazard of spread 1; both risks are that with noise."""
    generator = np.random.default_rng([seed, 1])
    hazard = generator.normal(size=n)
    death, end = generator.exponential(1000 * np.exp(-hazard)), generator.uniform(*scenario.follow_up, n)
    a, b = (hazard + spread * generator.normal(size=n) for spread in (0.8, 1.5))
    return Survivors(np.minimum(death, end), (death <= end).astype(float), a, b)


def classified(n: int, scenario: Scenario, seed: int) -> tuple[NDArray, NDArray]:
    """Labels (n,) of three classes, and probabilities (n, 3)."""
    generator = np.random.default_rng([seed, 2])
    label = generator.choice(len(CLASSES), n, p=CLASSES)
    logit = generator.normal(size=(n, len(CLASSES)))
    logit[np.arange(n), label] += scenario.separation
    probability = np.exp(logit)
    return label, probability / probability.sum(1, keepdims=True)


def truths(scenario: Scenario) -> dict[str, float]:
    """The values that intervals should hold, from populations too large for chance to matter."""
    found = []
    for seed in range(10**6, 10**6 + POPULATIONS):
        people, (label, probability) = survivors(POPULATION, scenario, seed), classified(POPULATION, scenario, seed)
        a, b = (weighted.harrell(people.time, people.event, risk) for risk in (people.a, people.b))
        forms = (
            a,
            b,
            classification.macro_auc(label, probability),
            classification.balanced_accuracy(label, probability),
        )
        found.append([weighted.estimate(form, POPULATION) for form in forms])
    a, b, auc, balanced = np.mean(found, axis=0)
    return {
        "c_index": float(a),
        "auc": float(auc),
        "balanced_accuracy": float(balanced),
        "paired difference of c_index": float(a - b),
    }


def one_cohort(n: int, scenario: Scenario, seed: int, draws: int) -> dict[str, tuple[tuple, tuple]]:
    """{metric: (interval of dmml, plain percentiles)} of a cohort."""
    people, (label, probability) = survivors(n, scenario, seed), classified(n, scenario, seed)
    a, b = (weighted.harrell(people.time, people.event, risk) for risk in (people.a, people.b))
    forms: dict[str, tuple[Callable, NDArray]] = {
        "c_index": (a, people.event),
        "auc": (classification.macro_auc(label, probability), label),
        "balanced_accuracy": (classification.balanced_accuracy(label, probability), label),
        "paired difference of c_index": (lambda weights: a(weights) - b(weights), people.event),
    }
    found = {}
    for name, (metric, strata) in forms.items():
        counts = resamples(n, strata, draws, seed)
        ours = weighted_difference(a, b, counts) if name.startswith("paired") else weighted_interval(metric, counts)
        plain = percentiles(metric(resamples(n, strata, draws, seed, whole=True)))
        found[name] = ((ours.low, ours.high), plain)
    return found


def measure(n: int, scenario: Scenario, cohorts: int, draws: int) -> list[dict]:
    """A row a metric: how often the truth lies in, above and below the interval, and how wide that is."""
    true = truths(scenario)
    ends = {name: [] for name in true}
    for seed in range(cohorts):
        for name, found in one_cohort(n, scenario, seed, draws).items():
            ends[name].append(found)
    rows = []
    for name, found in ends.items():
        ours, plain = np.moveaxis(np.array(found), 1, 0)  # each (cohorts, 2)
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


def markdown(rows: list[dict], command: str) -> str:
    """The page of the results."""
    lines = [
        "# Do the 95 % intervals hold the truth?",
        "",
        f"`{command}`. Cohorts of n patients are drawn from a population whose value is known, and each gets the interval "
        f"that `metrics.json` would have. {rows[0]['cohorts']:,} cohorts a row: the coverage itself is known to about ± "
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
    low, high = (pick(row["coverage"] for row in rows) for pick in (min, max))
    plain = min(row["plain_percentiles"] for row in rows)
    lines += [
        "",
        f"Coverage lies between {100 * low:.1f} and {100 * high:.1f} %. Plain percentiles, the usual choice, fall to "
        f"{100 * plain:.1f} %. What differs: m − 1 of the m patients of a stratum are drawn, with the weight m / (m − 1), "
        "and the ends are corrected for bias and skewness (BCa).",
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
    page = markdown(rows, command)
    print(page)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "bootstrap_coverage.md").write_text(page, encoding="utf-8")
    (args.out / "bootstrap_coverage.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
