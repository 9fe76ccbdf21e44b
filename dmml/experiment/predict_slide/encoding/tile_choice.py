"""Decides how tissue is found on a new slide: as on the slides that the model was trained on, as far as that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dmml.data.encoder_match import MIN_TISSUE_KEY, ROI_KEY, describe_roi
from dmml.errors import InputError
from dmml.slides.geojson.roi import check_roi
from dmml.slides.tiling.grid import DEFAULT_TISSUE, MIN_TISSUE


@dataclass(frozen=True)
class TileChoice:
    """How tissue is found, and which tiles are kept.

    Attributes:
        tissue: Name of the method: `colour`, or `module:function`.
        min_tissue: Smallest share of tissue of a tile that is kept.
        roi: GeoJSON file with the regions whose tiles are read, or folder with one file per slide; None = whole slides.
        budget: Share of the coarse tiles whose fine tiles are encoded; None = all.
        notes: How this differs from training, or may differ, as clauses without full stops; empty if it is the same.
    """

    tissue: str
    min_tissue: float
    roi: Path | None = None
    budget: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def record(self) -> dict[str, Any]:
        """The entry `tiles_chosen` of `prediction.json`."""
        regions = {} if self.roi is None else {ROI_KEY: str(self.roi)}
        budget = {} if self.budget is None else {"budget": self.budget}
        choice = {"tissue": self.tissue, "min_tissue": self.min_tissue, **regions, **budget}
        return {**choice, "as_in_training": not self.notes}


def check_options(tissue: str | None = None, min_tissue: float | None = None, roi: str | Path | None = None) -> None:
    """Check the options by which a user says which tiles are read.

    Raises:
        InputError: The method cannot be imported, the share is not above 0 and at most 1, or there are no regions.
    """
    check_roi(roi)
    if min_tissue is not None and not 0 < min_tissue <= 1:
        raise InputError(f"--min-tissue {min_tissue}: must be above 0 and at most 1")
    if tissue not in (None, DEFAULT_TISSUE):
        from dmml.slides.tiling.tissue import tissue_function

        tissue_function(tissue)


def check_budget(budget: float | None) -> None:
    """Check the share of coarse tiles whose fine tiles are encoded.

    Raises:
        InputError: It is not above 0 and at most 1.
    """
    if budget is not None and not 0 < budget <= 1:
        raise InputError(f"--budget {budget}: must be above 0 and at most 1, such as 0.25")


def choose_tiles(
    checkpoint: str | Path,
    extraction: Mapping[str, Any] | None,
    tissue: str | None = None,
    min_tissue: float | None = None,
    roi: str | Path | None = None,
    budget: float | None = None,
) -> TileChoice:
    """Choose tiles as in training, unless the user wants otherwise.

    A function of the user's own is not imported because a checkpoint names it: a checkpoint may come from anybody. The
    user must name it, too.

    Args:
        checkpoint: The checkpoint, for messages.
        extraction: How the store that the model was trained on was extracted, as its checkpoint records it: `tissue` and
            `least_tissue`, each None if the stores of several cohorts differ. Empty or None if it is not known.
        tissue: Method that the user names, None if none; see `check_options`.
        min_tissue: Smallest share of tissue that the user names, None if none.
        roi: File or folder of the regions to which the user restricts the tiles, None if none.
        budget: Share of the coarse tiles whose fine tiles are encoded; None = all, as in training.

    Raises:
        InputError: In training tissue was found by a function of the user's own, and `tissue` is None.
    """
    trained = extraction or {}
    trained_tissue, trained_share = trained.get("tissue"), trained.get(MIN_TISSUE_KEY)
    if tissue is None and trained_tissue not in (None, DEFAULT_TISSUE):
        raise InputError(
            f"{checkpoint}: on the training slides tissue was found by {trained_tissue}, which is not run because a file "
            f"names it; give --tissue {trained_tissue} in the folder of its module, or --tissue {DEFAULT_TISSUE} to do without"
        )
    choice = TileChoice(
        tissue=tissue or trained_tissue or DEFAULT_TISSUE,
        min_tissue=min_tissue or trained_share or MIN_TISSUE,
        roi=None if roi is None else Path(roi),
        budget=budget,
    )
    return replace(choice, notes=tuple(_differences(choice, trained)))


def _differences(choice: TileChoice, trained: Mapping[str, Any]) -> list[str]:
    """Describe where a choice differs from training, or where it is not known whether it does."""
    method, share = f"tissue was found by the method {choice.tissue}", f"{100 * choice.min_tissue:g} %"
    tiles = f"tiles with at least {share} tissue were read"
    if not trained:
        return [f"{method}, and {tiles}; how this was done on the training slides is not recorded"]
    notes = []
    for statement, value_here, name in ((method, choice.tissue, "tissue"), (tiles, choice.min_tissue, MIN_TISSUE_KEY)):
        in_training = trained.get(name)
        if in_training is None:
            notes.append(f"{statement}; the training cohorts differ in this")
        elif in_training != value_here:
            value = in_training if isinstance(in_training, str) else f"{100 * in_training:g} %"
            notes.append(f"{statement}; on the training slides it was {value}")
    has_roi = choice.roi is not None
    if trained.get(ROI_KEY, "") is None:
        notes.append(f"{describe_roi(has_roi)} was read; the training cohorts differ in this")
    elif has_roi != bool(trained.get(ROI_KEY)):
        notes.append(f"{describe_roi(has_roi)} was read; on the training slides it was {describe_roi(not has_roi)}")
    return notes
