"""Everything that `--explain` adds to an answer: tests of the maps, the divided deep part, programs and sheets of tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dmml.experiment.predict_slide.answer import Answer
from dmml.experiment.predict_slide.explain.deep_division import DeepDivision, divide_deep_part
from dmml.experiment.predict_slide.explain.faithfulness import (
    ATTENTION,
    CONTRIBUTION,
    TestedMap,
    deletion_tests,
    faithfulness_record,
)
from dmml.experiment.predict_slide.explain.levels import ExplainLevel
from dmml.experiment.predict_slide.explain.program_contributions import (
    ProgramContributions,
    program_contributions,
    program_record,
)
from dmml.experiment.predict_slide.explain.tile_sheets import TileSheet, tile_sheets
from dmml.experiment.predict_slide.tile_scores import divide_answer
from dmml.types import Batch, SubspaceOutput

if TYPE_CHECKING:
    from dmml.networks.subspace_network import SubspaceNetwork


@dataclass(frozen=True)
class Explanation:
    """What explains an answer; empty for `--explain none`.

    Attributes:
        level: Name of the level.
        tested: Maps and their deletion tests.
        deep: The divided deep part; None if the level does not divide it.
        programs: Contributions of programs; {} if the level does not compute them.
        sheets: Top and bottom tiles of each subspace.
    """

    level: str
    tested: list[TestedMap] = field(default_factory=list)
    deep: DeepDivision | None = None
    programs: ProgramContributions = field(default_factory=dict)
    sheets: list[TileSheet] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return the entries of `prediction.json`."""
        entries: dict[str, Any] = {"explained": self.level}
        if self.tested:
            entries["faithfulness"] = faithfulness_record(self.tested)
        if self.deep is not None and self.deep.parts:
            entries["deep_part"] = self.deep.record()
        if self.programs:
            entries["program_contributions"] = program_record(self.programs)
        return entries


def explain(
    model: SubspaceNetwork,
    batch: Batch,
    answer: Answer,
    output: SubspaceOutput,
    level: ExplainLevel,
    slides: Sequence[Path] = (),
    mpp: float | None = None,
    tile_um: Mapping[int, float] = MappingProxyType({}),
) -> tuple[Answer, Explanation]:
    """Explain an answer.

    Args:
        model: The model, in eval mode.
        batch: B = 1, without padding.
        answer: The model's answer.
        output: Output of the model for the batch.
        level: How much is explained.
        slides: The patient's slides, in the order of `Bag.slide`; () = no sheets of tiles.
        mpp: µm per pixel, used only for slides that do not state it.
        tile_um: {magnification: side of a tile in µm}, for the sheets.

    Returns:
        The answer, with the deep part divided among its tiles if the level asks for it, and the explanation.
    """
    deep, programs = None, ProgramContributions()
    if level.divides_deep_part:
        deep = divide_deep_part(model, batch, output)
        programs = program_contributions(model, batch, output)
        if deep.parts:
            answer = replace(answer, tiles=deep.added_to(answer.tiles or divide_answer(model, batch, output)))
    if not level.shares:
        return answer, Explanation(level.name, deep=deep, programs=programs)
    tested = deletion_tests(model, batch, output, answer.tiles, level)
    sheets = _sheets(answer, batch, output, level, slides, mpp, tile_um) if slides and level.sheet_tiles else []
    return answer, Explanation(level.name, tested, deep, programs, sheets)


def _sheets(
    answer: Answer,
    batch: Batch,
    output: SubspaceOutput,
    level: ExplainLevel,
    slides: Sequence[Path],
    mpp: float | None,
    tile_um: Mapping[int, float],
) -> list[TileSheet]:
    """Draw the sheets by contributions or, where nothing is divided among tiles, by attention."""
    sheet = partial(tile_sheets, slides, batch, tile_um=tile_um, n=level.sheet_tiles, side=level.sheet_px, mpp=mpp)
    if answer.tiles is not None:
        return sheet(answer.tiles.scores, measure=CONTRIBUTION)
    attention = {
        key: values[0].double().cpu().numpy() * values.shape[1]
        for key, values in output.attention.items()
        if values.shape[1]
    }
    return sheet(attention, measure=ATTENTION)
