"""The page of `real_histology.py`: targets, results, and how each result was computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Results = Mapping[str, Any]
COMMAND = "python benchmarks/real_histology.py --data ../shared/data --out docs/results"
TITLES = {
    "luad": "TCGA-LUAD: tissue areas and cells of each slide, with RNA",
    "nuclear": "TCGA-LUAD: shapes of nuclei, eight kinds of cells per slide, with RNA",
    "hancock": "HANCOCK: p16 positive (code 2) against code 1",
    "oropharynx": "HANCOCK: p16 positive (code 2) against code 0",
    "musk1": "musk1: ten folds, five times",
}
TARGETS = {"ESTIMATE_IMMUNE": 0.53, "HALLMARK_G2M_CHECKPOINT": 0.46, "ESTIMATE_STROMAL": 0.38}
"""Minimum Spearman correlation of the student's programs on LUAD"""
ASKED_P16 = 0.88
NAMES = {
    "ridge": "ridge on the slide's vectors, by hand",
    "student": "student",
    "student_undistilled": "student without a teacher",
    "histology_abmil": "gated ABMIL",
    "histology_mean": "network on the mean vector",
    "teacher": "teacher (also reads RNA)",
    "rna_linear": "ridge on RNA",
}
PUBLISHED = {
    "mi-Net": "0.889 ± 0.039",
    "MI-Net": "0.887 ± 0.041",
    "attention": "0.892 ± 0.040",
    "gated attention": "0.900 ± 0.050",
}
"""Accuracy on musk1 in ten folds, five times, as reported by Ilse et al. 2018"""
SOURCE = "Ilse, Tomczak and Welling, *Attention-based Deep Multiple Instance Learning*, ICML 2018, arXiv:1802.04712"


def page(results: Results) -> str:
    """Markdown of all parts; parts that were not run are named as not measured."""
    lines = [
        "# Real histology as vectors of slides",
        "",
        "Published features of real slides, one or several vectors per slide, imported with `dmml features import` and "
        "cross-validated with `dmml crossval`. A value is over patients in the fold that tests them, with the 95 % "
        "interval of 2,000 draws of patients within folds; differences are over the same patients. Concordance and "
        "AUC "
        "count pairs within folds. Models *by hand* use scikit-learn and lifelines alone, their penalties chosen among "
        "training patients: features standardised by training patients and clipped at ±5, several vectors of a "
        "patient averaged.",
        "",
        f"    {COMMAND}",
        "",
        "| target | measured | |",
        "|---|---|---|",
        *_target(results),
    ]
    for name, title in TITLES.items():
        lines += ["", f"## {title}", ""]
        lines += _part(name, results[name]) if name in results else ["Not measured."]
    return "\n".join(lines) + "\n"


def _target(results: Results) -> list[str]:
    rows = []
    for program, bound in TARGETS.items():
        models = results.get("luad", {}).get("programs", {}).get(program, {}).get("models", {})
        what = f"LUAD: {program} as the student reads it, Spearman ≥ {bound}"
        rows.append(_bar(what, models.get("student"), bound, results.get("luad")))
    models = results.get("hancock", {}).get("classes", {}).get("auc", {}).get("models", {})
    what = f"HANCOCK: p16 by a student, AUC ≥ {ASKED_P16}"
    return [*rows, _bar(what, models.get("student_undistilled"), ASKED_P16, results.get("hancock"))]


def _bar(what: str, figure: Results | None, bound: float, part: Results | None) -> str:
    if figure is None or part is None:
        return f"| {what} | not measured | |"
    if part["folds"] < part["of"]:
        return f"| {what} | {_value(figure)} | {part['folds']} of {part['of']} folds: too few to say |"
    return f"| {what} | {_value(figure)} | {'reached' if figure['value'] >= bound else '**missed**'} |"


def _part(name: str, results: Results) -> list[str]:
    made = results["made"]
    commit = f" at commit {made['commit']}" if "commit" in made else ""
    whole = results["folds"] == results["of"]
    networks = (
        ""
        if whole
        else f" Networks: {results['folds']} of {results['of']} folds, so all figures but ridge alone are partial."
    )
    side_by_side = results["ridge features"] != results["features"]
    ridge = f" (ridge by hand reads all {results['ridge features']} side by side)" if side_by_side else ""
    lines = [
        f"{results['features']} features{ridge}. Made with dmml {made['dmml']}{commit} on {made['date']}.{networks}"
    ]
    if "survival" in results:
        lines += _figures("Overall survival, concordance", results["survival"])
        for program, figures in results["programs"].items():
            lines += _figures(f"{program}, Spearman's correlation with the measured program", figures)
    for score, title in {"auc": "AUC", "accuracy": "Accuracy"}.items():
        if "classes" in results:
            lines += _figures(title, results["classes"][score])
    return lines + _notes(name)


def _notes(name: str) -> list[str]:
    if name == "hancock":
        return [
            "",
            "Code 1 occurs almost only outside of the oropharynx, and code 2 only within it, so that part of this "
            "result is due to the site; the next section compares within the oropharynx.",
        ]
    if name == "musk1":
        rows = [f"| {method} | {figure} |" for method, figure in PUBLISHED.items()]
        source = f"Accuracies in ten folds reported by {SOURCE}; they were not measured here, and the folds differ:"
        return ["", source, "", "| method | accuracy |", "|---|---|", *rows]
    return []


def _figures(title: str, results: Results) -> list[str]:
    lines = [
        "",
        f"**{title}**, {results['patients']} predictions that all models make:",
        "",
        "| model | figure (95 %) |",
        "|---|---|",
    ]
    lines += [f"| {NAMES[name]} | {_value(figure)} |" for name, figure in results["models"].items()]
    if whole := results.get("ridge alone"):
        lines.append(f"| the same ridge on all {whole['patients']} predictions | {_value(whole['models']['ridge'])} |")
    if results["paired"]:
        lines += ["", "| comparison | difference (95 %) |", "|---|---|"]
    for row in results["paired"]:
        lines.append(
            f"| {NAMES[row['a']]} − {NAMES[row['b']]} | {row['difference']:+.3f} ({row['low']:+.3f} to "
            f"{row['high']:+.3f}) |"
        )
    return lines


def _value(figure: Results) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
