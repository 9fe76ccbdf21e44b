"""Which weights AdamW pulls towards 0, and how strongly."""

import pytest
from models import PROGRAMS, build


@pytest.mark.parametrize(("own", "expected"), [(None, 0.01), (10.0, 10.0), (0.0, 0.0)])
def test_what_tissue_says_through_programs_has_a_weight_decay_of_its_own(own, expected):
    model = build("teacher", "survival", programs=PROGRAMS, tissue_weight_decay=own)
    assert any(name.startswith("embed.") for name, _ in model.named_parameters())
    optimizer = model.configure_optimizers()
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (expected if name.startswith("embed.") else 0.01)


def test_tissue_that_enters_as_it_is_keeps_the_general_weight_decay():
    optimizer = build("teacher", "survival", programs=None).configure_optimizers()
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.01}
