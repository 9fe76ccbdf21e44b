"""The linear reference models of the networks, each fitted as well as possible.

Ridge Cox regressions on 20 principal components of the RNA, on the mean tokens of both magnifications, and on both
together with one penalty, which is chosen by cross-validation among the training patients; and a stack of the first two
scores, weighted on inner validation. All columns are standardised by the training patients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from worlds_data import WorldData, mean_tokens

from dmml.experiment.crossval.penalty_choice import InnerFold, choose_penalty, fit_regression
from dmml.tasks import Survival

COMPONENTS = 20
REFERENCES = ("ridge_rna", "ridge_tokens", "ridge_joint", "ridge_stack")


class _Parts(NamedTuple):
    """One input of the three parts, with one row per patient."""

    train: NDArray
    val: NDArray
    test: NDArray


def predict_reference(name: str, world: WorldData) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Fit one of `REFERENCES`.

    Returns:
        (n_test,) log-hazards, and facts about the fit to keep.
    """
    if name == "ridge_stack":
        return _stack(world)
    inputs = {"ridge_rna": (_rna,), "ridge_tokens": (_tokens,), "ridge_joint": (_rna, _tokens)}[name]
    x = _Parts(*(np.hstack(parts) for parts in zip(*(read(world) for read in inputs), strict=True)))
    scores, penalty = _ridge(world, x)
    return scores.test, {"penalty": penalty, "inputs": x.train.shape[1]}


def _stack(world: WorldData) -> tuple[NDArray, dict[str, Any]]:
    """Scores of RNA and tissue, standardised and weighted on inner validation."""
    scores = [_ridge(world, read(world))[0] for read in (_rna, _tokens)]
    spread = [max(score.val.std(), 1e-9) for score in scores]
    scaled = [
        [(part - score.val.mean()) / sd for part in (score.val, score.test)]
        for score, sd in zip(scores, spread, strict=True)
    ]
    val, test = (np.stack(columns, axis=1) for columns in zip(*scaled, strict=True))
    outcome = world.outcome(world.fitting.patients("val"))
    model = Survival().regression().join(val[:, :1], val[:, 1:], outcome)
    return model.score(test)[:, 0], {"weights": model.weight[:, 0].tolist()}


def _ridge(world: WorldData, x: _Parts) -> tuple[_Parts, float]:
    """Scores of all three parts by a ridge Cox model of the training patients, and its penalty."""
    task, train = Survival(), world.fitting.with_outcome("train")
    row = {patient: i for i, patient in enumerate(world.fitting.patients("train"))}
    folds = []
    for others, held_out in world.fitting.inner_folds(train):
        kept, left = ([row[patient] for patient in patients] for patients in (others, held_out))
        centre = x.train[kept].mean(0)
        folds.append(
            InnerFold(x.train[kept] - centre, world.outcome(others), x.train[left] - centre, world.outcome(held_out))
        )
    penalty, _ = choose_penalty(task.regression(), folds)
    with_outcome = x.train[[row[patient] for patient in train]]
    model = fit_regression(task.regression(), with_outcome, world.outcome(train), penalty)
    return _Parts(*(model.score(part)[:, 0] for part in x)), penalty


def _rna(world: WorldData) -> _Parts:
    """Scores on the leading principal components of the listed genes, each of variance 1 on the training patients."""
    statistics = world.fitting.gene_statistics(world.fitting.patients("train"))
    genes = _Parts(*(data.genes(patients, statistics).astype(float) for data, patients in _sources(world)))
    centre = genes.train.mean(0)
    _, _, directions = np.linalg.svd(genes.train - centre, full_matrices=False)
    return _standardised(_Parts(*((part - centre) @ directions[:COMPONENTS].T for part in genes)))


def _tokens(world: WorldData) -> _Parts:
    return _standardised(_Parts(*(mean_tokens(data, patients) for data, patients in _sources(world))))


def _sources(world: WorldData) -> list[tuple[Any, list[str]]]:
    fitting = [(world.fitting, world.fitting.patients(part)) for part in ("train", "val")]
    return [*fitting, (world.testing, world.test)]


def _standardised(x: _Parts) -> _Parts:
    centre, spread = x.train.mean(0), np.maximum(x.train.std(0), 1e-9)
    return _Parts(*((part - centre) / spread for part in x))
