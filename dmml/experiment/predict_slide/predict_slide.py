"""Predicts from raw slides: tiles, features, one forward pass, and a folder with numbers, maps and a page."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dmml._version import __version__
from dmml.atomic_files import write_json
from dmml.errors import InputError
from dmml.experiment.fold_models.load import as_one, identity_of, load_models
from dmml.experiment.load_model import CheckpointModel, load_encoder_of, stain_normalization_of
from dmml.experiment.predict_slide import text
from dmml.experiment.predict_slide.answer import Answer, plain
from dmml.experiment.predict_slide.answers_table import PICTURE, PICTURE_SIDE, AnswersTable
from dmml.experiment.predict_slide.encoded_ahead import EncodedAhead, EncodedCase, Progress, encode_case
from dmml.experiment.predict_slide.explain.explanation import Explanation, explain
from dmml.experiment.predict_slide.explain.levels import DEFAULT, ExplainLevel, explain_level
from dmml.experiment.predict_slide.input import PREDICTION, Case, check_input, check_regions, check_scales
from dmml.experiment.predict_slide.limits import AnswerLimits, answer_limits, check_knows_slides
from dmml.experiment.predict_slide.mean_answer import read_mean_answer
from dmml.experiment.predict_slide.patient_batch import patient_batch
from dmml.experiment.predict_slide.qupath.options import QuPathFiles
from dmml.experiment.predict_slide.threads import threads_for
from dmml.experiment.predict_slide.tile_choice import TileChoice, check_budget, check_options, choose_tiles
from dmml.experiment.run_folder import now
from dmml.slides.slide_error import SlideError
from dmml.store.encoder_identity import STAINS

if TYPE_CHECKING:
    from dmml.experiment.predict_slide.maps import Thumbnail
    from dmml.slides.encoders.encoder import Encoder
    from dmml.types import Batch, SubspaceOutput

TILES = "tiles.csv"
"""Table of the tiles and their clusters, for a model with prototypes"""


@dataclass(frozen=True)
class SlidePrediction:
    """One patient's answer, and the folder that it was written to.

    Attributes:
        folder: The folder.
        answer: The model's answer.
        record: Content of `prediction.json`.
    """

    folder: Path
    answer: Answer
    record: dict[str, Any]

    @property
    def warnings(self) -> list[str]:
        """What warns that the slides are not like the training slides, as sentences."""
        return self.record["limits"]["warnings"]

    @property
    def lines(self) -> tuple[str, ...]:
        """The answer in two lines, and a line for each warning."""
        tiles = " + ".join(
            f"{sum(slide['tiles'].get(str(m), 0) for slide in self.record['slides'])} tiles at {m}x"
            for m in sorted(self.answer.by_magnification)
        )
        first = f"{self.record['patient']}: {text.headline(self.answer, self.record['model'])}"
        second = f"  {text.outlook(self.answer)}; {tiles}".replace("×", "x")
        return first, second, *(f"  warning: {warning}" for warning in self.warnings)


def predict_slides(
    slides: Sequence[str | Path],
    checkpoint: str | Path,
    out: str | Path,
    mpp: float | None = None,
    weights: str | Path | None = None,
    one_patient: bool = False,
    overwrite: bool = False,
    tissue: str | None = None,
    min_tissue: float | None = None,
    roi: str | Path | None = None,
    budget: float | None = None,
    qupath: QuPathFiles | None = None,
    explained: str = DEFAULT,
    crossval_model: str | None = None,
    strict: bool = False,
    command: str = "",
    progress: Progress | None = None,
    done: Callable[[SlidePrediction], None] | None = None,
) -> list[SlidePrediction]:
    """Predict raw slides with a teacher or a student.

    Args:
        slides: Files, and folders that are searched for slides.
        checkpoint: A checkpoint written by `dmml fit`, or the folder of a cross-validation, whose models are averaged.
        out: Output folder. Each patient's answer goes to a subfolder named after the patient's (first) slide, and
            `answers.csv` and `index.html` list all answers of the folder (see `AnswersTable`).
        mpp: µm per pixel, used only for slides that do not state it.
        weights: Local weights of the model's encoder.
        one_patient: Whether all slides belong to one patient; otherwise each slide is a patient.
        overwrite: Whether to replace existing answers.
        tissue: Method that finds tissue, `colour` or `module:function`; None = as in training.
        min_tissue: Smallest share of tissue of a tile that is read; None = as in training.
        roi: GeoJSON file of the regions whose tiles are read, or folder with one per slide; None = whole slides.
        budget: Share of the coarse tiles whose fine tiles are encoded, above 0 and at most 1; None = all.
        qupath: Which files for QuPath are written besides the tiles; None = no others.
        crossval_model: Which models of a cross-validation are averaged, if `checkpoint` is its folder; None = its students.
        explained: How much is explained: a key of `LEVELS`.
        strict: Whether a slide with a warning is an error, once all answers are written.
        command: The typed command, for the record.
        progress: Called while a slide is encoded, in another thread.
        done: Called with every answer as soon as it is written.

    Returns:
        The answers in the order of the slides.

    Raises:
        InputError: An input cannot be used. If a slide has no tissue or cannot be decoded, the other patients are still
            predicted first. With `strict`, the same if a slide is unlike the training slides; its answer is written, too.
    """
    cases = check_input(slides, out, mpp, weights, one_patient, overwrite)
    table = AnswersTable(out)
    check_options(tissue, min_tissue, roi)
    level = explain_level(explained)
    check_budget(budget)
    check_regions(cases, roi, mpp)
    qupath = qupath or QuPathFiles()
    qupath.check_slides([path for case in cases for path in case.slides], mpp)
    models = load_models(checkpoint, crossval_model)
    if len(models) > 1:
        level.check_divides_one_model(checkpoint)
    model = models[0]
    if strict:
        check_knows_slides(model)
    tiles = choose_tiles(checkpoint, model.module.fitted.get("extraction"), tissue, min_tissue, roi, budget)
    check_scales(cases, mpp, model.module.magnifications)
    encoder = load_encoder_of(model, weights)
    stains = stain_normalization_of(model)
    answers, failures = [], []
    encode = partial(encode_case, model=model, encoder=encoder, tiles=tiles, stains=stains, mpp=mpp)
    with EncodedAhead(cases, encode, progress) as encoded_cases:
        for case, encoded in encoded_cases:
            try:
                answers.append(_predict(case, encoded.result(), models, encoder, tiles, command, qupath, level, mpp))
            except SlideError as error:
                failures.append(str(error))
                continue
            table.add(answers[-1].folder, answers[-1].record)
            if done:
                done(answers[-1])
    if failures:
        others = f"; {len(failures) - 1} more could not be predicted" if len(failures) > 1 else ""
        written = f"; the predictions of the other {len(answers)} of {len(cases)} are in {out}" if answers else ""
        raise InputError(f"{failures[0]}{others}{written}")
    if strict:
        _check_no_warnings(answers, len(cases))
    return answers


def _check_no_warnings(answers: Sequence[SlidePrediction], n_cases: int) -> None:
    """Refuse answers with warnings.

    Raises:
        InputError: An answer has a warning; the message states the first one.
    """
    warned = [answer for answer in answers if answer.warnings]
    if warned:
        first = warned[0].warnings[0].rstrip(".")
        others = f"; {len(warned)} of {n_cases} patients have warnings" if n_cases > 1 else ""
        raise InputError(
            f"--strict: {warned[0].record['patient']}: {first}{others}; see {warned[0].folder / PREDICTION}"
        )


def _predict(
    case: Case,
    encoded: EncodedCase,
    models: Sequence[CheckpointModel],
    encoder: Encoder,
    tiles: TileChoice,
    command: str,
    qupath: QuPathFiles,
    level: ExplainLevel,
    mpp: float | None,
) -> SlidePrediction:
    networks = [model.module for model in models]
    batch = patient_batch(case.name, encoded.bags, networks[0].magnifications)
    with threads_for(batch):
        answer, output = read_mean_answer(networks, batch)
        answer, explanation = explain(as_one(networks), batch, answer, output, level, case.slides, mpp)
    limits = answer_limits(models[0], encoded, output.logits)
    record = _record(case, models, encoder, tiles, answer, encoded.sources, limits, command) | explanation.record()
    _write(case, answer, record, encoded.thumbnails, batch, output, qupath, explanation)
    return SlidePrediction(case.folder, answer, record)


def _record(
    case: Case,
    models: Sequence[CheckpointModel],
    encoder: Encoder,
    tiles: TileChoice,
    answer: Answer,
    slides: list[dict[str, Any]],
    limits: AnswerLimits,
    command: str,
) -> dict[str, Any]:
    """Return the content of `prediction.json`."""
    model, identity = models[0], identity_of(models)
    return {
        "format": "dmml-prediction-1",
        "patient": case.name,
        "answer": [text.headline(answer, identity), text.outlook(answer)],
        **plain(answer),
        "limits": limits.record,
        "notes": [
            *text.notes(answer, slides, model.reads_rna, knows_tissue=bool(limits.slides)),
            *text.tile_notes(tiles.notes),
            *filter(None, [limits.note]),
        ],
        "use": text.RESEARCH_USE,
        "slides": slides,
        "tiles_chosen": tiles.record,
        "model": identity,
        "encoder": encoder.identity | {key: model.encoder[key] for key in (STAINS,) if model.encoder.get(key)},
        "encoder_backend": encoder.backend,
        "command": command,
        "created": now(),
        "versions": {"dmml": __version__, "torch": torch.__version__},
    }


def _write(
    case: Case,
    answer: Answer,
    record: dict[str, Any],
    thumbnails: list[Thumbnail],
    batch: Batch,
    output: SubspaceOutput,
    qupath: QuPathFiles,
    explanation: Explanation,
) -> None:
    """Write the answer's folder completely or not at all."""
    from dmml.experiment.predict_slide.maps import encoded, tile_maps, write_picture
    from dmml.experiment.predict_slide.page import write_page
    from dmml.experiment.predict_slide.prototypes import tile_table
    from dmml.experiment.predict_slide.qupath.files import write_qupath_files

    folder = case.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial_folder = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        maps = tile_maps(thumbnails, batch, output, answer.tiles, answer.prototypes)
        for tile_map in maps:
            (partial_folder / f"{tile_map.name}.png").write_bytes(tile_map.png())
        for sheet in explanation.sheets:
            (partial_folder / f"{sheet.name}.png").write_bytes(encoded(sheet.image, "PNG"))
        if answer.prototypes is not None:
            table = tile_table(thumbnails, batch, answer.prototypes)
            table.to_csv(partial_folder / TILES, index=False)
        write_qupath_files(partial_folder, case.slides, answer, record, batch, output, qupath)
        outcome = answer.presentation.plot(answer)
        if outcome is not None:
            outcome.save(partial_folder, suffixes=("png",))
        write_picture(partial_folder / PICTURE, thumbnails[0], PICTURE_SIDE)
        write_page(partial_folder / "report.html", answer, record, thumbnails, maps, outcome, explanation)
        write_json(partial_folder / PREDICTION, record)
        partial_folder.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        partial_folder.replace(folder)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
