"""Simulated patients to whom a backbone is fitted, as a batch and as training patients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from batches import DIM, GENES, make_batch
from models import PROGRAMS, task_of

from dmml.backbone.backbone import Backbone
from dmml.backbone.fit_backbone import TrainingPatients, fit_backbone
from dmml.networks.parts.programs import ProgramScores
from dmml.types import Bag, Batch


def cohort(
    n: int = 60,
    kind: str = "survival",
    without_rna: int = 0,
    without_slides: int = 0,
    unknown: int = 0,
    seed: int = 0,
    tokens: int = 20,
) -> Batch:
    """A batch of n patients whose outcome depends on the tumor's genes and on a shift of their slides.

    The first patients lack RNA, the last lack slides, and the outcome of those in the middle is unknown.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    counts = [int(c) for c in rng.integers(tokens // 2, tokens + 1, n)]
    if without_slides:
        counts[-without_slides:] = [0] * without_slides
    has_rna = [i >= without_rna for i in range(n)]
    batch = make_batch([max(c // 2, min(c, 1)) for c in counts], counts, has_rna, [1 + i % 2 for i in range(n)], kind)
    rna_factor, slide_factor = torch.randn(n), torch.randn(n)
    batch.expression["tumor"] += rna_factor.unsqueeze(1) * torch.tensor(has_rna).unsqueeze(1)
    for bag in batch.bags.values():
        # Slides also show the factor of the genes, more weakly and in another direction than the factor of the slides.
        direction = torch.zeros(2, DIM)
        direction[0, 0], direction[1, 1] = 0.3, 1.0
        bag.features += (torch.stack([rna_factor, slide_factor], 1) @ direction).unsqueeze(1) * bag.mask.unsqueeze(-1)
    risk = (1.2 * rna_factor + 1.2 * slide_factor).numpy()
    target = {"observed": torch.ones(n, dtype=torch.bool)}
    target["observed"][n // 2 : n // 2 + unknown] = False
    if kind == "survival":
        time = 700 * (rng.exponential(size=n) * np.exp(-risk)) ** (1 / 1.35)
        follow_up = rng.uniform(60, 2500, n)
        target["time"] = torch.tensor(np.minimum(time, follow_up), dtype=torch.float32)
        target["event"] = torch.tensor(time <= follow_up, dtype=torch.float32)
    else:
        logits = np.stack([risk, -risk, np.zeros(n)], 1)
        target["label"] = torch.tensor((logits + rng.gumbel(size=(n, 3))).argmax(1))
    return replace(batch, target=target)


def rows_of(batch: Batch, rows: list[int]) -> Batch:
    """A batch of some of the patients."""
    bags = {
        m: Bag(*(getattr(bag, name)[rows] for name in ("features", "position", "mask", "slide")))
        for m, bag in batch.bags.items()
    }
    return Batch(
        [batch.patient_id[i] for i in rows],
        bags,
        batch.parent[rows],
        {s: values[rows] for s, values in batch.expression.items()},
        batch.has_expression[rows],
        {name: values[rows] for name, values in batch.target.items()},
    )


def training(batch: Batch, with_programs: bool = True) -> TrainingPatients:
    """The patients of a batch in the form that `fit_backbone` needs."""

    def passes(m: int):
        def bags():
            for i in range(len(batch.patient_id)):
                bag = batch.bags[m]
                real = bag.mask[i] if bag.mask[i].any() else torch.arange(bag.mask.shape[1]) < 1
                parts = (getattr(bag, name)[i : i + 1][:, real] for name in ("features", "position", "mask", "slide"))
                yield Bag(*parts)

        return bags

    statistics = {}
    for m, bag in batch.bags.items():
        tokens = bag.features[bag.mask].double().numpy()
        if len(tokens):
            statistics[m] = (tokens.mean(0), tokens.std(0))
    scores = ProgramScores(GENES, PROGRAMS)
    return TrainingPatients(
        bags={m: passes(m) for m in statistics},
        feature_statistics=statistics,
        expression=batch.expression,
        has_expression=batch.has_expression.numpy(),
        programs=scores(batch.expression, batch.has_expression) if with_programs else {},
        target=batch.target,
    )


def fitted(batch: Batch, kind: str = "survival", **more) -> tuple[Backbone, torch.Tensor]:
    """A backbone fitted to the patients, and the parts (2, n, 3, q) of their cross-fitted predictions."""
    backbone = Backbone(**more)
    return backbone, fit_backbone(backbone, training(batch), task_of(kind)).parts


def answer(backbone: Backbone, batch: Batch, has_rna=None):
    """The backbone's output, with the RNA of patients for whom `has_rna` is True (default: all who have RNA)."""
    return backbone(batch.bags, batch.expression, batch.has_expression if has_rna is None else has_rna)


def crossed(backbone: Backbone, batch: Batch, parts: torch.Tensor):
    """The output of the parts of cross-fitted predictions, with the RNA that each patient has."""
    parts = parts[(~batch.has_expression).long(), torch.arange(len(batch.patient_id))]
    return backbone.output(parts, batch.has_expression, {})


def logits_of(output) -> torch.Tensor:
    """Logits of an output, the sum of its parts."""
    return sum(output.subspaces.values()) + output.tissue
