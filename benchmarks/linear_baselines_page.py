"""The page of `linear_baselines.py`: results before and after, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

TITLES = {
    "luad": "TCGA-LUAD, the published folds",
    "luad_sites": "TCGA-LUAD, folds that keep sites whole",
    "gbmlgg": "TCGA-GBMLGG, the published folds",
    "simulated": "A simulated cohort (`dmml simulate --features-only --patients 200`)",
}
CHOICES = {
    "coding": "**Stage or grade** as a column per level without order, as the level's position, as a step at each level but "
    "the first, or as position and steps, which dmml uses: distances between levels may then be unequal, and steps "
    "can express any order if a spelling was mistaken for an order.",
    "missing": "**Unknown values** of covariates are replaced by the median of the training patients, with or without an indicator column. dmml adds the column if training patients lack the value, because patients without a stage often differ from others.",
    "penalty of covariates": "**The penalty of `clinical`** by the likelihood of the first inner fold alone, as before; by "
    "the likelihood within each of five inner folds; by the gain of training and held-out patients together over "
    "training "
    "patients alone (Verweij & van Houwelingen 1993); or by the likelihood of all held-out patients together (Dai & "
    "Breheny "
    "2019), which dmml uses, since it needs no inner fold with many events.",
    "penalty of RNA": "**The penalty of `rna_linear`**, in the same ways, on all genes of the table.",
}


def page(record: Mapping[str, Any]) -> str:
    """Markdown."""
    before, now = record["commits"]["before"], record["commits"]["now"]
    lines = [
        "# Linear baselines before and after they were fitted to all training patients",
        "",
        f"    git worktree add ../dmml_before {before}",
        "    python benchmarks/linear_baselines.py --data ../shared/data --before ../dmml_before",
        "",
        f"`before` is commit {before}, `now` is {now}; both ran `dmml crossval --models rna_linear,clinical` on the same "
        "patients and folds. Before, a baseline was fitted to the inner training patients only, its penalty was "
        "chosen by "
        "the inner validation patients, and stage and grade were levels without order. Now the penalty is chosen by "
        "cross-validation among all training patients of the outer fold, the model is fitted to all of them, and "
        "stage and "
        "grade keep their order. Test patients are used for no choice. Networks still need separate inner validation "
        "patients, because these choose the epoch.",
        "",
        "Concordance is the mean over folds ± SD, and pooled within folds with its 95 % interval; the difference is "
        "between pooled values, on the same draws of patients. Models *by hand* use lifelines and scikit-learn "
        "alone, fitted to all "
        "training patients: `clinical` is an unpenalised Cox model of age, sex and the number of the stage, "
        "`rna_linear` one "
        "of ten principal components, and `rna_linear+clinical` one of all of these.",
    ]
    for name, cohort in record["cohorts"].items():
        lines += _cohort(name, cohort)
    return "\n".join([*lines, *_choices(record["choices"])]) + "\n"


def _choices(choices: Mapping[str, Any]) -> list[str]:
    """One table per choice, with cohorts as rows and alternatives as columns."""
    lines = [
        "", "## Alternatives that were compared", "",
        "Mean concordance of the test patients over all folds. These cohorts were used during development, and most "
        "of these differences are smaller than those between two divisions into folds; where a table leaves the "
        "choice open, the more robust alternative was preferred.",
    ]  # fmt: skip
    for name, caption in CHOICES.items():
        ways = list(next(iter(choices[name].values())))
        lines += ["", caption, "", "| folds | " + " | ".join(ways) + " |", "|---" * (1 + len(ways)) + "|"]
        for cohort, values in choices[name].items():
            lines.append(f"| {cohort} | " + " | ".join(f"{values[way]:.3f}" for way in ways) + " |")
    return lines


def _cohort(name: str, cohort: Mapping[str, Any]) -> list[str]:
    before, now, by_hand = cohort["before"], cohort["now"], cohort["by hand"]
    lines = [
        "", f"## {TITLES[name]}", "", f"{now['patients']} patients, {now['events']} events.", "",
        "| model | before, mean ± SD | now, mean ± SD | by hand | before, pooled | now, pooled | now − before |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for model in now["models"]:
        entries = [result["models"][model]["c_index"] for result in (before, now)]
        hand = by_hand.get(model)
        cells = [f"{entry['mean']:.3f} ± {entry['sd']:.3f}" for entry in entries]
        cells += ["" if hand is None else f"{np.mean(hand):.3f} ± {np.std(hand, ddof=1):.3f}"]
        cells += [_interval(entry["pooled"], "value") for entry in entries]
        cells += [_interval(cohort["difference"][model], "estimate", "+")]
        lines.append(f"| `{model}` | " + " | ".join(cells) + " |")
    lines += ["", "| comparison | before | now |", "|---|---|---|"]
    for old, new in zip(before["paired"], now["paired"], strict=True):
        cells = [_interval(row, "difference", "+") for row in (old, new)]
        lines.append(f"| `{new['a']}` − `{new['b']}` | " + " | ".join(cells) + " |")
    return lines


def _interval(entry: Mapping[str, float], key: str, sign: str = "") -> str:
    return f"{entry[key]:{sign}.3f} ({entry['low']:{sign}.3f} to {entry['high']:{sign}.3f})"
