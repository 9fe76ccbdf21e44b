"""Simulated patients with known factors, in memory, on which the ablation trains and measures.

All patients come from the sites of the development cohort, so a difference between two models is one of learning and
not of transfer. The first patients are for training, the next for inner validation, and the rest are tested once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
from dmml.cohort.rna.expression import Expression, model_values
from dmml.cohort.rna.standardise import fit_statistics, standardise
from dmml.data.collate import Collate
from dmml.data.dataset import Patient
from dmml.data.samplers import EpochShuffle
from dmml.simulate.expression import draw_counts, gene_model, tpm
from dmml.simulate.tokens import draw_tokens
from dmml.simulate.truth import FACTORS, draw_patients, visible_factors
from dmml.simulate.truth import Patient as Simulated
from dmml.simulate.world_patients import expected_log_hazard
from dmml.simulate.world_tokens import N_NUISANCE, nuisance_directions
from dmml.tasks import Classification, Survival, Task
from dmml.types import SUBSPACES, Batch

MAGNIFICATIONS = (10, 20)


@dataclass
class World:
    """Patients with tissue, RNA, outcome and truth, in the same order everywhere."""

    items: list[Patient]
    parts: dict[str, list[int]]
    """Rows of "train", "val" and "test" """
    programs: dict[str, dict[str, list[str]]]
    genes: dict[str, list[str]]
    expression: dict[str, torch.Tensor]
    """{subspace: (patients, G)} standardised on the training patients"""
    outcome: dict[str, np.ndarray]
    factors: dict[str, np.ndarray]
    """{subspace: (patients, 3)}"""
    visible_factors: dict[str, np.ndarray]
    """{subspace: (patients, 3)} factors as the slide shows them"""
    risk: np.ndarray
    """(patients,) true log-hazard"""
    shown_risk: np.ndarray
    """(patients,) expected log-hazard given the factors that the slide shows, the best prediction from tissue"""

    def task(self, kind: str = "survival", **arguments) -> Task:
        """A task fitted on the training patients."""
        task = Survival(**arguments) if kind == "survival" else Classification(**arguments)
        task.fit({name: values[self.parts["train"]] for name, values in self.outcome.items()})
        return task

    def loader(self, part: str, task: Task, batch_size: int, seed: int = 0, shuffled_rna: bool = False) -> DataLoader:
        """Batches of a part. With `shuffled_rna`, the control, the RNA of the training patients is permuted among them."""
        rows = self.parts[part]
        dealt = np.random.default_rng(seed).permutation(rows) if shuffled_rna else rows
        items = [self.items[row] for row in rows]
        collate = Collate(
            MAGNIFICATIONS,
            [item.patient_id for item in items],
            {s: values[dealt] for s, values in self.expression.items()},
            torch.ones(len(rows), dtype=torch.bool),
            task.encode({name: values[rows] for name, values in self.outcome.items()}),
        )
        sampler = EpochShuffle(len(items), seed) if part == "train" else None
        return DataLoader(items, batch_size, sampler=sampler, collate_fn=collate)

    def batches(self, part: str, task: Task) -> list[Batch]:
        """Batches of a part, in its order."""
        return list(self.loader(part, task, 32)) if part != "train" else list(self._in_order(task))

    def _in_order(self, task: Task) -> DataLoader:
        loader = self.loader("train", task, 32)
        return DataLoader(loader.dataset, 32, collate_fn=loader.collate_fn)


FOLLOW_UP = (60.0, 900.0)
"""Earliest and latest end of follow-up, in days"""


def build(
    seed: int,
    train: int = 120,
    val: int = 30,
    test: int = 400,
    dim: int = 64,
    visibility: float = 0.8,
    nuisance: float = 1.0,
    follow_up: tuple[float, float] | None = FOLLOW_UP,
) -> World:
    """Draw a world.

    Slides also differ in irrelevant properties (stain, thickness, cut): N_NUISANCE directions on all tokens of a slide.
    Follow-up ends early, so that a third of the patients has the event, as in published cohorts. Without these two, a
    ridge regression of the outcome on the mean token nearly reaches the optimum, and methods cannot differ.

    Args:
        seed: Seed; other seeds give other patients with the same biology.
        train: Number of training patients.
        val: Number of patients of inner validation.
        test: Number of tested patients.
        dim: Width of the token features.
        visibility: Correlation between each factor and the factor as the slide shows it.
        nuisance: Length of each nuisance direction, in standard deviations of a token's noise; 0 = none.
        follow_up: Earliest and latest end of follow-up in days, uniform in between; None = years, in which three in four patients die.
    """
    patients = draw_patients("development", train + val + test, seed)
    programs = read_gene_sets(None)
    table = pd.DataFrame(
        np.stack([tpm(draw_counts(patient)) for patient in patients]).astype(np.float32),
        index=[patient.patient_id for patient in patients],
        columns=list(gene_model().symbols),
    )
    values = model_values(Expression(table, "tpm", {}))
    genes, expression = {}, {}
    for s in SUBSPACES:
        listed = [gene for gene in genes_of(programs[s]) if gene in values.columns]
        statistics = fit_statistics(values.iloc[:train], listed, "tpm")
        genes[s], expression[s] = listed, torch.from_numpy(standardise(values, statistics, "tpm"))
    factors = np.stack([patient.factors for patient in patients])
    visible = np.stack([visible_factors(patient, 0, visibility) for patient in patients])
    return World(
        items=[_item(patient, dim, visibility, nuisance) for patient in patients],
        parts={
            "train": list(range(train)),
            "val": list(range(train, train + val)),
            "test": list(range(train + val, train + val + test)),
        },
        programs=programs,
        genes=genes,
        expression=expression,
        outcome=_outcome(patients, follow_up),
        factors={s: factors[:, i * 3 : i * 3 + 3] for i, s in enumerate(FACTORS)},
        visible_factors={s: visible[:, i * 3 : i * 3 + 3] for i, s in enumerate(FACTORS)},
        risk=np.array([patient.risk for patient in patients]),
        shown_risk=expected_log_hazard(visible, visibility),
    )


def _outcome(patients: list[Simulated], follow_up: tuple[float, float] | None) -> dict[str, np.ndarray]:
    time = np.array([float(patient.days) for patient in patients])
    event = np.array([float(patient.event) for patient in patients])
    if follow_up is None:
        return {"time": time, "event": event}
    end = np.array([patient.generator("follow-up").uniform(*follow_up) for patient in patients])
    return {"time": np.minimum(time, end), "event": np.where(end < time, 0.0, event)}


def _item(patient: Simulated, dim: int, visibility: float, nuisance: float) -> Patient:
    bags, _ = draw_tokens(patient, 0, dim, visibility)
    amount = patient.generator("nuisance").standard_normal(N_NUISANCE)
    features = {m: bag.features + nuisance * amount @ nuisance_directions(dim, m) for m, bag in bags.items()}
    return Patient(
        patient_id=patient.patient_id,
        features={m: values.astype(np.float16) for m, values in features.items()},
        position={m: bag.position for m, bag in bags.items()},
        slide={m: np.zeros(len(bag.features), dtype=np.int64) for m, bag in bags.items()},
        parent=bags[20].parent.astype(np.int64),
    )
