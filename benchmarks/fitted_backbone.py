"""A backbone fitted to small random patients, so that a model computes what it would compute after a fit."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from token_batches import EDGES, END, GENES, grid_of

from dmml.backbone.backbone import Backbone
from dmml.backbone.fit_backbone import CrossFitted, TrainingPatients, fit_backbone
from dmml.tasks import Survival
from dmml.training.subspace_module import SubspaceModule
from dmml.training.teacher import SubspaceTeacher
from dmml.types import Bag

PATIENTS = ("P0", *(f"drawn {i}" for i in range(31)))
"""The first has the name of the patient of `token_batches.one_patient`, so that steps find its cross-fitted prediction"""
TOKENS = 160
_DIRECTIONS = 8
"""Directions along which rare tokens are drawn: the maximum that a backbone keeps, so that its cost is the highest"""
_RARE, _FAR = 0.03, 12.0


def give_backbone(model: SubspaceModule, n_features: int) -> None:
    """Fill a model's backbone as a fit does, and add its layout to the fitted values of the checkpoint.

    Args:
        model: A built teacher or student.
        n_features: Width D of the encoder's features.
    """
    fitted, _ = _fitted(model.magnifications, _reads_rna(model), n_features)
    model.backbone.build(fitted.layout)
    model.backbone.load_state_dict(fitted.state_dict())
    model.fitted["backbone"] = fitted.layout
    model._keep_hparams()


def remember(model: SubspaceModule, n_features: int) -> None:
    """Use cross-fitted predictions for `PATIENTS`, as a fit does for the training patients."""
    model.use_cross_fitted(PATIENTS, _fitted(model.magnifications, _reads_rna(model), n_features)[1])


def _reads_rna(model: SubspaceModule) -> bool:
    return (
        isinstance(model, SubspaceTeacher) or model.teacher_path is not None
    )  # a student with a teacher copies its teacher's


@functools.cache
def _fitted(magnifications: tuple[int, ...], with_rna: bool, n_features: int) -> tuple[Backbone, CrossFitted]:
    generator = torch.Generator().manual_seed(0)
    n, time = len(PATIENTS), torch.rand(len(PATIENTS), generator=generator) * 2000 + 1
    target = {"time": time, "event": (torch.arange(n) % 2).float(), "observed": torch.ones(n, dtype=torch.bool)}
    expression = {s: torch.randn(n, len(genes), generator=generator) for s, genes in GENES.items()}
    patients = TrainingPatients(
        bags={m: _bags(m, n_features) for m in magnifications},
        feature_statistics={m: (np.zeros(n_features), np.ones(n_features)) for m in magnifications},
        expression=expression if with_rna else {},
        has_expression=np.ones(n, bool),
        programs={},
        target=target,
    )
    backbone = Backbone()
    return backbone, fit_backbone(backbone, patients, Survival(edges=EDGES, end=END))


def _bags(magnification: int, n_features: int) -> Callable[[], list[Bag]]:
    bags = [_bag(1000 * magnification + i, n_features) for i in range(len(PATIENTS))]
    return lambda: bags


def _bag(seed: int, n_features: int) -> Bag:
    """Noise (1, `TOKENS`, D), in which a few tokens are outliers along a few directions, on either side."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(1, TOKENS, n_features, generator=generator)
    n_far = min(_DIRECTIONS, n_features)
    side = torch.randint(0, 2, (1, TOKENS, n_far), generator=generator) * 2 - 1
    far = torch.rand(1, TOKENS, n_far, generator=generator) < _RARE
    features[..., :n_far] += far * side * _FAR
    position = grid_of(TOKENS, 112.0).unsqueeze(0)
    slide = torch.zeros(1, TOKENS, dtype=torch.long)
    return Bag(features, position, torch.ones(1, TOKENS, dtype=torch.bool), slide, n_slides=1)
