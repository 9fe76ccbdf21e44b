"""Reads a command's configuration as the Lightning CLI will: `--config` files merged in order, then the options.

A `data:` section may be a list of cohorts that are trained together. The CLI expects one section with a class and its
arguments, so the list is converted for it: the first cohort becomes the section, and the others go under `also`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import yaml

from dmml.cohort.cohort_config import shared_arguments, text_arguments
from dmml.data.data_config import DataConfig
from dmml.errors import InputError

MAX_VALUES, MAX_DEPTH = 200_000, 50
"""Maximum size and depth of a config; the largest seen in practice hold about ten thousand genes, ten levels deep"""


def read_config(argv: list[str]) -> dict[str, Any]:
    """Read the configuration that a command line names.

    Args:
        argv: The verb and its options.

    Raises:
        InputError: A file is missing or is not valid YAML, a `${...}` cannot be resolved, or cohorts disagree.
    """
    config: dict[str, Any] = {}
    for path in option_values(argv, "--config", "-c"):
        _merge(config, _read_yaml(path))
    apply_options(config, argv)
    return _resolve(config)


def convert_cohort_lists(argv: list[str]) -> list[str]:
    """Replace each config that names several cohorts, or no data class, by its converted text; keep other words."""
    converted = list(argv)
    for i, word in enumerate(argv):
        name, equals, value = word.partition("=")
        path = value if equals else argv[i + 1] if i + 1 < len(argv) else ""
        if name not in ("--config", "-c", "--data") or not Path(path).is_file():
            continue
        content = _load(Path(path))
        section = content if name == "--data" or not isinstance(content, dict) else content.get("data")
        if _needs_conversion(section):
            text = json.dumps(_section_of(Path(path)) if name == "--data" else _read_yaml(path), default=str)
            converted[i if equals else i + 1] = f"{name}={text}" if equals else text
    return converted


def _needs_conversion(section: object) -> bool:
    """Whether a data section is a list of cohorts, or one cohort without the class that reads it."""
    return isinstance(section, list) or (
        isinstance(section, dict) and "clinical" in section and "class_path" not in section
    )


def joined_sections(sections: list[Any]) -> dict[str, Any]:
    """Join the data sections of several cohorts: the first one's arguments, with the other cohorts under `also`.

    Raises:
        InputError: An entry is not a section or names another class, or the cohorts disagree in a shared argument.
    """
    if not sections or not all(isinstance(section, dict) for section in sections):
        raise InputError(
            "data: every entry of a list of cohorts is a section such as `- clinical: …`; correct the others"
        )
    if {class_name(section, "MultimodalDataModule") for section in sections} != {"MultimodalDataModule"}:
        raise InputError("data: cohorts trained together are all read by MultimodalDataModule; leave class_path out")
    cohorts = [dict(init_args(section)) for section in sections]
    first, *others = cohorts
    shared: dict[str, Any] = {}
    for key in shared_arguments(DataConfig) if others else ():
        values = [arguments.pop(key) for arguments in cohorts if key in arguments]
        if any(value != values[0] for value in values):
            raise InputError(f"data: the cohorts name different {key} ({values[0]!r}, {values[1]!r}); give one for all")
        shared |= {key: values[0]} if values else {}
    return {"class_path": "MultimodalDataModule", "init_args": first | shared | ({"also": others} if others else {})}


def option_values(argv: list[str], *options: str) -> list[str]:
    """Return the values of an option, given as `--option value` or `--option=value`."""
    values = []
    for i, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in options:
            if not equals and i + 1 >= len(argv):
                raise InputError(f"{name} needs a value after it")
            values.append(value if equals else argv[i + 1])
    return values


def _read_yaml(path: str | Path) -> dict[str, Any]:
    content = _parse(Path(path))
    section = content.get("data")
    if _needs_conversion(section):
        content["data"] = joined_sections(section if isinstance(section, list) else [section])
    return content


def _parse(path: Path) -> dict[str, Any]:
    if not path.is_file():
        examples = sorted(str(p) for p in Path("configs").glob("*.yaml")) if Path("configs").is_dir() else []
        hint = f"; the folder configs has {', '.join(examples)}" if examples else ""
        raise InputError(f"{path}: no such config file{hint}")
    content = _load(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no sections (model, data, trainer); see configs/demo.yaml")
    return content


def _load(source: Path | str, option: str = "") -> object:
    """Load plain values from a file, or from the text of an option; refuse YAML tags for other objects."""
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8") if isinstance(source, Path) else source)
        _check_size(content, str(option or source))
        return content
    except RecursionError as error:
        raise InputError(
            f"{option or source}: nested more than {MAX_DEPTH} levels deep; write it with fewer levels"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark and not option else ""
        raise InputError(
            f"{option or source}{line}: no valid YAML ({getattr(error, 'problem', None) or 'not text'}); correct the line"
        ) from error


def _check_size(content: object, place: str) -> None:
    """Limit size and depth: YAML anchors can repeat each other a billion times in ten lines, or contain themselves."""
    remaining, todo = MAX_VALUES, [(content, 0)]
    while todo:
        item, depth = todo.pop()
        remaining -= 1
        if remaining < 0 or depth > MAX_DEPTH:
            raise InputError(
                f"{place}: more than {MAX_VALUES:,} values or {MAX_DEPTH} levels once its anchors (&, *) are followed; "
                "write out what they stand for"
            )
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        todo += [(value, depth + 1) for value in inner]


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Merge one config into another: arguments of the same class, or of no class, key by key; others are replaced."""
    for key, value in more.items():
        old = into.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and not _replaces_class(value, old):
            _merge(old, value)
        else:
            into[key] = value


def _replaces_class(section: dict[str, Any], old: dict[str, Any]) -> bool:
    """Whether a section names another class than the section that it is merged into."""
    return "class_path" in section and section["class_path"] != old.get("class_path")


def apply_options(config: dict[str, Any], argv: list[str]) -> None:
    """Apply `--data held.yaml`, `--data.clinical x`, `--data.init_args.clinical x`, `--ckpt_path x` to the config."""
    for i, word in enumerate(argv[1:], 1):
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in ("--config", "-c"):
            continue
        if not equals:
            if i + 1 >= len(argv) or argv[i + 1].startswith("--"):
                continue
            value = argv[i + 1]
        keys = [key for key in name[2:].split(".") if key != "init_args"]
        parsed = _load(value, name) if value else value
        is_text = keys[0] == "data" and keys[1:] and keys[1] in text_arguments()
        if is_text and not isinstance(parsed, (str, type(None))):
            parsed = value  # the CLI also keeps the typed value of a text argument as text
        if len(keys) == 1:
            is_file = keys[0] in ("data", "model", "trainer") and str(value).endswith((".yaml", ".yml"))
            config[keys[0]] = _section_of(Path(value)) if is_file else parsed
            continue
        section = config.setdefault(keys[0], {})
        if not isinstance(section, dict):
            continue
        for key in keys[1:-1]:
            inner = _arguments_of(section).setdefault(key, {})
            section = inner if isinstance(inner, dict) else {}
        _arguments_of(section)[keys[-1]] = parsed


def _section_of(path: Path) -> dict[str, Any]:
    """Read the file that an option names: a section, or a list of cohorts."""
    content = _load(path) if path.is_file() else None
    if _needs_conversion(content):
        return joined_sections(content if isinstance(content, list) else [content])
    return _read_yaml(path)


def _arguments_of(section: dict[str, Any]) -> dict[str, Any]:
    """Return the dictionary that holds a section's arguments: `init_args`, or the section itself."""
    inner = section.get("init_args")
    return inner if isinstance(inner, dict) else section


def _resolve(config: dict[str, Any]) -> dict[str, Any]:
    """Resolve `${...}`, as the CLI does."""
    if "${" not in json.dumps(config, default=str):
        return config
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(config), resolve=True))
    except OmegaConfBaseException as error:
        raise InputError(f"config: {str(error).splitlines()[0]}; check the ${{...}} it names") from error


def init_args(section: object) -> dict[str, Any]:
    """Return the arguments of a section, written with or without `class_path`."""
    if not isinstance(section, dict):
        return {}
    return section.get("init_args") or {
        key: value for key, value in section.items() if key not in ("class_path", "init_args")
    }


def class_name(section: object, default: str = "") -> str:
    """Return the name of a section's class without its module, or the default if it states none."""
    path = section.get("class_path", default) if isinstance(section, dict) else default
    return str(path).rsplit(".", 1)[-1]
