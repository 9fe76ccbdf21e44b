"""Light checks of `fit`, `validate`, `test` and `predict`, before anything heavy is imported.

Reads the configuration as the Lightning CLI will, as far as checks need it: several `--config` files on top of each
other, then `--section.key value`. What it cannot understand it leaves to the CLI.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dmml.commands.config_mistakes import misspelt_class
from dmml.errors import InputError
from dmml.experiment.run_folder import RunFolder


@dataclass
class Request:
    """What the user asked for, checked."""

    argv: list[str]
    """for the Lightning CLI, without dmml's own options"""
    config: dict[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    digest: str = ""
    """of the configuration: an unfinished run goes on only under the same"""

    @property
    def verb(self) -> str:
        """`fit`, `validate`, `test` or `predict`."""
        return self.argv[0]

    @property
    def wants_help(self) -> bool:
        """Whether the CLI only prints something."""
        return any(word in ("-h", "--help") or word.startswith(("--print_config", "--help")) for word in self.argv)

    @property
    def command(self) -> str:
        """The command as it was typed."""
        return " ".join(["dmml", *self.argv])


def check(argv: list[str]) -> Request:
    """Find what is wrong with the files that a command names.

    Raises:
        InputError: A file is missing or cannot be parsed, a table lacks a column, a patient stands in two splits, the
            run is finished, ...
    """
    request = Request([word for word in argv if word != "--overwrite"], overwrite="--overwrite" in argv)
    if request.wants_help:
        return request
    configs = _values(request.argv, "--config", "-c")
    for path in configs:
        _merge(request.config, _read_yaml(Path(path)))
    _apply_options(request.config, request.argv)
    request.config = _resolve(request.config)
    request.digest = hashlib.sha256(json.dumps(request.config, sort_keys=True, default=str).encode()).hexdigest()[:16]
    checkpoint = request.config.get("ckpt_path")
    if request.verb == "fit" and not isinstance(request.config.get("model"), dict):
        raise InputError("fit needs a model: dmml fit --config CONFIG with a `model:` section, as in configs/demo.yaml")
    if not isinstance(request.config.get("data"), dict):
        raise InputError(
            f"{request.verb} needs data: dmml {request.verb} --config COHORT with a `data:` section, as in configs/demo.yaml"
        )
    if request.verb != "fit" and checkpoint is None:
        raise InputError(
            f"{request.verb} needs a checkpoint: --ckpt_path RUN/checkpoints/best.ckpt, written by `dmml fit`"
        )
    if mistake := misspelt_class(request.config):
        raise InputError(mistake)
    root = (request.config.get("trainer") or {}).get("default_root_dir")
    if request.verb == "fit" and root and not request.overwrite:
        RunFolder(root).refuse_taken(request.digest)
    _check_files(request, configs)
    for path in _checkpoints(request):
        check_checkpoint(path)
    _check_cohort(request)
    return request


def _values(argv: list[str], *options: str) -> list[str]:
    """Values of an option, given as `--option value` or `--option=value`."""
    values = []
    for i, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in options:
            if not equals and i + 1 >= len(argv):
                raise InputError(f"{name} needs a file")
            values.append(value if equals else argv[i + 1])
    return values


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        near = sorted(str(p) for p in Path("configs").glob("*.yaml")) if Path("configs").is_dir() else []
        hint = f"; there are {', '.join(near)}" if near else ""
        raise InputError(f"{path}: no such config file{hint}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise InputError(
            f"{path}{where}: no valid YAML ({getattr(error, 'problem', None) or 'not text'}); correct the line"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no sections (model, data, trainer); see configs/demo.yaml")
    return content


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Lay a config over another; sections with the same class are merged key by key."""
    for key, value in more.items():
        old = into.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and value.get("class_path", 0) == old.get("class_path", 0):
            _merge(old, value)
        else:
            into[key] = value


def _apply_options(config: dict[str, Any], argv: list[str]) -> None:
    """`--data held.yaml`, `--data.clinical x`, `--data.init_args.clinical x`, `--ckpt_path x`."""
    for i, word in enumerate(argv[1:], 1):
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in ("--config", "-c"):
            continue
        if not equals:
            if i + 1 >= len(argv) or argv[i + 1].startswith("--"):
                continue
            value = argv[i + 1]
        keys = [key for key in name[2:].split(".") if key != "init_args"]
        parsed = yaml.safe_load(value) if value else value
        if len(keys) == 1:
            is_file = keys[0] in ("data", "model", "trainer") and str(value).endswith((".yaml", ".yml"))
            config[keys[0]] = _read_yaml(Path(value)) if is_file else parsed
            continue
        section = config.setdefault(keys[0], {})
        if not isinstance(section, dict):
            continue
        for key in keys[1:-1]:
            inner = _arguments_of(section).setdefault(key, {})
            section = inner if isinstance(inner, dict) else {}
        _arguments_of(section)[keys[-1]] = parsed


def _arguments_of(section: dict[str, Any]) -> dict[str, Any]:
    """Where a section's arguments stand: under `init_args`, or in the section itself."""
    inner = section.get("init_args")
    return inner if isinstance(inner, dict) else section


def _resolve(config: dict[str, Any]) -> dict[str, Any]:
    """Fill in `${...}`, as the CLI does."""
    if "${" not in json.dumps(config, default=str):
        return config
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(OmegaConf.create(config), resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(f"config: {str(error).splitlines()[0]}; check the ${{...}} it names") from error


def init_args(section: Any) -> dict[str, Any]:
    """Arguments of a section, written with or without `class_path`."""
    if not isinstance(section, dict):
        return {}
    return section.get("init_args") or {
        key: value for key, value in section.items() if key not in ("class_path", "init_args")
    }


def _check_files(request: Request, configs: list[str]) -> None:
    """Every file that is named must be there; all that are missing are said at once."""
    from dmml.cohort.named_files import named_files

    named = {f"data.{option}": str(path) for option, path in named_files(init_args(request.config["data"])).items()}
    named |= _named_checkpoints(request)
    missing = [f"{path} ({option})" for option, path in named.items() if _is_missing(path)]
    if missing:
        page = next(filter(None, map(_page, configs)), None)
        hint = (
            f"; {page} tells how to get them"
            if page
            else "; correct the paths, which are relative to the working directory"
        )
        raise InputError(f"missing: {', '.join(missing)}{hint}")


def check_checkpoint(path: Any) -> None:
    """Refuse what cannot be a checkpoint, before torch is imported; nothing in the file is executed or unpickled.

    Raises:
        InputError: There is no file, or it is no archive as `dmml fit` writes them.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; `dmml fit` writes them to <run>/checkpoints/")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not a checkpoint that can be read safely; use one written by `dmml fit`")


def _named_checkpoints(request: Request) -> dict[str, Any]:
    """{option: path} of the checkpoints that a command or its config names."""
    model = init_args(request.config.get("model")) if request.verb == "fit" else {}
    named = {"--ckpt_path": request.config.get("ckpt_path")}
    return named | {f"model.{option}": model.get(option) for option in ("teacher", "init_from")}


def _checkpoints(request: Request) -> list[str]:
    """Of these the local files; a word of Lightning's such as `last`, or a URL, is none."""
    paths = _named_checkpoints(request).values()
    return [path for path in paths if isinstance(path, str) and Path(path).is_file()]


def _is_missing(path: Any) -> bool:
    return (
        isinstance(path, str)
        and "://" not in path
        and path not in ("best", "last", "hpc", "registry")
        and not Path(path).exists()
    )


def _page(config: str) -> str | None:
    """The page that a config names in a comment `# How to get the data: docs/tcga.md`."""
    found = re.search(r"^#\s*How to get the data:\s*(\S+)", Path(config).read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1) if found else None


def _check_cohort(request: Request) -> None:
    """Read the tables, which finds a missing column, an unknown scale, a patient in two splits."""
    from dmml.cohort.cohort import read_cohort

    data = request.config["data"]
    if (
        isinstance(data, dict)
        and str(data.get("class_path", "MultimodalDataModule")).split(".")[-1] != "MultimodalDataModule"
    ):
        return  # a data module of the user's own reads what it likes
    model = request.config.get("model")
    kind = str(model.get("class_path")) if request.verb == "fit" and isinstance(model, dict) else ""
    if kind.split(".")[-1] == "SubspaceStudent" and not init_args(data).get("features"):
        raise InputError(
            "data.features: a student reads slides, and the config names none; make a store with "
            "`dmml extract SLIDES --out F.zarr` and name it, or fit a SubspaceTeacher, which takes RNA alone"
        )
    read_cohort(init_args(data)).partition(request.verb)
