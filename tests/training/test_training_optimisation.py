"""Which weights AdamW pulls towards 0, and how strongly."""

import pytest
from models import PROGRAMS, build


@pytest.mark.parametrize(("own", "expected"), [(None, 0.01), (10.0, 10.0), (0.0, 0.0)])
def test_expression_encoders_have_a_weight_decay_of_their_own(own, expected):
    model = build("teacher", "survival", programs=PROGRAMS, expression_weight_decay=own)
    optimizer = model.configure_optimizers()
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (expected if name.startswith("expression.") else 0.01)
