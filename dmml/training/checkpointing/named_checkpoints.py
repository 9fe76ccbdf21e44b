"""Lists the checkpoints that a model section names. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping

CHECKPOINT_ARGUMENTS = ("teacher", "init_from")
"""Arguments of models that are paths of checkpoints; each may be one path, or a list of paths in a class of your own"""


def named_checkpoints(arguments: Mapping[str, object]) -> dict[str, str]:
    """{option: path} of every checkpoint that a model section names, such as {"model.teacher": "runs/…/best.ckpt"}.

    Args:
        arguments: The section's `init_args` as a config states them, whose types need not have been checked.
    """
    named: dict[str, str] = {}
    for argument in CHECKPOINT_ARGUMENTS:
        value = arguments.get(argument)
        if isinstance(value, (list, tuple)):
            named |= {f"model.{argument}[{i}]": path for i, path in enumerate(value) if isinstance(path, str)}
        elif isinstance(value, str):
            named[f"model.{argument}"] = value
    return named
