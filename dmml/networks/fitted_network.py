"""Base of every network that was fitted to a cohort: its dimensions, its task and its fitted values."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any, Self

from torch import nn

from dmml.cohort.magnifications import DEFAULT_MAGNIFICATIONS
from dmml.errors import InputError
from dmml.networks.named_classes import imported
from dmml.networks.packing import unpack
from dmml.tasks import Survival, Task


class FittedNetwork(nn.Module):
    """Network that is built once its dimensions are known: from its arguments, a cohort or a checkpoint.

    A subclass passes the arguments that it does not state on to this class as keywords (`**shared`).

    Args:
        n_features: D of the encoder; None = taken from the data at fit, 0 = no slides.
        genes: {"tumor": [...], "tme": [...]}; None = taken from the data at fit, {} = no RNA.
        task: Task that is predicted; None = survival. Its classes or edges are fitted on the training patients where
            they are not given.
        width: d.
        magnifications: Magnifications that the model reads. If the data lack one of the default [10, 20], the model
            reads those of the data instead.
        fitted: Filled at fit and saved in the checkpoint; leave it empty.

    Attributes:
        task_is_given: Whether the constructor was given a task.
    """

    def __init_subclass__(cls, **keywords: Any):
        """Show the arguments of the base classes in the signature of a subclass, where it has `**shared`."""
        super().__init_subclass__(**keywords)
        signature = inspect.Signature(list(_arguments(cls).values()))
        setattr(cls, "__signature__", signature)  # noqa: B010 - type checkers know no such attribute of a class

    def __init__(
        self,
        n_features: int | None = None,
        genes: dict | None = None,
        task: Task | None = None,
        width: int = 128,
        magnifications: tuple[int, ...] | list[int] = DEFAULT_MAGNIFICATIONS,
        fitted: dict | None = None,
    ):
        super().__init__()
        self.n_features, self.genes = n_features, unpack(genes)
        self.task_is_given = task is not None
        self.task = Survival() if task is None else copy.deepcopy(task)  # fitted here; the caller's must not change
        self.width, self.magnifications = width, tuple(sorted(int(m) for m in magnifications))
        self.fitted: dict[str, Any] = unpack(fitted or {})
        self._is_built = False

    @classmethod
    def from_checkpoint(cls, checkpoint: Mapping[str, Any]) -> Self:
        """Rebuild the trained network of a checkpoint; arguments of its training are left out.

        Args:
            checkpoint: Content of the checkpoint, from `dmml.networks.checkpoint.read_checkpoint`, whose classes
                `are_plain`.

        Raises:
            InputError: A class that the checkpoint names cannot be imported, or it states no dimensions.
            RuntimeError, TypeError, ValueError: Its arguments or its weights do not fit this class.
        """
        names = inspect.signature(cls).parameters
        hparams = checkpoint["hyper_parameters"]
        arguments = {name: imported(value) for name, value in hparams.items() if name in names and name != "task"}
        network = cls(**arguments, task=imported(hparams["task"])())
        network._build_if_possible()
        if not network._is_built:
            raise InputError("the checkpoint does not state the dimensions of its network; fit the model again")
        network.load_state_dict(checkpoint["state_dict"])
        return network

    def _build_if_possible(self) -> None:
        """Build the network as soon as every dimension is known."""
        is_open = self.n_features is None or self.genes is None or getattr(self.task, "classes", ()) is None
        if self._is_built or is_open:
            return
        self._build()
        self._is_built = True

    def _build(self) -> None:
        """Build the network; every dimension is known."""
        raise NotImplementedError


def _arguments(kind: type) -> dict[str, inspect.Parameter]:
    """Collect the arguments of a constructor and, as long as it passes on `**keywords`, those of its base class."""
    arguments: dict[str, inspect.Parameter] = {}
    for each in kind.__mro__:
        if "__init__" not in vars(each):
            continue
        parameters = list(inspect.signature(vars(each)["__init__"]).parameters.values())[1:]  # the first is `self`
        for parameter in parameters:
            if parameter.kind is not parameter.VAR_KEYWORD and parameter.name not in arguments:
                is_own = each is kind
                arguments[parameter.name] = parameter if is_own else parameter.replace(kind=parameter.KEYWORD_ONLY)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return arguments
