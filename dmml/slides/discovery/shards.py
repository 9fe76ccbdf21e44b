"""Divides a list of slides among several processes: the hash of a slide's name decides to which shard it belongs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from dmml.errors import InputError


@dataclass(frozen=True)
class Shard:
    """The `index`-th of `count` disjoint parts of all slides."""

    index: int
    """0 to count − 1"""
    count: int
    local: int = 0
    """Number of the process on its machine, which selects its GPU"""
    source: str = "--shard"

    def has(self, slide_id: str) -> bool:
        """Whether a slide is in this shard; only its name decides, so the list may grow between runs."""
        return int.from_bytes(hashlib.sha256(slide_id.encode()).digest()[:8], "big") % self.count == self.index


def shard_of(option: str | None, environment: Mapping[str, str]) -> Shard | None:
    """Return the requested shard, else that of a rank of torchrun or srun; None means all slides.

    Args:
        option: Value of `--shard`, `i/n` with i from 1 to n.
        environment: `os.environ`.

    Raises:
        InputError: `option` has another form.
    """
    if option is not None:
        index, _, count = option.partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            raise InputError(f"--shard {option}: give i/n with i from 1 to n, e.g. --shard 1/4")
        return Shard(int(index) - 1, int(count))
    # SLURM_NTASKS is also set in a batch script that runs once; only a step that srun started has several ranks.
    names = (
        ("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID"),
        ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_ID"),
    )
    for source, rank, size, local, marker in names:
        values = [environment.get(name, "") for name in (rank, size, local)]
        if marker in environment and all(value.isdecimal() for value in values) and int(values[1]) > 1:
            return Shard(int(values[0]), int(values[1]), int(values[2]), source)
    return None
