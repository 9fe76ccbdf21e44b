"""Students and teachers with random weights on fitted backbones, and patients for them."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from batches import make_batch, one_patient
from fitted_backbones import fitted_backbone
from models import build

fitted = cache(fitted_backbone)


@pytest.fixture
def make_model():
    """Build a model with random deep weights; on a backbone, unless its `deep_share` is None."""

    def make(name="student", kind="survival", deep_share=0.7, with_programs=False, **changes):
        torch.manual_seed(1)
        if deep_share is None:
            return build(name, kind, backbone=None, **changes).requires_grad_(False)
        model = build(name, kind, **changes)
        model.backbone = fitted(kind, with_rna=name == "teacher", with_programs=with_programs)[0]
        model.deep_share.fill_(deep_share)
        return model.eval().requires_grad_(False)

    return make


@pytest.fixture
def make_patient():
    """One patient without RNA, with 8 tiles at 10x and 24 at 20x, on `slides` slides."""

    def make(kind="survival", slides=1, fine=24, seed=2):
        torch.manual_seed(seed)
        batch = make_batch((8, 3), (fine, 5), has_rna=[False] * 2, slides=[slides, 1], kind=kind)
        return one_patient(batch, 0)

    return make
