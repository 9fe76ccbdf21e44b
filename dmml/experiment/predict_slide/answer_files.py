"""The files of one patient's answer: `prediction.json`, maps, sheets, shapes for QuPath, and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dmml._version import __version__
from dmml.atomic_files import atomic_folder, write_json
from dmml.experiment.fold_models.load import identity_of
from dmml.experiment.load_model import CheckpointModel
from dmml.experiment.predict_slide import text
from dmml.experiment.predict_slide.answer import Answer, plain
from dmml.experiment.predict_slide.encoding.encoded_ahead import EncodedCase
from dmml.experiment.predict_slide.encoding.tile_choice import TileChoice
from dmml.experiment.predict_slide.explain.explanation import Explanation
from dmml.experiment.predict_slide.input import PREDICTION, Case, thumbnail_name
from dmml.experiment.predict_slide.limits import AnswerLimits
from dmml.experiment.predict_slide.options import PredictionOptions
from dmml.experiment.predict_slide.qupath.options import QuPathFiles
from dmml.experiment.run_folder import now
from dmml.slides.wsi.slide import Slide
from dmml.store.encoder_identity import STAINS

if TYPE_CHECKING:
    from dmml.slides.encoders.encoder import Encoder
    from dmml.types import Batch, SubspaceOutput

TILES = "tiles.csv"
"""Table of the tiles and their clusters, for a model with prototypes"""


@dataclass(frozen=True)
class PatientResult:
    """Everything that is known of one patient when the files are written.

    Attributes:
        case: The patient's slides, and the folder of the answer.
        encoded: The encoded slides.
        batch: B = 1.
        output: Output of the model for the batch.
        answer: The answer.
        explanation: What explains it.
        limits: Whether the slides are like those of the training, and what is promised.
    """

    case: Case
    encoded: EncodedCase
    batch: Batch
    output: SubspaceOutput
    answer: Answer
    explanation: Explanation
    limits: AnswerLimits


def prediction_record(
    result: PatientResult,
    models: Sequence[CheckpointModel],
    encoder: Encoder,
    tiles: TileChoice,
    command: str,
    options: PredictionOptions,
) -> dict[str, Any]:
    """Return the content of `prediction.json`.

    Args:
        result: What is known of the patient.
        models: The model, or those whose mean the answer is.
        encoder: The encoder of the tiles.
        tiles: How tiles were chosen.
        command: The typed command.
        options: The options of the prediction.
    """
    model, identity = models[0], identity_of(models)
    answer, slides, limits = result.answer, result.encoded.sources, result.limits
    return {
        "format": "dmml-prediction-1",
        "patient": result.case.name,
        "answer": [text.headline(answer, identity), text.outlook(answer)],
        **plain(answer),
        "limits": limits.record,
        "notes": [
            *text.notes(answer, slides, model.reads_rna, knows_tissue=bool(limits.slides)),
            *text.tile_notes(tiles.notes),
            *filter(None, [limits.note]),
        ],
        "use": text.RESEARCH_USE,
        "slides": _with_metadata(slides, result.case.slides) if options.slide_metadata else slides,
        "tiles_chosen": tiles.record,
        "tile_px": encoder.tile_px,
        "model": identity,
        "encoder": encoder.identity | {key: model.encoder[key] for key in (STAINS,) if model.encoder.get(key)},
        "encoder_backend": encoder.backend,
        "command": command,
        "created": now(),
        "versions": {"dmml": __version__, "torch": torch.__version__},
        **result.explanation.record(),
    }


def _with_metadata(slides: Sequence[dict[str, Any]], paths: Sequence[Path]) -> list[dict[str, Any]]:
    described = []
    for slide, path in zip(slides, paths, strict=True):
        with Slide(path, slide["mpp"]) as opened:
            described.append({**slide, "metadata": dict(opened.handle.properties)})
    return described


def write_answer(result: PatientResult, record: dict[str, Any], qupath: QuPathFiles) -> None:
    """Write the answer's folder completely or not at all.

    Args:
        result: What is known of the patient.
        record: Content of `prediction.json`.
        qupath: Which files for QuPath are written besides the tiles.
    """
    with atomic_folder(result.case.folder) as folder:
        _write_files(folder, result, record, qupath)


def _write_files(folder: Path, result: PatientResult, record: dict[str, Any], qupath: QuPathFiles) -> None:
    from dmml.experiment.predict_slide.maps import encoded, tile_maps
    from dmml.experiment.predict_slide.page import write_page
    from dmml.experiment.predict_slide.prototypes import tile_table
    from dmml.experiment.predict_slide.qupath.files import write_qupath_files
    from dmml.experiment.predict_slide.qupath.layers import tile_layers

    answer, batch, output = result.answer, result.batch, result.output
    thumbnails, explanation = result.encoded.thumbnails, result.explanation
    maps = tile_maps(thumbnails, batch, output, result.encoded.tile_um, answer.tiles, answer.prototypes)
    for tile_map in maps:
        (folder / f"{tile_map.name}.png").write_bytes(tile_map.png())
    for sheet in explanation.sheets:
        (folder / f"{sheet.name}.png").write_bytes(encoded(sheet.image, "PNG"))
    if answer.prototypes is not None:
        tile_table(thumbnails, batch, answer.prototypes).to_csv(folder / TILES, index=False)
    layers = tile_layers(answer, batch, output, result.encoded.tile_um)
    write_qupath_files(folder, result.case.slides, record, layers, qupath)
    outcome = answer.presentation.plot(answer)
    if outcome is not None:
        outcome.save(folder, suffixes=("png",))
    for slide in thumbnails:
        (folder / thumbnail_name(slide.slide_id, len(thumbnails))).write_bytes(slide.jpeg())
    write_page(folder / "report.html", answer, record, thumbnails, maps, outcome, explanation)
    write_json(folder / PREDICTION, record)
