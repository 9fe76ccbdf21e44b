"""Choose example patients: those whom the model got most right and most wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from dmml.evaluation.report.formatting import in_unit, percent
from dmml.evaluation.statistics.weighted import harrell_pairs, pairs_per_patient
from dmml.evaluation.values.column import PREDICTED_VALUE

EACH = 2
"""Number of right and of wrong patients."""
CHOICE_SURVIVAL = (
    "The patients shown are those whose risk agrees most, and least, with the order of the events: the share of a "
    "patient's comparable pairs in which the one with the earlier event has the higher risk."
)
CHOICE_CLASSES = "The patients shown are those classified correctly, and incorrectly, with the highest confidence."
CHOICE_VALUES = "The patients shown are those with the smallest and the largest error."
MIN_PAIRS = 5
"""Minimum number of comparable pairs of a patient."""


class Example(NamedTuple):
    """A patient who may be shown.

    Attributes:
        patient: Id of the patient.
        agreement: How far the prediction agrees with the outcome: above 0 = right, below 0 = wrong.
        verdict: The same in words.
    """

    patient: str
    agreement: float
    verdict: str


def choose_examples(rows: Sequence[Mapping[str, Any]], candidates: Sequence[str]) -> dict[str, dict[str, str]]:
    """Choose up to `EACH` right and `EACH` wrong patients, alternating, as {patient: {verdict, chosen}}.

    Survival: by a patient's concordance, the share of the comparable pairs with this patient in which the one who had
    the event first has the higher risk (a tie counts half). Classes: by the probability of the predicted class. Values: by
    the error, where half of the patients count as right.

    Args:
        rows: Rows of `predictions.csv`; outcomes may be unknown.
        candidates: Patients that can be shown. If no outcome is known, the first of them are chosen, without a verdict.
    """
    if not rows or not candidates:
        return {}
    table = pd.DataFrame(rows)
    eligible = table[table["patient_id"].isin(set(candidates))].reset_index(drop=True)
    if {"risk", "time", "event"} <= set(eligible):
        examples, choice = _survival(table, set(candidates)), CHOICE_SURVIVAL
    elif (
        "label" in eligible
        and eligible["label"].notna().any()
        and any(str(name).startswith("prob_") for name in eligible)
    ):
        examples, choice = _classes(eligible), CHOICE_CLASSES
    elif {"value", PREDICTED_VALUE} <= set(eligible):
        examples, choice = _values(eligible), CHOICE_VALUES
    else:
        examples, choice = [], ""
    if not examples:
        return {str(patient): {} for patient in list(candidates)[: 2 * EACH]}
    right = sorted((each for each in examples if each.agreement > 0), key=lambda each: -each.agreement)[:EACH]
    wrong = sorted((each for each in examples if each.agreement < 0), key=lambda each: each.agreement)[:EACH]
    order = [each for index in range(EACH) for kind in (right, wrong) for each in kind[index : index + 1]]
    return {each.patient: {"verdict": each.verdict, "chosen": choice} for each in order}


def _survival(table: pd.DataFrame, candidates: set[str]) -> list[Example]:
    """Every candidate with at least `MIN_PAIRS` comparable pairs; the agreement lies between −½ and ½."""
    numbers = table[["time", "event", "risk"]].apply(pd.to_numeric, errors="coerce")
    table, numbers = table[numbers.notna().all(axis=1)], numbers.dropna()
    counted, earned = pairs_per_patient(harrell_pairs(numbers["time"], numbers["event"], numbers["risk"]))
    examples = []
    for patient, n_pairs, n_ordered in zip(table["patient_id"], counted, earned, strict=True):
        if patient in candidates and n_pairs >= MIN_PAIRS:
            share = float(n_ordered / n_pairs)
            verdict = f"{'right' if share > 0.5 else 'wrong'}: {percent(share)} of {n_pairs:.0f} pairs in order"
            examples.append(Example(str(patient), share - 0.5, verdict))
    return examples


def _values(table: pd.DataFrame) -> list[Example]:
    """Every patient with a known value; the agreement is the median error minus the patient's."""
    numbers = table[["value", PREDICTED_VALUE]].apply(pd.to_numeric, errors="coerce")
    table, numbers = table[numbers.notna().all(axis=1)], numbers.dropna()
    error = (numbers["value"] - numbers[PREDICTED_VALUE]).abs()
    return [
        Example(
            str(patient),
            float(error.median() - size),
            f"error {in_unit(size)}: predicted {in_unit(predicted)}, measured {in_unit(value)}",
        )
        for patient, size, value, predicted in zip(
            table["patient_id"], error, numbers["value"], numbers[PREDICTED_VALUE], strict=True
        )
    ]


def _classes(table: pd.DataFrame) -> list[Example]:
    """Every patient with a known label; the agreement is ± the probability of the predicted class."""
    table = table[table["label"].notna() & (table["label"].astype(str) != "")]
    columns = [name for name in table if str(name).startswith("prob_")]
    examples = []
    for row in table.to_dict("records"):
        best = max(columns, key=lambda name: float(row[name]))
        predicted, confidence = best.removeprefix("prob_"), float(row[best])
        is_right = predicted == str(row["label"])
        verdict = f"{'right' if is_right else 'wrong'}: predicted {predicted} with {percent(confidence)}"
        examples.append(Example(str(row["patient_id"]), confidence if is_right else -confidence, verdict))
    return examples
