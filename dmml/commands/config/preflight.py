"""Quick checks of `fit`, `validate`, `test` and `predict`, before anything heavy is imported.

What these checks do not understand is left to the CLI.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dmml.cohort.cohort_config import CohortConfig
from dmml.cohort.magnifications import DEFAULT_MAGNIFICATIONS, choose_magnifications
from dmml.commands.config.checked_command import ALLOW, CheckedCommand
from dmml.commands.config.file_checks import LIGHTNING_WORDS, MOVE, check_checkpoints, check_files, check_run_folder
from dmml.commands.config.mistakes import check_arguments, check_class_names, check_data_arguments
from dmml.commands.config.reading import class_name, convert_cohort_lists, init_args, read_config
from dmml.commands.config.unquoted_values import check_quotes
from dmml.data.data_config import check_max_tokens
from dmml.errors import InputError
from dmml.experiment.run_folder import RunFolder
from dmml.networks.checkpoint_content import hyper_parameters_of
from dmml.store.folder_names import is_folder_name
from dmml.writable import check_writable

if TYPE_CHECKING:
    from dmml.cohort.cohort import Cohort

LOGGER = logging.getLogger(__name__)
RESULTS = ("test", "predict")
"""Verbs that write results"""


def check(argv: list[str], writes: bool = True) -> CheckedCommand:
    """Find mistakes in a command and in the files that it names.

    Args:
        argv: The verb and its options.
        writes: Whether the command writes to the run folder. A cross-validation reads a fit's config, but writes
            elsewhere.

    Raises:
        InputError: A file is missing or cannot be parsed, a table lacks a column, a patient is in two splits, the run
            is finished, ...
    """
    command = _parse(argv)
    if command.wants_help:
        return command
    if ALLOW in command.argv:
        raise InputError(f"{ALLOW} is for test and predict; leave it out of {command.verb}")
    command.config = read_config(command.argv)
    LOGGER.debug("configuration: %s", json.dumps(command.config, default=str))
    command.argv = convert_cohort_lists(command.argv)
    command.digest = hashlib.sha256(json.dumps(command.config, sort_keys=True, default=str).encode()).hexdigest()[:16]
    _check_sections(command)
    check_class_names(command.config)
    if writes:  # a cross-validation removes a student's argument first
        check_arguments(command.config)
    _check_strategy(command.trainer)
    # A user's own data module reads its own arguments.
    is_cohort = class_name(command.config["data"], "MultimodalDataModule") == "MultimodalDataModule"
    if is_cohort:
        _check_data_section(command)
    if command.verb == "fit" and writes:
        check_run_folder(command)
    if command.verb == "fit" and command.trainer.get("default_root_dir") and not command.overwrite:
        RunFolder(command.trainer["default_root_dir"]).check_free(command.digest, command.resume)
    check_files(command)
    check_checkpoints(command)
    if command.verb in RESULTS:
        check_writable(command.checkpoint.root / command.verb, MOVE)
    if is_cohort:
        _check_cohort(command)
    return command


def _parse(argv: list[str]) -> CheckedCommand:
    """Take dmml's own options out of the arguments of the Lightning CLI."""
    allowed = argv[0] in RESULTS and ALLOW in argv
    options = {"--overwrite", "--resume", *([ALLOW] if allowed else [])}
    words = [word for word in argv if word not in options]
    return CheckedCommand(
        words,
        overwrite="--overwrite" in argv,
        resume="--resume" in argv,
        allow_training_patients=allowed,
        typed=words,
    )


def _check_sections(command: CheckedCommand) -> None:
    """Refuse a config without the sections, or a command without the checkpoint, that its verb needs."""
    verb, checkpoint = command.verb, command.config.get("ckpt_path")
    if verb == "fit" and not isinstance(command.config.get("model"), dict):
        raise InputError("fit needs a model: dmml fit --config CONFIG with a `model:` section, as in configs/demo.yaml")
    if not isinstance(command.config.get("data"), dict):
        raise InputError(
            f"{verb} needs data: dmml {verb} --config COHORT with a `data:` section, as in configs/demo.yaml"
        )
    if verb != "fit" and (checkpoint is None or checkpoint in LIGHTNING_WORDS):
        not_this = "" if checkpoint is None else f", not the word {checkpoint!r}"
        raise InputError(
            f"{verb} needs a checkpoint{not_this}: --ckpt_path RUN/checkpoints/best.ckpt, written by `dmml fit`"
        )


def _check_data_section(command: CheckedCommand) -> None:
    """Check the arguments of the data section, without reading a file that it names."""
    check_data_arguments(command.data)
    check_quotes(command.data, command.model)
    for section in (command.data, *(command.data.get("also") or [])):
        name = section.get("name")
        if name is not None and not is_folder_name(str(name)):
            raise InputError(
                f"data.name: {name!r} names the folder of the cohort's results; give a name without separators of paths"
            )
    check_limits(command.data)
    if command.verb == "fit":
        check_student_has_slides(command.config)
        _check_magnifications(command.model, command.data)


def _check_cohort(command: CheckedCommand) -> None:
    """Read the tables, which reveals a missing column, an unknown scale or a patient in two splits."""
    from dmml.cohort.section import read_cohort

    config = CohortConfig.from_section(command.data)
    config.check_stage(command.verb)
    command.cohort = cohort = read_cohort(config)
    cohort.partition(command.verb)
    if command.verb in RESULTS:
        name = cohort.result_name(config.standardise)
        folder = command.checkpoint.check_result(command.verb, name, cohort.tested_fold)
        check_writable(folder, MOVE)
    if cohort.expression is not None:
        if command.verb == "fit":
            cohort.usable_gene_sets()
        else:
            _check_rna(command, cohort, config.standardise)


def _check_rna(command: CheckedCommand, cohort: Cohort, standardise: str) -> None:
    """Refuse RNA that the model cannot read."""
    from dmml.data.rna import CohortRna
    from dmml.networks.packing import unpack

    fitted = unpack(hyper_parameters_of(command.checkpoint.path).get("fitted") or {})
    if statistics := fitted.get("gene_statistics"):
        CohortRna(cohort, standardise).check(statistics)


def _check_magnifications(model: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    of_model, of_data = model.get("magnifications"), data.get("magnifications") or DEFAULT_MAGNIFICATIONS
    if isinstance(of_model, list) and isinstance(of_data, list | tuple):  # the CLI refuses other types
        choose_magnifications(of_model, of_data)


def _check_strategy(trainer: Mapping[str, Any]) -> None:
    """Refuse strategies that split a model over devices, whether or not a callback reads the gradients.

    Raises:
        InputError: The strategy is FSDP, DeepSpeed or similar.
    """
    strategy = trainer.get("strategy")
    name = class_name(strategy) if isinstance(strategy, dict) else str(strategy).rsplit(".", 1)[-1]
    if any(word in name.lower() for word in ("fsdp", "deepspeed", "modelparallel")):
        raise InputError(
            f"trainer.strategy: {name} splits a model over devices, which a model of a few million weights does not need, "
            "and hides the gradients that coordination compares; give strategy: ddp"
        )


def check_student_has_slides(config: Mapping[str, Any]) -> None:
    """Refuse a student without slides.

    Raises:
        InputError: The model is a student, and the data name no features.
    """
    data = init_args(config.get("data"))
    names_features = any(section.get("features") for section in (data, *(data.get("also") or [])))
    if class_name(config.get("model")) == "SubspaceStudent" and not names_features:
        raise InputError(
            "data.features: a student reads slides, and the config names none; make a store with "
            "`dmml extract SLIDES --out F.zarr` and name it, or fit a SubspaceTeacher, which takes RNA alone"
        )


def check_limits(data: Mapping[str, Any]) -> None:
    """Refuse limits of tokens that a fit could not follow.

    Args:
        data: Arguments of the data section.

    Raises:
        InputError: As `check_max_tokens` does.
    """
    magnifications = data.get("magnifications") or DEFAULT_MAGNIFICATIONS
    if isinstance(magnifications, list | tuple):  # the CLI refuses other types
        check_max_tokens(data.get("max_tokens"), magnifications)
