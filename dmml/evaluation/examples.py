"""Choose example patients: those whom the model got most right and most wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dmml.evaluation.report.formatting import percent

EACH = 2
"""Number of right and of wrong patients."""
CHOSEN_SURVIVAL = (
    "Shown are patients who outlived, or were outlived by, the others most as the model said, and most against it: the "
    "share of a patient's comparable pairs that are ordered rightly."
)
CHOSEN_CLASSES = "Shown are the patients told rightly and wrongly with the most certainty."
LEAST_PAIRS = 5


def choose_examples(rows: Sequence[Mapping[str, Any]], candidates: Sequence[str]) -> dict[str, dict[str, str]]:
    """Choose up to `EACH` right and `EACH` wrong patients, alternating, as {patient: {verdict, chosen}}.

    Survival: by a patient's concordance, the share of the comparable pairs with this patient in which the one who had
    the event first has the higher risk (a tie counts half). Classes: by the probability of the predicted class.

    Args:
        rows: Rows of `predictions.csv`; outcomes may be unknown.
        candidates: Patients that can be shown. If no outcome is known, the first of them are chosen, without a verdict.
    """
    if not rows or not candidates:
        return {}
    table = pd.DataFrame(rows)
    table = table[table["patient_id"].isin(set(candidates))].reset_index(drop=True)
    if {"risk", "time", "event"} <= set(table):
        judged, chosen = _survival(pd.DataFrame(rows), set(candidates)), CHOSEN_SURVIVAL
    elif "label" in table and table["label"].notna().any() and any(str(name).startswith("prob_") for name in table):
        judged, chosen = _classes(table), CHOSEN_CLASSES
    else:
        judged, chosen = [], ""
    if not judged:
        return {str(patient): {} for patient in list(candidates)[: 2 * EACH]}
    right = sorted((entry for entry in judged if entry[1] > 0), key=lambda entry: -entry[1])[:EACH]
    wrong = sorted((entry for entry in judged if entry[1] < 0), key=lambda entry: entry[1])[:EACH]
    order = [entry for index in range(EACH) for kind in (right, wrong) for entry in kind[index : index + 1]]
    return {patient: {"verdict": words, "chosen": chosen} for patient, _, words in order}


def _survival(table: pd.DataFrame, candidates: set[str]) -> list[tuple[str, float, str]]:
    """(patient, how right from −½ to ½, words) of every candidate with at least `LEAST_PAIRS` comparable pairs."""
    numbers = table[["time", "event", "risk"]].apply(pd.to_numeric, errors="coerce")
    table = table[numbers.notna().all(axis=1)]
    time, event, risk = (numbers.loc[table.index, name].to_numpy(float) for name in ("time", "event", "risk"))
    found = []
    for i, patient in enumerate(table["patient_id"]):
        if patient not in candidates:
            continue
        first = (event > 0) & ((time < time[i]) | ((time == time[i]) & (event[i] == 0)))  # others with an earlier event
        later = (event[i] > 0) & ((time[i] < time) | ((time[i] == time) & (event == 0)))
        pairs = int((first | later).sum())
        if pairs < LEAST_PAIRS:
            continue
        ordered = np.where(first, risk > risk[i], risk < risk[i]) + 0.5 * (risk == risk[i])
        share = float(ordered[first | later].mean())
        word = "right" if share > 0.5 else "wrong"
        found.append((str(patient), share - 0.5, f"{word}: {percent(share)} of {pairs} pairs in order"))
    return found


def _classes(table: pd.DataFrame) -> list[tuple[str, float, str]]:
    table = table[table["label"].notna() & (table["label"].astype(str) != "")]
    columns = [name for name in table if str(name).startswith("prob_")]
    found = []
    for row in table.to_dict("records"):
        best = max(columns, key=lambda name: float(row[name]))
        name, sure = best.removeprefix("prob_"), float(row[best])
        right = name == str(row["label"])
        words = f"{'right' if right else 'wrong'}: told {name} with {percent(sure)}"
        found.append((str(row["patient_id"]), sure if right else -sure, words))
    return found
