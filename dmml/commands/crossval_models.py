"""`dmml test` and `dmml predict` with the folder of a cross-validation: its models are run one by one, and averaged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from dmml.commands.config.reading import option_values
from dmml.errors import InputError
from dmml.experiment.fold_models.checkpoints import checkpoints_of, is_crossval

CHECKPOINT, MODEL, ROOT = "--ckpt_path", "--crossval-model", "--trainer.default_root_dir"
_LOG = logging.getLogger(__name__)


def named_crossval(argv: Sequence[str]) -> Path | None:
    """Return the folder of a cross-validation that `--ckpt_path` names; None if it names anything else.

    Raises:
        InputError: `--crossval-model` is given, but no such folder.
    """
    paths = option_values(list(argv), CHECKPOINT)
    folder = Path(paths[-1]) if paths and is_crossval(paths[-1]) else None
    if folder is None and option_values(list(argv), MODEL):
        raise InputError(f"{MODEL}: is for the folder of a cross-validation; give one with {CHECKPOINT}")
    return folder


def run(argv: Sequence[str], folder: Path, dispatch: Callable[[list[str]], int]) -> int:
    """Run a command with every model, then average the predictions and write the result of all.

    Args:
        argv: The verb, `test` or `predict`, and its options.
        folder: Folder of the cross-validation.
        dispatch: Runs a command of dmml and returns its exit code.

    Returns:
        Exit code.

    Raises:
        InputError: A model is not finished, or the result of others may not be replaced.
    """
    verb, words = argv[0], list(argv)
    model, root = (_last(option_values(words, option)) for option in (MODEL, ROOT))
    checkpoints = checkpoints_of(folder, model)
    others = without_options(words, CHECKPOINT, MODEL, ROOT)
    for number, checkpoint in enumerate(checkpoints, start=1):
        run_folder = checkpoint.parent.parent
        _LOG.info("model %d of %d: %s", number, len(checkpoints), run_folder)
        roots = [] if root is None else [ROOT, str(Path(root) / run_folder.relative_to(folder))]
        if code := dispatch([*others, CHECKPOINT, str(checkpoint), *roots]):
            return code
    # Imported here: a wrong path is refused before anything heavy is imported.
    from dmml.experiment.fold_models.average_results import average_results

    results = [Path(root) / c.parent.parent.relative_to(folder) if root else c.parent.parent for c in checkpoints]
    command = " ".join(["dmml", *words])
    average_results(verb, results, checkpoints, folder, Path(root or folder), command, "--overwrite" in words)
    return 0


def _last(values: Sequence[str]) -> str | None:
    return values[-1] if values else None


def without_options(words: Sequence[str], *options: str) -> list[str]:
    """Remove options with their values, whether written as `--option value` or as `--option=value`."""
    kept: list[str] = []
    is_value = False
    for word in words:
        if is_value:
            is_value = False
        elif word in options:
            is_value = True
        elif word.partition("=")[0] not in options:
            kept.append(word)
    return kept
