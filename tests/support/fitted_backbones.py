"""Backbones fitted to a few dozen simulated patients, with clusters, directions that stand out, and RNA."""

from __future__ import annotations

import numpy as np
import torch
from batches import DIM, GENES

from dmml.backbone.backbone import Backbone
from dmml.backbone.fit_backbone import TrainingPatients, fit_backbone
from dmml.tasks import Classification, Survival
from dmml.types import Bag

N_PATIENTS = 48
RARE = torch.cat([torch.zeros(DIM - 6), torch.full((6,), 6**-0.5)])
"""Unit vector along which few tokens lie far out; over several features, each of which is standardised"""


def tissue_bag(generator: torch.Generator, n_tokens: int, factor: float, n_slides: int = 1) -> Bag:
    """One patient's bag: two kinds of tissue, a shift of each slide, and a few tokens far out along one direction."""
    x = torch.randn(1, n_tokens, DIM, generator=generator)
    kind = torch.rand(n_tokens, generator=generator) < 0.5 + 0.2 * np.tanh(factor)
    x[0, kind, :3] += 4.0
    x[0, :, 4] += 0.5 * factor
    rare = torch.rand(n_tokens, generator=generator) < 0.08
    x[0, rare] += (6.0 + 2 * np.tanh(factor)) * RARE
    slide = (torch.arange(n_tokens) % n_slides).unsqueeze(0)
    x = x + slide.unsqueeze(-1) * 0.7
    position = torch.rand(1, n_tokens, 2, generator=generator) * 1000
    return Bag(x, position, torch.ones(1, n_tokens, dtype=torch.bool), slide, n_slides)


def fitted_backbone(
    kind: str = "survival", with_rna: bool = True, with_programs: bool = False
) -> tuple[Backbone, TrainingPatients]:
    """A backbone of two magnifications, and the patients that it was fitted to.

    Args:
        kind: Kind of the task.
        with_rna: Whether the model of the outcome uses RNA, as in a teacher.
        with_programs: Whether it predicts programs: every gene is one.
    """
    generator = torch.Generator().manual_seed(3)
    factor = torch.randn(N_PATIENTS, generator=generator)
    bags = {
        m: [tissue_bag(generator, n, float(f), 1 + i % 2) for i, f in enumerate(factor)]
        for m, n in ((10, 40), (20, 90))
    }
    expression = {
        s: torch.randn(N_PATIENTS, len(genes), generator=generator) + 0.8 * factor.unsqueeze(1)
        for s, genes in GENES.items()
    }
    observed = torch.ones(N_PATIENTS, dtype=torch.bool)
    if kind == "survival":
        time = 1 + 800 * torch.exp(-factor) * torch.rand(N_PATIENTS, generator=generator)
        event = (torch.rand(N_PATIENTS, generator=generator) < 0.8).float()
        target, task = {"time": time, "event": event}, Survival(edges=[200.0, 500, 900], end=3000.0)
    else:
        label = (factor + 0.5 * torch.randn(N_PATIENTS, generator=generator) + 1.5).clamp(0, 2.99).long()
        target, task = {"label": label}, Classification(classes=["a", "b", "c"])
    # The statistics of the features are not those of these tokens, as if patients had unequal numbers of tokens.
    flat = {m: torch.cat([bag.features[0] for bag in each]) for m, each in bags.items()}
    patients = TrainingPatients(
        bags={m: (lambda each=each: iter(each)) for m, each in bags.items()},
        feature_statistics={m: (x.mean(0).numpy() - 0.4, x.std(0).numpy()) for m, x in flat.items()},
        expression=expression if with_rna else {},
        has_expression=np.ones(N_PATIENTS, bool),
        programs=expression if with_programs else {},
        target=target | {"observed": observed},
    )
    backbone = Backbone(components=2, clusters=2)
    fit_backbone(backbone, patients, task)
    return backbone, patients
