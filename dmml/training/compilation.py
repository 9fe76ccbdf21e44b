"""`torch.compile` for the parts of a model that read every token."""

from __future__ import annotations

from torch import nn

PARTS = ("projection", "fusion", "aggregator")
"""Modules per magnification, or per magnification and subspace, whose cost grows with the number of tokens"""


def compile_parts(module: nn.Module) -> None:
    """Compile the parts of a teacher or student that read every token, once for bags of any length.

    Parts are compiled in place, which keeps the names of the weights: checkpoints of compiled and uncompiled models are
    interchangeable. The point where a gradient rule acts lies between these parts and is not compiled. The first batch
    waits for the compiler.

    Args:
        module: A model that has been built; parts that it lacks are skipped.
    """
    for name in PARTS:
        for part in getattr(module, name, {}).values():
            part.compile(dynamic=True)
            # An aggregation is called for its result, and before that for the tokens that the subspaces share.
            if (attention := getattr(part, "tissue_attention", None)) is not None:
                attention.compile(dynamic=True)
