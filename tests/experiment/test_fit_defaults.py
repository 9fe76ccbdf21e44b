"""`dmml fit` and `dmml crossval` know the same short class names and add the same callbacks."""

import json
import logging
import subprocess
import sys
from importlib import import_module

import pytest
import yaml
from lightning.pytorch.callbacks import EarlyStopping, TQDMProgressBar

from dmml.callbacks.nan_guard import NanGuard
from dmml.experiment.fit_defaults import SHORT_NAMES, default_callbacks, silence_progress_bars

MODELS = [
    {
        "class_path": "SubspaceTeacher",
        "init_args": {
            "task": {"class_path": "Survival"},
            "fusion": {"class_path": "PaperFusion"},
            "expression_encoder": {"class_path": "ProgramTokenEncoder"},
            "backbone": {"class_path": "Backbone"},
        },
    },
    {
        "class_path": "SubspaceTeacher",
        "init_args": {
            "fusion": {"class_path": "GatedPoolFusion"},
            "expression_encoder": {"class_path": "ExpressionEncoder"},
        },
    },
    {
        "class_path": "SubspaceTeacher",
        "init_args": {
            "fusion": {"class_path": "ReleasedFusion"},
            "expression_encoder": {"class_path": "ReleasedExpressionEncoder"},
        },
    },
    {
        "class_path": "SubspaceTeacher",
        "init_args": {"task": {"class_path": "Regression"}, "fusion": {"class_path": "DeformableFusion"}},
    },
    {
        "class_path": "SubspaceStudent",
        "init_args": {"task": {"class_path": "Classification", "init_args": {"classes": ["a", "b"]}}},
    },
    {
        "class_path": "SubspaceStudent",
        "init_args": {"aggregator": {"class_path": "TokenAggregator", "init_args": {"tissue_attention": True}}},
    },
    {
        "class_path": "SubspaceStudent",
        "init_args": {"n_merged": 2, "aggregator": {"class_path": "PrototypeAggregator"}},
    },
]
"""Sections of models that name every class of dmml that is part of one"""
TRAINER = {
    "accelerator": "cpu",
    "callbacks": [{"class_path": "GradientCoordination"}, {"class_path": "NanGuard"}, {"class_path": "EMA"}],
}
DATA = {"class_path": "MultimodalDataModule", "init_args": {"clinical": "c.csv", "features": "f.zarr"}}
FIT = """
import sys
from dmml.__main__ import main
for path in sys.argv[1:]:
    assert main(["fit", "--config", path, "--print_config"]) == 0
"""
CROSSVAL = """
import sys, yaml
from dmml.experiment.crossval.fit import build
for path in sys.argv[1:]:
    config = yaml.safe_load(open(path))
    build(config["model"], config["trainer"])
"""


def test_every_short_name_is_a_class_of_its_module():
    for name, module in SHORT_NAMES.items():
        assert getattr(import_module(module), name).__name__ == name


def test_the_configs_below_name_every_class():
    text = json.dumps([MODELS, TRAINER, DATA])
    assert [name for name in SHORT_NAMES if f'"{name}"' not in text] == []


@pytest.mark.slow
@pytest.mark.parametrize("program", [FIT, CROSSVAL], ids=["fit", "crossval"])
def test_every_class_has_its_short_name_in_both_commands(program, tmp_path):
    """Each command starts in a process of its own, in which nothing else has imported the classes."""
    paths = []
    for i, model in enumerate(MODELS):
        paths.append(str(tmp_path / f"{i}.yaml"))
        with open(paths[-1], "w") as file:
            yaml.safe_dump({"model": model, "trainer": TRAINER, "data": DATA}, file)
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_callback_of_the_config_replaces_the_default_one():
    assert [type(callback) for callback in default_callbacks([])] == [NanGuard, EarlyStopping]
    assert [type(callback) for callback in default_callbacks([EarlyStopping("train/loss")])] == [NanGuard]


@pytest.mark.parametrize(("level", "disabled"), [(logging.WARNING, True), (logging.INFO, False)])
def test_progress_bars_are_silent_when_only_warnings_are_shown(level, disabled):
    bar = TQDMProgressBar()
    logger = logging.getLogger("dmml")
    before = logger.level
    logger.setLevel(level)
    try:
        silence_progress_bars([bar])
    finally:
        logger.setLevel(before)
    assert bar.is_disabled == disabled
