"""dmml: learns from whole-slide histology and bulk RNA-seq together, predicts from histology alone."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from dmml._version import __version__

if TYPE_CHECKING:
    from dmml.callbacks.coordination import GradientCoordination
    from dmml.data.module import MultimodalDataModule
    from dmml.store import FeatureStore, SlideFeatures
    from dmml.tasks import Classification, Regression, Survival
    from dmml.training.student import SubspaceStudent
    from dmml.training.teacher import SubspaceTeacher
    from dmml.types import Bag, Batch

_MODULES = {
    "Bag": "dmml.types",
    "Batch": "dmml.types",
    "Classification": "dmml.tasks",
    "FeatureStore": "dmml.store",
    "GradientCoordination": "dmml.callbacks.coordination",
    "MultimodalDataModule": "dmml.data.module",
    "Regression": "dmml.tasks",
    "SlideFeatures": "dmml.store",
    "SubspaceStudent": "dmml.training.student",
    "SubspaceTeacher": "dmml.training.teacher",
    "Survival": "dmml.tasks",
}

__all__ = [
    "Bag",
    "Batch",
    "Classification",
    "FeatureStore",
    "GradientCoordination",
    "MultimodalDataModule",
    "Regression",
    "SlideFeatures",
    "SubspaceStudent",
    "SubspaceTeacher",
    "Survival",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: `import dmml` itself costs nothing."""
    if name not in _MODULES:
        raise AttributeError(f"module 'dmml' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value
