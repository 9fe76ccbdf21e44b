"""Functions that `torch.compile` leaves out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def never_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function eagerly also where its caller is compiled.

    This is `torch.compiler.disable`, which imports the compiler at once, and that takes as long as importing torch. Here
    the compiler is imported only once something is compiled.
    """
    excluded = torch._disable_dynamo(function)

    @functools.wraps(function)
    def call(*args: P.args, **keywords: P.kwargs) -> R:
        return (excluded if torch.compiler.is_compiling() else function)(*args, **keywords)

    return call
