"""Describe `shift.json` in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dmml.evaluation import interval_settings
from dmml.evaluation.limits.slide_limits import ALARM_SHARE
from dmml.evaluation.report.formatting import number, p_text, signed

GENE_NAMES = {"tumor": "tumor genes", "tme": "microenvironment genes"}
MODERATE, CLEAR = 0.6, 0.8
"""AUC of the classifier between training and cohort from which a shift is called moderate, and clear."""


def shift_sentences(content: Mapping[str, Any]) -> list[str]:
    """Sentences about missing inputs, the distance of each kind of input from training, and the weakest subgroup."""
    gaps = [f"{entry['n']} of {entry['of']} {name}" for name, entry in content["missing"].items() if entry["n"]]
    sentences = [f"Missing: {'; '.join(gaps)}." if gaps else "No input of the model was missing."]
    if "reason" in content:
        sentences.append(f"The shift against the training patients cannot be measured: {content['reason']}.")
    sentences += [_sentence(name, entry) for name, entry in compared(content).items()]
    if unlike := content.get("unlike_slides"):
        sentences.append(
            f"{unlike['n']} of {unlike['of']} patients have a slide that is unlike the training slides, where about "
            f"{100 * ALARM_SHARE:g} % are expected of patients like those of the training."
        )
    if content.get("reads_rna") is False and content.get("expression"):
        sentences.append("The student does not read RNA, so a shift of the genes does not affect its predictions.")
    return sentences + _subgroups(content.get("subgroups") or [])


def compared(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """{display name: comparison} of every input in `shift.json` that was compared with training."""
    comparisons = {f"tile features at {name}": entry for name, entry in (content.get("features") or {}).items()}
    if "stain" in content:
        comparisons["stain"] = content["stain"]
    return comparisons | {
        GENE_NAMES.get(name, name): entry for name, entry in (content.get("expression") or {}).items()
    }


def _sentence(name: str, comparison: Mapping[str, Any]) -> str:
    start = f"{name[0].upper()}{name[1:]}: "
    if comparison.get("within"):
        text = "standardised within this cohort, so that every gene has the training mean and spread by construction"
        text += "; only how the genes vary together is compared" if "auc" in comparison else ""
    elif comparison.get("median_shift") is None:
        return f"{start}not compared ({comparison.get('reason', 'no value is known')})."
    else:
        text = (
            f"the median variable lies {comparison['median_shift']:.2f} training standard deviations from the training "
            f"mean ({comparison['expected_shift']:.2f} by chance), and {100 * comparison['share_shifted']:.0f} % of the "
            "variables lie more than 0.5 away"
        )
    if "auc" not in comparison:
        return f"{start}{text}; {comparison.get('reason', 'patients are not compared as a whole')}."
    return f"{start}{text}; {verdict(comparison)}."


def verdict(comparison: Mapping[str, Any]) -> str:
    """Describe how well the cohort can be separated from training patients; the permutation p rules out chance.

    Args:
        comparison: Comparison with `auc` and its permutation `p`.
    """
    auc, p = round(comparison["auc"], 2), comparison["p"]
    if p >= interval_settings.alpha():
        text = "no shift is detected: a classifier separates the patients from training patients no better than chance"
    else:
        size, share = (
            ("slight", "few") if auc < MODERATE else ("moderate", "many") if auc < CLEAR else ("clear", "most")
        )
        text = f"the shift is {size}: a classifier separates {share} of the patients from training patients"
    chance = "p < 0.001" if p < 0.0015 else f"p = {p:.3f}"
    return f"{text} (AUC {auc:.2f}, where 0.5 or less means no separation; permutation {chance})"


def _subgroups(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    defined = [row for row in rows if row.get("value") is not None]
    if len(defined) < 2:
        return []
    worst, best = (choose(defined, key=lambda row: row["value"]) for choose in (min, max))
    metric = "concordance" if worst["metric"] == "c_index" else "AUC"
    lowest, highest = (
        f"{row['column']} {row['level']} ({row['n']} patients): {row['value']:.2f}"
        + ("" if row["low"] is None else f" ({row['low']:.2f} to {row['high']:.2f})")
        for row in (worst, best)
    )
    return [
        f"Among {len(defined)} subgroups, the {metric} is lowest for {lowest}, and highest for {highest}. With so many "
        "groups, some differ by chance.",
        *_gaps(rows, metric),
    ]


def _gaps(rows: Sequence[Mapping[str, Any]], metric: str) -> list[str]:
    """Name the groups that differ from the others after adjustment; none for results of an earlier dmml."""
    gaps = [(row, row["gap"]) for row in rows if row.get("gap") and row["gap"].get("p_holm") is not None]
    if not gaps:
        return []
    clear = [(row, gap) for row, gap in gaps if gap["p_holm"] < interval_settings.alpha()]
    if not clear:
        widest, gap = max(gaps, key=lambda pair: abs(pair[1]["value"]))
        return [
            f"No group differs clearly from the others after adjustment by Holm's method. The widest gap is that of "
            f"{_gap_text(widest, gap)}."
        ]
    differing = "; ".join(_gap_text(row, gap) for row, gap in clear)
    return [f"After adjustment by Holm's method, the {metric} differs from that of the other patients for {differing}."]


def _gap_text(row: Mapping[str, Any], gap: Mapping[str, Any]) -> str:
    limits = "" if gap["low"] is None else f", {number(gap['low'])} to {number(gap['high'])}"
    return f"{row['column']} {row['level']} ({signed(gap['value'])}{limits}; p {p_text(gap['p_holm'])})"
