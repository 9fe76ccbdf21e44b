"""Seeds, saves and restores the random generators of a process."""

from __future__ import annotations

import hashlib
import random
from typing import Any, TypedDict, cast

import numpy as np
import torch
from numpy.typing import NDArray


class RandomState(TypedDict):
    """State of every random generator of a process, in types that `weights_only=True` can load."""

    torch: torch.Tensor
    cuda: list[torch.Tensor]
    numpy: list[Any]
    python: list[Any]


_NumpyState = tuple[str, NDArray[np.uint32], int, int, float]


def seed_all(text: str) -> None:
    """Seed every generator from a text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - other libraries and a user's classes may draw from the legacy generator


def random_state() -> RandomState:
    """Return the state of every generator."""
    name, keys, position, has_gauss, cached = cast(_NumpyState, np.random.get_state())  # noqa: NPY002
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(internal), gauss],
    }


def set_random_state(state: RandomState) -> None:
    """Restore the state that `random_state` returned."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([device_state.cpu() for device_state in state["cuda"]])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
