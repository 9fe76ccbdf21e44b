"""Plot of the predicted programs that correlate most with the prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dmml.evaluation.genes.programs import Program
from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import MUTED, SUBSPACE_COLOR, new_figure, style
from dmml.evaluation.report.formatting import minus_signs

SUBSPACE_NAMES = {"tumor": "tumor", "tme": "TME"}
MAX_BARS = 12
_MAX_NAME_LENGTH = 30


def programs_plot(programs: Sequence[Program], prediction: str) -> Plot | None:
    """Plot the rank correlation of programs with the prediction; None if it is not defined for any.

    Args:
        programs: The programs, with the strongest correlation first.
        prediction: Name of the predicted quantity: "risk".
    """
    drawn = [program for program in programs if np.isfinite(program.with_answer)][:MAX_BARS]
    if not drawn:
        return None
    tooltips = {}
    with style():
        figure, axes = new_figure(width=5.2, height=0.8 + 0.27 * len(drawn))
        axes.axvline(0, color=MUTED, linewidth=1)
        for index, program in enumerate(drawn):
            gid = f"program-{index}"
            agreement = "" if np.isnan(program.agreement) else f"; with measured RNA {program.agreement:.2f}"
            tooltips[gid] = minus_signs(f"{program.name}: with {prediction} {program.with_answer:.2f}{agreement}")
            color = SUBSPACE_COLOR.get(program.subspace, MUTED)
            axes.barh(-index, program.with_answer, height=0.62, color=color)[0].set_gid(gid)
        axes.set_yticks([-index for index in range(len(drawn))], [_label(program) for program in drawn])
        axes.set_xticks([-1, -0.5, 0, 0.5, 1])
        axes.set(xlim=(-1, 1), xlabel=f"rank correlation with the predicted {prediction}")
        axes.grid(axis="y", visible=False)
    caption = (
        f"The {len(drawn)} programs that correlate most with the prediction; orange: tumor subspace, blue: TME. This is "
        "an association within the model, not a cause."
    )
    return Plot("programs", "Predicted programs", figure, caption, "; ".join(tooltips.values()), tooltips)


def _label(program: Program) -> str:
    """Name of the program with its subspace, so that the subspace is not shown by colour alone."""
    name = program.name.removeprefix("HALLMARK_").replace("_", " ")
    name = name if len(name) <= _MAX_NAME_LENGTH else f"{name[: _MAX_NAME_LENGTH - 1]}…"
    return f"{name} ({SUBSPACE_NAMES.get(program.subspace, program.subspace)})"
