"""Plots from the user's own folder, which `dmml report --plot module:function` draws into the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from dmml.class_paths import described, import_named
from dmml.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from dmml.evaluation.endpoints import Endpoint
    from dmml.evaluation.plots.plot import Plot


class Results(Protocol):
    """What a plot can read of a test as well as of a cross-validation."""

    @property
    def cohort(self) -> str:
        """Name of the cohort."""

    @property
    def folder(self) -> Path:
        """Folder of the results."""

    @property
    def endpoint(self) -> Endpoint:
        """What evaluation knows of the endpoint, such as the columns of the outcome."""

    @property
    def predictions(self) -> pd.DataFrame:
        """`predictions.csv` of a test, or `oof_predictions.csv` of a cross-validation."""


@dataclass(frozen=True)
class UserPlot:
    """A function of the user's.

    Attributes:
        name: `module:function`, as it was given.
        function: The function. It receives the results and returns a plot, or None if it has nothing to show.
    """

    name: str
    function: Callable[[Results], Plot | None]

    def draw(self, results: Results) -> Plot | None:
        """Call the function, with dmml's style as the default.

        Raises:
            InputError: The function failed, returned something else, or its figure cannot be drawn.
        """
        from dmml.evaluation.plots.plot import Plot, file_name
        from dmml.evaluation.plots.style import style

        try:
            with style():
                plot = self.function(results)
                if isinstance(plot, Plot):
                    plot.figure.draw_without_rendering()
        except Exception as error:
            raise InputError(
                f"--plot {self.name}: failed on {results.cohort} ({described(error)}); correct the function"
            ) from error
        if plot is None:
            return None
        if not isinstance(plot, Plot):
            raise InputError(
                f"--plot {self.name}: returned {type(plot).__name__}; return dmml.evaluation.plots.Plot(name, title, "
                "figure, caption), or None"
            )
        return replace(plot, name=file_name(plot.name))


def load_user_plot(name: str) -> UserPlot:
    """Import a plot function.

    Args:
        name: `module:function`. The module may lie in the working directory.

    Raises:
        InputError: The name has another form, or the function cannot be imported.
    """
    module, _, function = name.partition(":")
    loaded = import_named("--plot", name)
    if not callable(loaded):
        raise InputError(f"--plot {name}: {function} of {module} is not a function")
    return UserPlot(name, cast("Callable[[Results], Plot | None]", loaded))


def draw_user_plots(user_plots: Sequence[UserPlot], results: Results, used_names: Iterable[str] = ()) -> list[Plot]:
    """Draw the user's plots of one test or cross-validation, without those that have nothing to show.

    Args:
        user_plots: The user's plots.
        results: The test or the cross-validation.
        used_names: Names of the plots that are saved in the same folder.

    Raises:
        InputError: A plot failed, or has the name of another one.
    """
    names, plots = set(used_names), []
    for user_plot in user_plots:
        if (plot := user_plot.draw(results)) is None:
            continue
        if plot.name in names:
            raise InputError(
                f"--plot {user_plot.name}: the report has another plot with the name {plot.name}; give yours another one"
            )
        names.add(plot.name)
        plots.append(plot)
    return plots
