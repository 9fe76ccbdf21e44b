"""Describe `shift.json` in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = {"tumor": "tumor genes", "tme": "microenvironment genes"}
SMALL_P = 0.05
SLIGHT, CLEAR = 0.6, 0.8
"""AUC of the classifier between training and cohort from which a shift is called moderate, and clear."""


def shift_words(content: Mapping[str, Any]) -> list[str]:
    """Sentences about missing inputs, the distance of each kind of input from training, and the weakest subgroup."""
    gaps = [f"{entry['n']} of {entry['of']} {what}" for what, entry in content["missing"].items() if entry["n"]]
    sentences = [f"Missing: {'; '.join(gaps)}." if gaps else "Nothing that the model reads was missing."]
    if "reason" in content:
        sentences.append(f"The shift against training cannot be told: {content['reason']}.")
    for name, found in compared(content).items():
        sentences.append(_sentence(name, found))
    if content.get("reads_rna") is False and content.get("expression"):
        sentences.append("The student reads no RNA: how far the genes lie from training touches no prediction.")
    return sentences + _subgroups(content.get("subgroups") or [])


def compared(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """{display name: comparison} of every input in `shift.json` that was compared with training."""
    found = {f"tile features at {name}": entry for name, entry in (content.get("features") or {}).items()}
    if "stain" in content:
        found["stain"] = content["stain"]
    return found | {NAMES.get(name, name): entry for name, entry in (content.get("expression") or {}).items()}


def _sentence(name: str, found: Mapping[str, Any]) -> str:
    start = f"{name[0].upper()}{name[1:]}: "
    if found.get("within"):
        text = "standardised within this cohort, so that every gene has the training mean and spread by construction"
        text += "; only how the genes vary together is compared" if "auc" in found else ""
    elif found.get("median_shift") is None:
        return f"{start}not compared ({found.get('reason', 'no value is known')})."
    else:
        text = (
            f"the typical column lies {found['median_shift']:.2f} training standard deviations from the training mean "
            f"({found['expected_shift']:.2f} by chance), {100 * found['share_shifted']:.0f} % of them more than 0.5"
        )
    if "auc" not in found:
        return f"{start}{text}; {found.get('reason', 'whole patients are not compared')}."
    return f"{start}{text}; {verdict(found)}."


def verdict(found: Mapping[str, Any]) -> str:
    """Describe how well the cohort can be separated from training patients; the permutation p rules out chance.

    Args:
        found: Comparison with `auc` and its permutation `p`.
    """
    auc, p = round(found["auc"], 2), found["p"]
    if p >= SMALL_P:
        text = "no shift is detected: a classifier separates the patients from training patients no better than chance"
    else:
        size, share = ("slight", "few") if auc < SLIGHT else ("moderate", "many") if auc < CLEAR else ("clear", "most")
        text = f"the shift is {size}: a classifier separates {share} of the patients from training patients"
    chance = "p < 0.001" if p < 0.0015 else f"p = {p:.3f}"
    return f"{text} (AUC {auc:.2f}, where 0.5 or less means not at all; permutation {chance})"


def _subgroups(rows: list[Mapping[str, Any]]) -> list[str]:
    known = [row for row in rows if row.get("value") is not None]
    if len(known) < 2:
        return []
    worst, best = (pick(known, key=lambda row: row["value"]) for pick in (min, max))
    metric = "concordance" if worst["metric"] == "c_index" else "AUC"
    told = [
        f"{row['column']} {row['level']} ({row['n']} patients) {row['value']:.2f}"
        + ("" if row["low"] is None else f" ({row['low']:.2f} to {row['high']:.2f})")
        for row in (worst, best)
    ]
    return [f"Of {len(known)} subgroups the {metric} is lowest in {told[0]} and highest in {told[1]}; with so many "
            "groups some differ by chance."]  # fmt: skip
