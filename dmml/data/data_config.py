"""The arguments of a config's data section: those that describe a cohort, and those that say how it is loaded.

Standard library only, so that a config can be checked before torch is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dmml.cohort.cohort_config import CohortConfig
from dmml.errors import InputError

_SHARED = {"shared": True}


@dataclass(frozen=True)
class Loading:
    """How patients are read and put into batches.

    Args:
        batch_size: Maximum number of patients per batch.
        num_workers: Number of worker processes that read ahead; 0 reads in the training process, with a cache.
        cache_gib: Memory for caching patients that were read, in GiB (only with `num_workers=0`).
        seed: Seed of the order of the training patients and of the draw of their tokens.
        max_tokens: Maximum number of tokens per patient and magnification in training, where tokens are drawn anew each
            epoch; validation and test read all tokens. One number draws 10x tiles with all their 20x tiles, so that
            about a quarter as many are left at 10x; {10: 2500, 20: 2500} gives each magnification a limit of its own,
            which is used in full. None = all tokens.
        token_budget: Maximum number of tokens per batch, including padding; a patient with more forms a batch alone.
            None = no limit.
        pack: Number of batches whose patients are sorted by size before they are cut into batches, which saves padding;
            1 leaves the patients in random order.
        balance: Whether to draw each class equally often, or patients with and without the event.
    """

    batch_size: int = field(default=8, metadata=_SHARED)
    num_workers: int = field(default=0, metadata=_SHARED)
    cache_gib: float = field(default=2.0, metadata=_SHARED)
    seed: int = field(default=0, metadata=_SHARED)
    max_tokens: int | dict[int, int] | None = field(default=None, metadata=_SHARED)
    token_budget: int | None = field(default=None, metadata=_SHARED)
    pack: int = field(default=1, metadata=_SHARED)
    balance: bool = field(default=False, metadata=_SHARED)

    @property
    def needs_sizes(self) -> bool:
        """Whether batches are formed by the patients' numbers of tokens."""
        return self.pack > 1 or self.token_budget is not None


@dataclass(frozen=True)
class DataConfig(Loading, CohortConfig):
    """All arguments of a data section, those of `CohortConfig` first.

    Raises:
        InputError: As `CohortConfig` and `check_max_tokens` do.
    """

    def __post_init__(self) -> None:
        """Check the values that can be checked without reading a file."""
        super().__post_init__()
        check_max_tokens(self.max_tokens, self.magnifications)
        if isinstance(self.max_tokens, Mapping):  # JSON and saved configs hold the magnifications as text
            object.__setattr__(self, "max_tokens", {int(m): limit for m, limit in self.max_tokens.items()})


def check_max_tokens(max_tokens: object, magnifications: Iterable[int]) -> None:
    """Refuse limits of tokens that are no numbers of tokens, or that belong to no magnification that is read.

    Args:
        max_tokens: `data.max_tokens`, as it stands in the config.
        magnifications: `data.magnifications`.

    Raises:
        InputError: A limit is not a whole number of at least 1, or a magnification of `max_tokens` is not read.
    """
    if max_tokens is None:
        return
    if not isinstance(max_tokens, Mapping):
        _check_limit("data.max_tokens", max_tokens)
        return
    read = [str(m) for m in magnifications]
    example = f"{{{', '.join(f'{m}: 2500' for m in read)}}}"
    if not max_tokens:
        raise InputError(f"data.max_tokens: {{}} names no limit; give {example}, one number, or leave it out")
    for m, limit in max_tokens.items():
        if str(m) not in read:
            raise InputError(f"data.max_tokens: {m!r} is none of data.magnifications; give {example}")
        _check_limit(f"data.max_tokens at {m}x", limit)


def _check_limit(name: str, limit: object) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InputError(f"{name}: {limit!r} is not a whole number of at least 1; without a limit all tiles are read")
