"""Plots whose files and places in a page are there, but blank: drawing takes half of the time of a small `dmml test`."""

from pathlib import Path

import pytest

from dmml.evaluation.plots.plot import Plot

BLANK = {
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"></svg>\n',
    "png": bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
        "3a7e9b550000000a49444154789c63f80f00010101005a4d6ff10000000049454e44ae426082"
    ),
}
"""One transparent unit, and one white pixel"""


def leave_plots_blank(patch: pytest.MonkeyPatch) -> None:
    """Let plots be made and laid out in a page as ever, but not be drawn.

    Args:
        patch: Undoes it.
    """
    patch.setattr(Plot, "save", _save_blank)
    patch.setattr(Plot, "inline_svg", lambda plot, prefix: BLANK["svg"].decode())


def _save_blank(plot: Plot, folder: Path, suffixes: tuple[str, ...] = ("png", "svg")) -> None:
    for suffix in suffixes:
        (folder / f"{plot.name}.{suffix}").write_bytes(BLANK[suffix])
