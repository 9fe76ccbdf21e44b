"""Precision in which the equations are evaluated."""

from __future__ import annotations

from torch import Tensor, float32, promote_types


def at_least_float32(x: Tensor) -> Tensor:
    """Promote half precision to float32; leave float32 and float64 unchanged."""
    return x.to(promote_types(x.dtype, float32))
