"""Contributions of genes add up to the backbone's logits from RNA, and each is what the logits lose without the gene."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from batches import GENES
from fitted_backbones import fitted_backbone
from models import build

from dmml.experiment.genes.contributions import directions_of, gene_contributions, gene_rows
from dmml.types import Bag


def no_tiles(size):
    """Bags with a single padding token."""
    index = torch.zeros(size, 1, dtype=torch.long)
    return {m: Bag(torch.zeros(size, 1, 12), torch.zeros(size, 1, 2), index.bool(), index, 1) for m in (10, 20)}


def teacher(kind):
    model = build("teacher", kind)
    model.backbone = fitted_backbone(kind)[0]
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ["survival", "classification"])
def test_genes_add_up_to_the_backbones_logits_from_rna(kind):
    backbone, has_rna = teacher(kind).backbone, torch.ones(5, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    expression = {s: torch.randn(5, len(genes), generator=generator) for s, genes in GENES.items()}
    for direction in directions_of(build("teacher", kind).task).values():
        contributions = gene_contributions(backbone, expression, direction)
        whole = backbone(no_tiles(5), expression, has_rna)
        bias = backbone.calibration(has_rna)[0] / 2
        for s in GENES:
            total = ((whole.subspaces[s] - bias) @ direction).numpy()
            assert contributions[s].sum(axis=1) == pytest.approx(total, abs=1e-4)
            without = expression | {s: expression[s].clone()}
            without[s][:, 2] = backbone.readout(f"rna_{s}").mean[2]  # the gene's training mean
            loss = (whole.subspaces[s] - backbone(no_tiles(5), without, has_rna).subspaces[s]) @ direction
            assert contributions[s][:, 2] == pytest.approx(loss.numpy(), abs=1e-4)
            assert np.abs(contributions[s]).max() > 1e-3


def test_a_class_has_its_own_rows_and_survival_has_none():
    rng = np.random.default_rng(0)
    inputs = {
        s: {f"P{i}": rng.normal(size=len(genes)).astype(np.float32) for i in range(4)} for s, genes in GENES.items()
    }
    rows = gene_rows(teacher("survival"), inputs)
    assert len(rows) == sum(len(genes) for genes in GENES.values())
    assert "class" not in rows[0]
    sizes = [row["mean_absolute_contribution"] for row in rows if row["subspace"] == "tumor"]
    assert sizes == sorted(sizes, reverse=True)
    assert {row["gene"] for row in rows if row["subspace"] == "tme"} == set(GENES["tme"])
    of_classes = gene_rows(teacher("classification"), inputs)
    assert {row["class"] for row in of_classes} == {"a", "b", "c"}
    for gene in GENES["tumor"]:  # what a class gains, the others lose
        mean = [row["mean_contribution"] for row in of_classes if row["gene"] == gene]
        assert sum(mean) == pytest.approx(0, abs=1e-5)


def test_without_rna_or_a_backbone_no_gene_contributes():
    assert gene_rows(teacher("survival"), {}) == []
    assert gene_rows(build("teacher", backbone=None), {}) == []
    student = build("student")
    student.backbone = fitted_backbone("survival", with_rna=False)[0]
    rows = {"tumor": {"P": np.zeros(len(GENES["tumor"]), np.float32)}}
    assert gene_rows(student, rows) == []
