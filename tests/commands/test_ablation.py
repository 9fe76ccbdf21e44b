"""One line of a config adds or removes each contribution, and changes what is learned."""

from __future__ import annotations

import pytest
import torch

from dmml.__main__ import main

pytestmark = pytest.mark.slow

CHANGED = {
    "coordination": ("teacher", {"trainer": {"callbacks": []}}),
    "consistency": ("teacher", {"model": {"consistency_weight": 0.1}}),
    "deformable fusion": ("teacher", {"model": {"fusion": {"class_path": "DeformableFusion"}}}),
    "distilled features": ("student", {"model": {"feature_weight": 0.0}}),
    "distillation": ("student", {"model": {"teacher": None}}),
    "aggregation": ("student", {"model": {"n_merged": None}}),
}


def weights(checkpoint: str) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def fit(journey, name: str, kind: str, **more) -> dict[str, torch.Tensor]:
    """Fit with the journey's config of teacher or student, changed by `more`, and return the weights."""
    changed = {
        **more,
        "model": {**({"teacher": journey.best("teacher")} if kind == "student" else {}), **more.get("model", {})},
    }
    config = journey.config(name, f"Subspace{kind.title()}", **changed)
    assert main(["fit", "--config", str(config)]) == 0
    return weights(journey.best(name))


def test_the_same_config_gives_the_same_weights(journey):
    again = fit(journey, "again", "student")
    for name, value in weights(journey.best("student")).items():
        assert torch.equal(value, again[name]), name


@pytest.mark.parametrize("contribution", CHANGED)
def test_adding_or_removing_a_contribution_changes_the_result(journey, contribution):
    kind, line = CHANGED[contribution]
    changed = fit(journey, f"changed_{contribution.replace(' ', '_')}", kind, **line)
    whole = weights(journey.best(kind))
    shared = [
        name
        for name in whole
        if name in changed and whole[name].shape == changed[name].shape and name.startswith("heads")
    ]
    assert shared
    assert any(not torch.equal(whole[name], changed[name]) for name in shared)
