"""Describe in a sentence how often the two subspaces' gradients conflicted in training."""

from __future__ import annotations

from pathlib import Path

from dmml.evaluation.plots.training import training_series
from dmml.evaluation.report.formatting import number, percent


def coordination_words(path: Path) -> str:
    """Sentence on the mean conflict rate and cosine in `metrics.csv`, and the surer subspace; empty without them."""
    series = {name.removeprefix("coordination/"): values for name, values in training_series(path).items()}
    if "conflict" not in series:
        return ""
    found = [f"On average {percent(float(series['conflict'].mean()))} of the rows were in conflict"]
    if "cosine" in series:
        found.append(f"the mean cosine was {number(float(series['cosine'].mean()))}")
    told = " and ".join(found)
    if {"confidence_tumor", "confidence_tme"} <= set(series):
        tumor, tme = (float(series[f"confidence_{s}"].iloc[-1]) for s in ("tumor", "tme"))
        surer = "the tumor subspace" if tumor > tme else "the TME subspace" if tme > tumor else "neither subspace"
        told += f"; at the end {surer} was the surer one ({number(tumor)} tumor, {number(tme)} TME)"
    return f"{told}."
