"""How much `dmml predict-slide` explains: nothing, what costs little, or everything."""

from __future__ import annotations

from dataclasses import dataclass

from dmml.errors import InputError


@dataclass(frozen=True)
class ExplainLevel:
    """How much is explained.

    Attributes:
        name: Value of `--explain`.
        shares: Shares of the tiles that a deletion test removes, in ascending order; () for no test. The first ones are
            small, so that a model that reads a few tiles alone shows it.
        orders: Number of random orders with which a map is compared. Fewer than 19 could not give p ≤ 0.05.
        sheet_tiles: Number of top tiles, and of bottom tiles, on a sheet; 0 for no sheets.
        sheet_px: Side of a tile on a sheet, pixels.
        divides_deep_part: Whether the deep part of the subspaces is divided among tiles by integrated gradients.
    """

    name: str
    shares: tuple[float, ...]
    orders: int
    sheet_tiles: int
    sheet_px: int
    divides_deep_part: bool

    def check_divides_one_model(self) -> None:
        """Refuse to divide the deep parts of several models.

        Raises:
            InputError: The level divides the deep part.
        """
        if self.divides_deep_part:
            raise InputError(
                f"--explain {self.name}: divides the deep part of one model, and a cross-validation holds several; give one "
                "of its checkpoints, fold_0/…/checkpoints/best.ckpt, or --explain default"
            )


_FEW = (0.02, 0.1, 0.25, 0.5, 0.75)
_MANY = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LEVELS = {
    level.name: level
    for level in (
        ExplainLevel("none", shares=(), orders=0, sheet_tiles=0, sheet_px=0, divides_deep_part=False),
        ExplainLevel("default", shares=_FEW, orders=19, sheet_tiles=8, sheet_px=96, divides_deep_part=False),
        ExplainLevel("full", shares=_MANY, orders=199, sheet_tiles=8, sheet_px=224, divides_deep_part=True),
    )
}
DEFAULT = "default"


def explain_level(name: str) -> ExplainLevel:
    """Return a level by its name, and check that the libraries that it needs are installed.

    Raises:
        InputError: There is no such level, or captum is not installed.
    """
    if name not in LEVELS:
        raise InputError(f"--explain {name}: there is no such level; give {', '.join(LEVELS)}")
    level = LEVELS[name]
    if level.divides_deep_part:
        from importlib.util import find_spec

        if find_spec("captum") is None:
            raise InputError(
                f"--explain {name}: needs captum, which is not installed; install it with pip install 'dmml[explain]', or "
                f"give --explain {DEFAULT}"
            )
    return level
