"""`torch.compile` for the parts of a model that read every token."""

from __future__ import annotations

from torch import nn

PARTS = ("projection", "fusion", "aggregator")
"""Modules by magnification, or by magnification and subspace, whose work grows with the tokens"""


def compile_parts(module: nn.Module) -> None:
    """Compile, in place, the parts of a teacher or student that read every token, for bags of any length at once.

    In place, so the names of the weights stay: a checkpoint of a compiled model is one of a model that is not. What a
    gradient rule acts on lies between these parts and is left as it is. The first batch waits for the compiler.

    Args:
        module: A model that was built; parts that it lacks are passed over.
    """
    for name in PARTS:
        for part in getattr(module, name, {}).values():
            part.compile(dynamic=True)
