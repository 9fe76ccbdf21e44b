"""What `dmml fit` and `dmml crossval` share: short class names, parser, log levels, trainer defaults, default callbacks.

The module itself imports no torch, since a config's class names are checked before that takes its seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dmml.progress_bars import is_quiet

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer

SHORT_NAMES = {
    "Backbone": "dmml.backbone.backbone",
    "Classification": "dmml.tasks",
    "DeformableFusion": "dmml.nn.fusion",
    "EMA": "dmml.callbacks.weight_average",
    "ExpressionEncoder": "dmml.nn.expression",
    "GatedPoolFusion": "dmml.nn.fusion",
    "GradientCoordination": "dmml.callbacks.coordination",
    "MultimodalDataModule": "dmml.data.module",
    "NanGuard": "dmml.callbacks.nan_guard",
    "PaperFusion": "dmml.nn.paper.fusion",
    "ProgramTokenEncoder": "dmml.nn.paper.expression",
    "PrototypeAggregator": "dmml.nn.paper.aggregator",
    "Regression": "dmml.tasks",
    "ReleasedExpressionEncoder": "dmml.nn.released_code.expression",
    "ReleasedFusion": "dmml.nn.released_code.fusion",
    "SubspaceStudent": "dmml.training.student",
    "SubspaceTeacher": "dmml.training.teacher",
    "Survival": "dmml.tasks",
    "TokenAggregator": "dmml.nn.aggregator",
}
"""Classes that a config may name without their module, and the module of each"""
TRAINER_DEFAULTS = {"max_epochs": 50, "log_every_n_steps": 5, "num_sanity_val_steps": 0, "enable_model_summary": False}
"""Arguments of Lightning's `Trainer` where a config states none"""
PARSER: dict[str, Any] = {"parser_mode": "omegaconf+", "exit_on_error": False}
"""Arguments of the parsers of `LightningCLI`: configs may hold `${…}`, and mistakes are raised"""
BEST_CHECKPOINT: dict[str, Any] = {"filename": "best", "monitor": "val/loss", "enable_version_counter": False}
"""Arguments of the `ModelCheckpoint` that keeps the best epoch"""


def prepare_libraries() -> None:
    """Prepare Lightning's log, its warnings and the parser for a command that reads a config.

    The classes of `SHORT_NAMES` are imported, because jsonargparse finds a class by its short name once it was imported.
    """
    import jsonargparse

    from dmml.training.library_warnings import silence_library_warnings

    silence_library_warnings()
    for module in dict.fromkeys(SHORT_NAMES.values()):
        import_module(module)
    jsonargparse.set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    jsonargparse.set_dumper("yaml", _dump_yaml)


def _dump_yaml(data: object) -> str:
    """Write YAML as jsonargparse does, but in C: configs from checkpoints name thousands of genes."""
    import yaml

    text: str = yaml.dump(data, Dumper=yaml.CSafeDumper, default_flow_style=False, allow_unicode=True, sort_keys=False)
    return text


def default_callbacks(configured: Iterable[Callback]) -> list[Callback]:
    """Callbacks that every fit has: they end it early, and stop it when a loss is not finite.

    Args:
        configured: Callbacks of the config; a default of the same kind as one of them is left out.
    """
    from lightning.pytorch.callbacks import EarlyStopping

    from dmml.callbacks.nan_guard import NanGuard
    from dmml.training.optimisation import PATIENCE

    defaults: list[Callback] = [NanGuard(), EarlyStopping(monitor="val/loss", patience=PATIENCE)]
    return [callback for callback in defaults if not has_kind(configured, type(callback))]


def has_kind(callbacks: Iterable[Callback], kind: type) -> bool:
    """Whether one of the callbacks is of a class or a subclass of it."""
    return any(isinstance(callback, kind) for callback in callbacks)


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """The trainer's callbacks, an attribute that Lightning does not declare. Changes of the list change the trainer."""
    return vars(trainer)["callbacks"]


def silence_progress_bars(callbacks: Iterable[Callback]) -> None:
    """Turn progress bars off if the command shows warnings only."""
    from lightning.pytorch.callbacks import ProgressBar

    for callback in callbacks:
        if is_quiet() and isinstance(callback, ProgressBar):
            callback.disable()
