"""The tables that a cross-validation shows: models, comparisons, what each adds to the clinical model, missing folds."""

from __future__ import annotations

from typing import Any

from dmml.evaluation import interval_settings
from dmml.evaluation.endpoints.find import endpoint_of
from dmml.experiment.crossval.models import LINEAR
from dmml.experiment.crossval.plan import FoldRun


def format_tables(result: dict[str, Any]) -> str:
    """Format the tables of `crossval.json` as text, followed by notes on undefined, outlying and missing folds."""
    metric = result["primary_metric"]
    events = f", {result['events']} events" if result["events"] is not None else ""
    folds = len({(unit["repeat"], unit["fold"]) for unit in result["units"]})
    lines = [
        f"{result['cohort']}: {endpoint_of(result).axis_name} of {result['patients']} patients{events}, each tested by models that never saw them",
        "",
        f"{'model':<30}{f'mean of {folds} folds ± sd':<24}pooled within folds ({interval_settings.level_text()} interval)",
    ]
    for name, metrics in result["models"].items():
        entry = metrics[metric]
        mean = "undefined" if entry["mean"] is None else f"{entry['mean']:.3f}"
        mean += "" if entry["sd"] is None else f" ± {entry['sd']:.3f}"
        lines.append(f"{name:<30}{mean:<24}{_interval(entry['pooled'], 'value')}")
    if result["paired"]:
        lines += [
            "",
            f"{'comparison':<44}{f'difference ({interval_settings.level_text()} interval)':<28}{'p':<9}{'Holm':<9}{'resampled t':<13}Holm",
        ]
        for row in result["paired"]:
            pair = f"{row['a']} − {row['b']}" + (" *" if row["primary"] else "")
            difference = _interval(row, "difference", "+")
            lines.append(
                f"{pair:<44}{difference:<28}{_p(row['p']):<9}{_p(row.get('p_holm')):<9}{_p(row['p_resampled']):<13}"
                f"{_p(row.get('p_resampled_holm'))}".rstrip()
            )
        if any(row["primary"] for row in result["paired"]):
            lines.append("* the primary comparison, outside the adjustment of the others")
    if result.get("added_to_clinical"):
        lines += ["", f"{'added to the clinical model':<30}{'chi² (1 df)':<14}{'p':<9}Holm"]
        for name, test in result["added_to_clinical"].items():
            lines.append(f"{name:<30}{test['chi2']:<14.2f}{_p(test['p']):<9}{_p(test['p_holm'])}")
    return "\n".join([*lines, *_undefined(result, metric), *_outlying(result), *_missing(result)])


def _interval(entry: dict[str, Any], key: str, sign: str = "") -> str:
    if entry[key] is None:
        return "undefined"
    ends = "" if entry["low"] is None else f" ({entry['low']:{sign}.3f} to {entry['high']:{sign}.3f})"
    return f"{entry[key]:{sign}.3f}{ends}"


def _p(value: float | None) -> str:
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _undefined(result: dict[str, Any], metric: str) -> list[str]:
    models_by_reason: dict[str, list[str]] = {}
    for name, metrics in result["models"].items():
        for run, reason in metrics[metric].get("undefined", {}).items():
            models_by_reason.setdefault(f"undefined in {run}: {reason}", []).append(name)
    return [f"{reason} ({', '.join(names)})" for reason, names in models_by_reason.items()]


def _outlying(result: dict[str, Any]) -> list[str]:
    """Describe outlying folds, and where to look at the training curves of a network; regressions have none."""
    return [
        f"{row['model']} in {FoldRun(row['repeat'], row['fold'], row['seed'])}: {row['value']:.3f}, far from its other folds "
        f"({row['lowest']:.3f} to {row['highest']:.3f})"
        + ("" if row["model"] in LINEAR else "; report.html shows its training")
        for row in result.get("outlying_folds") or []
    ]


def _missing(result: dict[str, Any]) -> list[str]:
    return [
        f"missing: {name} ({', '.join(runs[:5])}{', …' if len(runs) > 5 else ''}); it is left out of the tables"
        for name, runs in result.get("missing", {}).items()
    ]
