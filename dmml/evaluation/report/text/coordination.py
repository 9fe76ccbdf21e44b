"""Describe in a sentence how often the two subspaces' gradients conflicted in training."""

from __future__ import annotations

from pathlib import Path

from dmml.evaluation.plots.training import training_series
from dmml.evaluation.report.formatting import number, percent


def coordination_text(path: Path) -> str:
    """Mean conflict rate and cosine in `metrics.csv`, and the more confident subspace; empty without them."""
    series = {name.removeprefix("coordination/"): values for name, values in training_series(path).items()}
    if "conflict" not in series:
        return ""
    text = f"On average, {percent(float(series['conflict'].mean()))} of the rows were in conflict"
    if "cosine" in series:
        text += f", and the mean cosine was {number(float(series['cosine'].mean()))}"
    if {"confidence_tumor", "confidence_tme"} <= set(series):
        tumor, tme = (float(series[f"confidence_{s}"].iloc[-1]) for s in ("tumor", "tme"))
        winner = "the tumor subspace" if tumor > tme else "the TME subspace" if tme > tumor else "neither subspace"
        text += f". At the end, {winner} was more confident (tumor {number(tumor)}, TME {number(tme)})"
    return f"{text}."
