"""Reads a command's configuration as the Lightning CLI will: `--config` files merged in order, then the options.

A `data:` section may be a list of cohorts that are trained together. The CLI expects one section with a class and its
arguments, so the list is converted for it: the first cohort becomes the section, and the others go under `also`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from dmml.commands.config.mistakes import DATA
from dmml.commands.config.unquoted_values import TEXT
from dmml.errors import InputError

OWN = ("clinical", "name", "patient_id", "slide_id", "outcome", "covariates", "expression", "features", "split", "also")
"""Data section arguments that each cohort sets for itself. The others are shared: given once, or the same for all"""

MOST_VALUES, DEEPEST = 200_000, 50
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


def spell_out_cohorts(argv: list[str]) -> list[str]:
    """Replace each config that names several cohorts, or no data class, by its converted text; keep other words."""
    spelt = list(argv)
    for i, word in enumerate(argv):
        name, equals, value = word.partition("=")
        path = value if equals else argv[i + 1] if i + 1 < len(argv) else ""
        if name not in ("--config", "-c", "--data") or not Path(path).is_file():
            continue
        content = _load(Path(path))
        section = content if name == "--data" or not isinstance(content, dict) else content.get("data")
        if _needs_spelling(section):
            text = json.dumps(_section_of(Path(path)) if name == "--data" else _read_yaml(path), default=str)
            spelt[i if equals else i + 1] = f"{name}={text}" if equals else text
    return spelt


def _needs_spelling(section: Any) -> bool:
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
        raise InputError("data: a list of cohorts has sections like `- clinical: …`; one of them is none")
    kinds = {str(section.get("class_path", "MultimodalDataModule")).rsplit(".", 1)[-1] for section in sections}
    if kinds != {"MultimodalDataModule"}:
        raise InputError("data: cohorts trained together are all read by MultimodalDataModule; leave class_path out")
    given = [dict(init_args(section)) for section in sections]
    first, *others = given
    shared = {}
    for key in [key for key in DATA if key not in OWN] if others else ():
        values = [arguments.pop(key) for arguments in given if key in arguments]
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
    if _needs_spelling(section):
        content["data"] = joined_sections(section if isinstance(section, list) else [section])
    return content


def _parse(path: Path) -> dict[str, Any]:
    if not path.is_file():
        near = sorted(str(p) for p in Path("configs").glob("*.yaml")) if Path("configs").is_dir() else []
        hint = f"; there are {', '.join(near)}" if near else ""
        raise InputError(f"{path}: no such config file{hint}")
    content = _load(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no sections (model, data, trainer); see configs/demo.yaml")
    return content


def _load(source: Path | str, where: str = "") -> Any:
    """Load plain values from a file, or from the text of the option `where`; refuse YAML tags for other objects."""
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8") if isinstance(source, Path) else source)
        _refuse_endless(content, str(where or source))
        return content
    except RecursionError as error:
        raise InputError(f"{where or source}: no config is nested as deeply; write it flatter") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark and not where else ""
        raise InputError(
            f"{where or source}{line}: no valid YAML ({getattr(error, 'problem', None) or 'not text'}); correct the line"
        ) from error


def _refuse_endless(content: Any, place: str) -> None:
    """Limit size and depth: YAML anchors can repeat each other a billion times in ten lines, or contain themselves."""
    left, todo = MOST_VALUES, [(content, 0)]
    while todo:
        item, depth = todo.pop()
        left -= 1
        if left < 0 or depth > DEEPEST:
            raise InputError(
                f"{place}: more than {MOST_VALUES:,} values or {DEEPEST} levels once its anchors (&, *) are followed; "
                "write out what they stand for"
            )
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        todo += [(value, depth + 1) for value in inner]


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Merge one config into another; sections with the same class are merged key by key, others replaced."""
    for key, value in more.items():
        old = into.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and value.get("class_path", 0) == old.get("class_path", 0):
            _merge(old, value)
        else:
            into[key] = value


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
        if keys[0] == "data" and keys[1:] and keys[1] in TEXT and not isinstance(parsed, (str, type(None))):
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
    if _needs_spelling(content):
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
        return OmegaConf.to_container(OmegaConf.create(config), resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(f"config: {str(error).splitlines()[0]}; check the ${{...}} it names") from error


def init_args(section: Any) -> dict[str, Any]:
    """Return the arguments of a section, written with or without `class_path`."""
    if not isinstance(section, dict):
        return {}
    return section.get("init_args") or {
        key: value for key, value in section.items() if key not in ("class_path", "init_args")
    }
