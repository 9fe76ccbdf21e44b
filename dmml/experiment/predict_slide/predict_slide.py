"""Predicts from raw slides: tiles, features, one forward pass, and a folder with numbers, maps and a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.errors import InputError
from dmml.experiment.fold_models.load import as_one, load_models
from dmml.experiment.load_model import CheckpointModel, load_encoder_of, stain_normalization_of
from dmml.experiment.predict_slide import text
from dmml.experiment.predict_slide.answer import Answer
from dmml.experiment.predict_slide.answer_files import PatientResult, prediction_record, write_answer
from dmml.experiment.predict_slide.answers_table import AnswersTable
from dmml.experiment.predict_slide.encoding.encoded_ahead import EncodedAhead, EncodedCase, Progress, encode_case
from dmml.experiment.predict_slide.encoding.patient_batch import patient_batch
from dmml.experiment.predict_slide.encoding.tile_choice import TileChoice, check_budget, check_options, choose_tiles
from dmml.experiment.predict_slide.explain.explanation import explain
from dmml.experiment.predict_slide.explain.levels import DEFAULT, ExplainLevel, explain_level
from dmml.experiment.predict_slide.input import PREDICTION, Case, check_input, check_regions, check_scales
from dmml.experiment.predict_slide.limits import answer_limits, check_knows_slides
from dmml.experiment.predict_slide.mean_answer import read_mean_answer
from dmml.experiment.predict_slide.qupath.options import QuPathFiles
from dmml.experiment.predict_slide.threads import threads_for
from dmml.slides.slide_error import SlideError

if TYPE_CHECKING:
    from dmml.slides.encoders.encoder import Encoder


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
        answer, explanation = explain(as_one(networks), batch, answer, output, level, case.slides, mpp, encoded.tile_um)
    limits = answer_limits(models[0], encoded, output.logits)
    result = PatientResult(case, encoded, batch, output, answer, explanation, limits)
    record = prediction_record(result, models, encoder, tiles, command)
    write_answer(result, record, qupath)
    return SlidePrediction(case.folder, answer, record)
