"""Checks of the files and folders that a command names, before anything heavy is imported."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from dmml.cohort.config_paths import named_files
from dmml.commands.config.checked_command import CheckedCommand
from dmml.commands.config.reading import option_values
from dmml.errors import InputError
from dmml.networks.checkpoint_content import check_exists, read_hyper_parameters
from dmml.training.checkpointing.named_checkpoints import named_checkpoints
from dmml.writable import check_writable

LIGHTNING_WORDS = ("best", "last", "hpc", "registry")
"""Words that Lightning reads as a checkpoint of the current run, which only a fit has"""
MOVE = "give another folder with --trainer.default_root_dir"


def check_run_folder(command: CheckedCommand) -> None:
    """Refuse a run folder that cannot be written to; a trial (`fast_dev_run`) writes nothing.

    Raises:
        InputError: The folder cannot be written to.
    """
    if not command.trainer.get("fast_dev_run"):
        folder, checkpoints = command.run_folder, command.run_folder / "checkpoints"
        check_writable(checkpoints if checkpoints.is_dir() else folder, MOVE)


def check_files(command: CheckedCommand) -> None:
    """Refuse files that do not exist, and URLs of checkpoints.

    Raises:
        InputError: Files are missing, all of which the message lists, or a checkpoint is a URL.
    """
    checkpoints = _named_checkpoints(command)
    if url := next((f"{option} {path}" for option, path in checkpoints.items() if "://" in path), None):
        raise InputError(f"{url}: a checkpoint is read from a file alone, not from a URL; fetch it first")
    named = {f"data.{option}": str(path) for option, path in named_files(command.data).items()} | checkpoints
    missing = [f"{path} ({option})" for option, path in named.items() if _is_missing(path)]
    if missing:
        configs = option_values(command.typed, "--config", "-c")
        page = next(filter(None, map(_page_on_data, configs)), None)
        hint = (
            f"{page} says how to get them" if page else "correct the paths, which are relative to the working directory"
        )
        raise InputError(f"missing: {', '.join(missing)}; {hint}")


def check_checkpoints(command: CheckedCommand) -> None:
    """Check every checkpoint that the command names; see `check_checkpoint`."""
    if command.verb != "fit":
        check_checkpoint(str(command.config["ckpt_path"]))
        return
    for path in _named_checkpoints(command).values():
        if Path(path).is_file():  # not a word of Lightning's such as `last`
            check_checkpoint(path)


def check_checkpoint(path: str | Path) -> None:
    """Refuse a checkpoint that cannot be used, before torch is imported. Nothing in it is executed or unpickled.

    Raises:
        InputError: The file does not exist, may not be read, is not an archive like those that `dmml fit` writes, or says
            something of its model that `check_content` refuses.
    """
    check_exists(path)
    try:
        with Path(path).open("rb") as file:
            is_archive = zipfile.is_zipfile(file)
    except PermissionError:
        raise InputError(f"{path}: may not be read; give yourself the right to") from None
    if not is_archive:
        raise InputError(f"{path}: not a checkpoint that can be read safely; use one written by `dmml fit`")
    read_hyper_parameters(path)


def _named_checkpoints(command: CheckedCommand) -> dict[str, str]:
    """Return {option: path} of the checkpoints that a command or its config names."""
    model = command.model if command.verb == "fit" else {}
    path = command.config.get("ckpt_path")
    return ({"--ckpt_path": path} if isinstance(path, str) else {}) | named_checkpoints(model)


def _is_missing(path: str) -> bool:
    return path not in LIGHTNING_WORDS and not Path(path).exists()


def _page_on_data(config: str) -> str | None:
    """Return the page that a config names in a comment `# How to get the data: docs/tcga.md`."""
    match = re.search(r"^#\s*How to get the data:\s*(\S+)", Path(config).read_text(encoding="utf-8"), re.MULTILINE)
    return match.group(1) if match else None
