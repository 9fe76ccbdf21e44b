"""Which baseline networks there are, by short name or class path, what each reads, and how it is built.

A baseline of your own is a class, or a function, in a module of your own. It is named by its path (`my_module.MyPool`),
called as `MyPool(n_features=…, n_genes=…, n_outputs=…, width=…, magnifications=…)`, and returns a module that maps a
`Batch` to logits (B, C). Its attribute `reads` says what it reads: {"slides"}, {"RNA"} or both.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from importlib import import_module

from torch import nn

from dmml.errors import InputError
from dmml.nn.baselines.histology import GatedABMIL, MeanPool
from dmml.nn.baselines.mcat import MCAT
from dmml.nn.baselines.multimodal import EarlyConcat, LateFusion
from dmml.nn.baselines.rna import RNANetwork
from dmml.nn.baselines.transmil import TransMIL

SLIDES, RNA = "slides", "RNA"
DROPOUT = 0.25
"""Dropout rate of tokens and embeddings, as in teacher and student"""


@dataclass(frozen=True)
class NetworkSize:
    """Dimensions for which a baseline is built, so that the comparison is fair: it is as wide as the model.

    Attributes:
        n_features: D of the encoder; 0 without slides.
        n_genes: {subspace: G}; 0 without RNA.
        n_outputs: C.
        width: d.
        magnifications: Magnifications that the network reads.
    """

    n_features: int
    n_genes: Mapping[str, int]
    n_outputs: int
    width: int
    magnifications: tuple[int, ...]


_FIELDS = tuple(field.name for field in fields(NetworkSize))


@dataclass(frozen=True)
class Baseline:
    """A kind of baseline network.

    Attributes:
        reads: What it reads: `SLIDES`, `RNA` or both.
        build: Builds the network.
    """

    reads: frozenset[str]
    build: Callable[[NetworkSize], nn.Module]


def _mean_pool(size: NetworkSize) -> MeanPool:
    return MeanPool(size.n_features, size.n_outputs, size.width, size.magnifications, DROPOUT)


def _abmil(size: NetworkSize) -> GatedABMIL:
    return GatedABMIL(size.n_features, size.n_outputs, size.width, size.width, size.magnifications, DROPOUT)


def _rna_network(size: NetworkSize) -> RNANetwork:
    return RNANetwork(size.n_genes, size.n_outputs, (size.width, size.width))


def _early_concat(size: NetworkSize) -> EarlyConcat:
    widths = size.width, size.width
    return EarlyConcat(size.n_features, size.n_genes, size.n_outputs, *widths, size.magnifications, DROPOUT)


def _late_fusion(size: NetworkSize) -> LateFusion:
    return LateFusion(_abmil(size), _rna_network(size))


def _transmil(size: NetworkSize) -> TransMIL:
    return TransMIL(size.n_features, size.n_outputs, size.width, size.magnifications)


def _mcat(size: NetworkSize) -> MCAT:
    return MCAT(size.n_features, size.n_genes, size.n_outputs, size.width, size.magnifications)


BASELINES = {
    "histology_mean": Baseline(frozenset({SLIDES}), _mean_pool),
    "histology_abmil": Baseline(frozenset({SLIDES}), _abmil),
    "rna_network": Baseline(frozenset({RNA}), _rna_network),
    "early_concat": Baseline(frozenset({SLIDES, RNA}), _early_concat),
    "late_fusion": Baseline(frozenset({SLIDES, RNA}), _late_fusion),
    "transmil": Baseline(frozenset({SLIDES}), _transmil),
    "mcat": Baseline(frozenset({SLIDES, RNA}), _mcat),
}
"""Baselines of dmml by their short names"""


def find_baseline(name: str) -> Baseline:
    """Find a baseline.

    Args:
        name: Short name of one of `BASELINES`, or the path of a class or function.

    Raises:
        InputError: There is no such baseline, or it cannot be built, or does not say what it reads.
    """
    if "." not in name:
        if name not in BASELINES:
            raise InputError(
                f"there is no baseline {name!r}; give one of {', '.join(BASELINES)}, or the path of your own class, as "
                "my_module.MyNetwork"
            )
        return BASELINES[name]
    module_name, _, attribute = name.rpartition(".")
    try:
        kind = getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"baseline {name}: {error}; run the command in the folder that holds the module, or correct the path"
        ) from error
    _check_arguments(name, kind)
    reads = _declared(name, getattr(kind, "reads", None))
    return Baseline(reads, lambda size: kind(**{field: getattr(size, field) for field in _FIELDS}))


def _declared(name: str, reads: object) -> frozenset[str]:
    """Check what a user's class says that it reads."""
    if isinstance(reads, str) or not isinstance(reads, Collection) or not reads or not set(reads) <= {SLIDES, RNA}:
        raise InputError(
            f"baseline {name}: its attribute `reads` is {reads!r}; set it to what the network reads, "
            f'{{"{SLIDES}"}}, {{"{RNA}"}} or both'
        )
    return frozenset(reads)


def _check_arguments(name: str, kind: Callable[..., nn.Module]) -> None:
    try:
        inspect.signature(kind).bind(**dict.fromkeys(_FIELDS))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"baseline {name}: cannot be built ({error}); it is called with the keywords {', '.join(_FIELDS)}"
        ) from error
