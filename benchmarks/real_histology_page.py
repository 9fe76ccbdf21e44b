"""The page of `real_histology.py`: the targets, what was measured, and how each figure was made."""

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
ASKED = {"ESTIMATE_IMMUNE": 0.53, "HALLMARK_G2M_CHECKPOINT": 0.46, "ESTIMATE_STROMAL": 0.38}
"""Spearman's correlation that the student's programs should reach on LUAD"""
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
"""Accuracy on musk1 of ten folds, five times, as Ilse et al. 2018 are quoted for it"""
SOURCE = "Ilse, Tomczak and Welling, *Attention-based Deep Multiple Instance Learning*, ICML 2018, arXiv:1802.04712"


def page(results: Results) -> str:
    """Markdown of all parts; what was not run is said to be not measured."""
    lines = [
        "# Real histology as vectors of slides",
        "",
        "Features that others measured on real slides, one or several vectors each, imported with `dmml features import` and "
        "cross-validated with `dmml crossval`. A figure is over patients who were tested by the fold that left them out, with "
        "the 95 % interval of 2,000 draws of patients within folds; differences are of the same patients. Concordance and AUC "
        "count pairs within folds. Models *by hand* use scikit-learn and lifelines alone, their penalties chosen among "
        "training patients: features scaled by training patients and cut at ±5, several vectors of a patient averaged.",
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
    for program, bound in ASKED.items():
        models = results.get("luad", {}).get("programs", {}).get(program, {}).get("models", {})
        what = f"LUAD: {program} as the student reads it, Spearman ≥ {bound}"
        rows.append(_bar(what, models.get("student"), bound, results.get("luad")))
    models = results.get("hancock", {}).get("classes", {}).get("auc", {}).get("models", {})
    what = f"HANCOCK: p16 by a student, AUC ≥ {ASKED_P16}"
    return [*rows, _bar(what, models.get("student_undistilled"), ASKED_P16, results.get("hancock"))]


def _bar(what: str, found: Results | None, bound: float, part: Results | None) -> str:
    if found is None or part is None:
        return f"| {what} | not measured | |"
    if part["folds"] < part["of"]:
        return f"| {what} | {_value(found)} | {part['folds']} of {part['of']} folds: too few to say |"
    return f"| {what} | {_value(found)} | {'reached' if found['value'] >= bound else '**missed**'} |"


def _part(name: str, found: Results) -> list[str]:
    made = found["made"]
    commit = f" at commit {made['commit']}" if "commit" in made else ""
    whole = found["folds"] == found["of"]
    networks = (
        ""
        if whole
        else f" Networks: {found['folds']} of {found['of']} folds, so all figures but ridge alone are partial."
    )
    side_by_side = found["ridge features"] != found["features"]
    ridge = f" (ridge by hand reads all {found['ridge features']} side by side)" if side_by_side else ""
    lines = [f"{found['features']} features{ridge}. Made with dmml {made['dmml']}{commit} on {made['date']}.{networks}"]
    if "survival" in found:
        lines += _figures("Overall survival, concordance", found["survival"])
        for program, figures in found["programs"].items():
            lines += _figures(f"{program}, Spearman's correlation with the measured program", figures)
    for score, title in {"auc": "AUC", "accuracy": "Accuracy"}.items():
        if "classes" in found:
            lines += _figures(title, found["classes"][score])
    return lines + _notes(name)


def _notes(name: str) -> list[str]:
    if name == "hancock":
        return [
            "",
            "Code 1 is almost only given outside of the oropharynx, and code 2 only within it, so that part of this figure is "
            "the site; the next section compares within the oropharynx.",
        ]
    if name == "musk1":
        rows = [f"| {method} | {figure} |" for method, figure in PUBLISHED.items()]
        told = f"Accuracies of ten folds that are quoted from {SOURCE}; they were not measured here, and other folds were used:"
        return ["", told, "", "| method | accuracy |", "|---|---|", *rows]
    return []


def _figures(title: str, found: Results) -> list[str]:
    lines = [
        "",
        f"**{title}**, {found['patients']} predictions that all models make:",
        "",
        "| model | figure (95 %) |",
        "|---|---|",
    ]
    lines += [f"| {NAMES[name]} | {_value(figure)} |" for name, figure in found["models"].items()]
    if whole := found.get("ridge alone"):
        lines.append(f"| the same ridge on all {whole['patients']} predictions | {_value(whole['models']['ridge'])} |")
    if found["paired"]:
        lines += ["", "| comparison | difference (95 %) |", "|---|---|"]
    for row in found["paired"]:
        lines.append(
            f"| {NAMES[row['a']]} − {NAMES[row['b']]} | {row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f}) |"
        )
    return lines


def _value(figure: Results) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
