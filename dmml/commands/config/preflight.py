"""Quick checks of `fit`, `validate`, `test` and `predict`, before anything heavy is imported.

What these checks do not understand is left to the CLI.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dmml.commands.config.mistakes import misspelt_class, misspelt_data
from dmml.commands.config.reading import init_args, option_values, read_config, spell_out_cohorts
from dmml.commands.config.unquoted_values import check_quotes
from dmml.errors import InputError
from dmml.experiment.run_folder import RunFolder
from dmml.experiment.tested_checkpoint import TestedCheckpoint
from dmml.store.folder_names import is_folder_name
from dmml.writable import check_writable

ALLOW = "--allow-training-patients"
RESULTS = ("test", "predict")
"""Verbs that write results"""
WORDS = ("best", "last", "hpc", "registry")
"""Words that Lightning reads as a checkpoint of the current run, which only a fit has"""
MOVE = "give another folder with --trainer.default_root_dir"

__all__ = ["Request", "check", "check_checkpoint", "init_args", "refuse_blind_student"]


@dataclass
class Request:
    """A checked command."""

    argv: list[str]
    """arguments for the Lightning CLI, without dmml's own options"""
    config: dict[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    resume: bool = False
    allow_training_patients: bool = False
    """whether patients that the model was trained on may be tested"""
    digest: str = ""
    """hash of the configuration; an unfinished run is resumed only if it is the same"""
    typed: list[str] = field(default_factory=list)
    """`argv` before lists of cohorts were converted (see `spell_out_cohorts`)"""

    @property
    def verb(self) -> str:
        """`fit`, `validate`, `test` or `predict`."""
        return self.argv[0]

    @property
    def wants_help(self) -> bool:
        """Whether the CLI only prints help or the config."""
        return any(word in ("-h", "--help") or word.startswith(("--print_config", "--help")) for word in self.argv)

    @property
    def run_folder(self) -> Path:
        """Folder that a fit writes to."""
        trainer, data = self.config.get("trainer") or {}, self.config.get("data") or {}
        return Path(trainer.get("default_root_dir") or Path("runs") / (data.get("name") or "run"))

    @cached_property
    def checkpoint(self) -> TestedCheckpoint:
        """The checkpoint to run. Only a folder typed on the command line moves its results."""
        typed = option_values(self.argv, "--trainer.default_root_dir")
        root = Path(typed[-1]) if typed and typed[-1] else None
        return TestedCheckpoint(Path(str(self.config["ckpt_path"])), root, self.overwrite)

    @property
    def fold_source(self) -> str:
        """Why this fold is tested, as a clause of a message; empty if it was typed on the command line."""
        if option_values(self.argv, "--data.fold", "--data.init_args.fold"):
            return ""
        return (
            ", as the config says" if "fold" in init_args(self.config["data"]) else ", since no --data.fold was typed"
        )

    @property
    def command(self) -> str:
        """The command as it was typed."""
        allowed = [ALLOW] if self.allow_training_patients else []
        return " ".join(["dmml", *(self.typed or self.argv), *allowed])


def check(argv: list[str], writes: bool = True) -> Request:
    """Find mistakes in a command and in the files that it names.

    Args:
        argv: The verb and its options.
        writes: Whether the command writes to the run folder. A cross-validation reads a fit's config, but writes
            elsewhere.

    Raises:
        InputError: A file is missing or cannot be parsed, a table lacks a column, a patient is in two splits, the run
            is finished, ...
    """
    allowed = argv[0] in RESULTS and ALLOW in argv
    words = [word for word in argv if word not in ("--overwrite", "--resume", *([ALLOW] if allowed else []))]
    request = Request(
        words,
        overwrite="--overwrite" in argv,
        resume="--resume" in argv,
        allow_training_patients=allowed,
        typed=words,
    )
    if request.wants_help:
        return request
    if ALLOW in words:
        raise InputError(f"{ALLOW} is for test and predict; leave it out of {request.verb}")
    configs = option_values(request.argv, "--config", "-c")
    request.config = read_config(request.argv)
    request.argv = spell_out_cohorts(request.argv)
    request.digest = hashlib.sha256(json.dumps(request.config, sort_keys=True, default=str).encode()).hexdigest()[:16]
    checkpoint = request.config.get("ckpt_path")
    if request.verb == "fit" and not isinstance(request.config.get("model"), dict):
        raise InputError("fit needs a model: dmml fit --config CONFIG with a `model:` section, as in configs/demo.yaml")
    if not isinstance(request.config.get("data"), dict):
        raise InputError(
            f"{request.verb} needs data: dmml {request.verb} --config COHORT with a `data:` section, as in configs/demo.yaml"
        )
    if request.verb != "fit" and (checkpoint is None or checkpoint in WORDS):
        given = "" if checkpoint is None else f", not the word {checkpoint!r}"
        raise InputError(
            f"{request.verb} needs a checkpoint{given}: --ckpt_path RUN/checkpoints/best.ckpt, written by `dmml fit`"
        )
    if mistake := misspelt_class(request.config):
        raise InputError(mistake)
    _refuse_sharding(request.config.get("trainer"))
    root = (request.config.get("trainer") or {}).get("default_root_dir")
    if request.verb == "fit" and writes:
        _check_run_folder(request)
    if request.verb == "fit" and root and not request.overwrite:
        RunFolder(root).refuse_taken(request.digest, request.resume)
    _check_files(request, configs)
    for path in _checkpoints(request) if request.verb == "fit" else [str(checkpoint)]:
        check_checkpoint(path)
    if request.verb in RESULTS:
        check_writable(request.checkpoint.root / request.verb, MOVE)
    _check_cohort(request)
    return request


def _check_run_folder(request: Request) -> None:
    """Refuse a run folder that cannot be written to; a trial (`fast_dev_run`) writes nothing."""
    if not (request.config.get("trainer") or {}).get("fast_dev_run"):
        folder, checkpoints = request.run_folder, request.run_folder / "checkpoints"
        check_writable(checkpoints if checkpoints.is_dir() else folder, MOVE)


def _check_files(request: Request, configs: list[str]) -> None:
    """Refuse missing files; one message lists all of them."""
    from dmml.cohort.config_paths import named_files

    named = {f"data.{option}": str(path) for option, path in named_files(init_args(request.config["data"])).items()}
    named |= _named_checkpoints(request)
    if far := next((f"{option} {path}" for option, path in named.items() if _is_checkpoint_url(option, path)), None):
        raise InputError(f"{far}: a checkpoint is read from a file alone, not from a URL; fetch it first")
    missing = [f"{path} ({option})" for option, path in named.items() if _is_missing(path)]
    if missing:
        page = next(filter(None, map(_page, configs)), None)
        hint = (
            f"; {page} tells how to get them"
            if page
            else "; correct the paths, which are relative to the working directory"
        )
        raise InputError(f"missing: {', '.join(missing)}{hint}")


def _is_checkpoint_url(option: str, path: Any) -> bool:
    return not option.startswith("data.") and "://" in str(path)


def check_checkpoint(path: Any) -> None:
    """Refuse a file that cannot be a checkpoint, before torch is imported. Nothing in it is executed or unpickled.

    Raises:
        InputError: The file does not exist, may not be read, or is not an archive like those that `dmml fit` writes.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; `dmml fit` writes them to <run>/checkpoints/")
    try:
        with Path(path).open("rb") as file:
            is_archive = zipfile.is_zipfile(file)
    except PermissionError:
        raise InputError(f"{path}: may not be read; give yourself the right to") from None
    if not is_archive:
        raise InputError(f"{path}: not a checkpoint that can be read safely; use one written by `dmml fit`")


def _named_checkpoints(request: Request) -> dict[str, Any]:
    """Return {option: path} of the checkpoints that a command or its config names."""
    model = init_args(request.config.get("model")) if request.verb == "fit" else {}
    named = {"--ckpt_path": request.config.get("ckpt_path")}
    return named | {f"model.{option}": model.get(option) for option in ("teacher", "init_from")}


def _checkpoints(request: Request) -> list[str]:
    """Return the named checkpoints that are local files, not URLs or words of Lightning's such as `last`."""
    paths = _named_checkpoints(request).values()
    return [path for path in paths if isinstance(path, str) and Path(path).is_file()]


def _is_missing(path: Any) -> bool:
    return isinstance(path, str) and "://" not in path and path not in WORDS and not Path(path).exists()


def _page(config: str) -> str | None:
    """Return the page that a config names in a comment `# How to get the data: docs/tcga.md`."""
    found = re.search(r"^#\s*How to get the data:\s*(\S+)", Path(config).read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1) if found else None


def _check_cohort(request: Request) -> None:
    """Read the tables, which reveals a missing column, an unknown scale or a patient in two splits."""
    from dmml.cohort.rna.standardise import check_standardise_stage
    from dmml.cohort.section import read_cohort

    data = request.config["data"]
    if (
        isinstance(data, dict)
        and str(data.get("class_path", "MultimodalDataModule")).split(".")[-1] != "MultimodalDataModule"
    ):
        return  # a user's own data module reads its own arguments
    misspelt_data(init_args(data))
    check_quotes(init_args(data), init_args(request.config.get("model")))
    for one in (init_args(data), *(init_args(data).get("also") or [])):
        name = one.get("name")
        if name is not None and not is_folder_name(str(name)):
            raise InputError(
                f"data.name: {name!r} names the folder of the cohort's results; give a name that is no path"
            )
    check_standardise_stage(init_args(data).get("standardise") or "training", request.verb)
    if request.verb == "fit":
        refuse_blind_student(request.config)
        _check_magnifications(init_args(request.config.get("model")), init_args(data))
    cohort = read_cohort(init_args(data))
    cohort.partition(request.verb)
    if request.verb in RESULTS:
        name = cohort.result_name(init_args(data).get("standardise"))
        folder = request.checkpoint.check_result(request.verb, name, cohort.tested_fold)
        check_writable(folder, MOVE)
    if request.verb == "fit" and cohort.expression is not None:
        cohort.usable_gene_sets()


def _check_magnifications(model: dict[str, Any], data: dict[str, Any]) -> None:
    from dmml.cohort.magnifications import DEFAULT, choose_magnifications

    stated, offered = model.get("magnifications"), data.get("magnifications") or DEFAULT
    if isinstance(stated, list) and isinstance(offered, list | tuple):
        choose_magnifications(stated, offered)


def _refuse_sharding(trainer: Any) -> None:
    """Refuse strategies that split a model over devices, whether or not a callback reads the gradients.

    Raises:
        InputError: The strategy is FSDP, DeepSpeed or similar.
    """
    strategy = trainer.get("strategy") if isinstance(trainer, dict) else None
    name = str(strategy.get("class_path") if isinstance(strategy, dict) else strategy).split(".")[-1]
    if any(word in name.lower() for word in ("fsdp", "deepspeed", "modelparallel")):
        raise InputError(
            f"trainer.strategy: {name} splits a model over devices, which a model of a few million weights does not need, "
            "and hides the gradients that coordination compares; give strategy: ddp"
        )


def refuse_blind_student(config: dict[str, Any]) -> None:
    """Refuse a student without slides.

    Raises:
        InputError: The model is a student, and the data name no features.
    """
    model = config.get("model")
    kind = str(model.get("class_path")).split(".")[-1] if isinstance(model, dict) else ""
    data = init_args(config.get("data"))
    if kind == "SubspaceStudent" and not any(one.get("features") for one in (data, *(data.get("also") or []))):
        raise InputError(
            "data.features: a student reads slides, and the config names none; make a store with "
            "`dmml extract SLIDES --out F.zarr` and name it, or fit a SubspaceTeacher, which takes RNA alone"
        )
