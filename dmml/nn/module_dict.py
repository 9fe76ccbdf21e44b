"""A dictionary of modules of one class, for type checkers and readers."""

from __future__ import annotations

from collections.abc import ItemsView, ValuesView
from typing import TYPE_CHECKING, Generic, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


class TypedModuleDict(nn.ModuleDict, Generic[M]):
    """`nn.ModuleDict` that states the class of its modules: `TypedModuleDict[nn.Linear]`."""

    if TYPE_CHECKING:

        def __getitem__(self, key: str) -> M: ...

        def values(self) -> ValuesView[M]:
            """Return the modules."""

        def items(self) -> ItemsView[str, M]:
            """Return names and modules."""
