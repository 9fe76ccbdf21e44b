"""Predicts from raw slides: tiles, features, one forward pass, and a folder with numbers, maps and a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.errors import InputError
from dmml.experiment.fold_models.load import as_one
from dmml.experiment.load_model import CheckpointModel, load_encoder_of, stain_normalization_of
from dmml.experiment.predict_slide import text
from dmml.experiment.predict_slide.answer import Answer
from dmml.experiment.predict_slide.answer_files import PatientResult, prediction_record, write_answer
from dmml.experiment.predict_slide.answers_table import AnswersTable
from dmml.experiment.predict_slide.encoding.encoded_ahead import EncodedAhead, EncodedCase, Progress, encode_case
from dmml.experiment.predict_slide.encoding.patient_batch import patient_batch
from dmml.experiment.predict_slide.encoding.tile_choice import TileChoice, choose_tiles
from dmml.experiment.predict_slide.explain.explanation import explain
from dmml.experiment.predict_slide.input import PREDICTION, Case, check_scales
from dmml.experiment.predict_slide.limits import answer_limits, check_knows_slides
from dmml.experiment.predict_slide.mean_answer import read_mean_answer
from dmml.experiment.predict_slide.options import PredictionOptions
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
    cases: Sequence[Case],
    models: Sequence[CheckpointModel],
    out: str | Path,
    options: PredictionOptions,
    command: str = "",
    progress: Progress | None = None,
    done: Callable[[SlidePrediction], None] | None = None,
) -> list[SlidePrediction]:
    """Predict raw slides with a teacher or a student, or with the mean of the models of a cross-validation.

    Args:
        cases: The patients, from `check_request`.
        models: The model, or those whose mean is the answer.
        out: Output folder. Each patient's answer goes to a subfolder named after the patient's (first) slide, and
            `answers.csv` and `index.html` list all answers of the folder (see `AnswersTable`).
        options: The options with which the cases were checked.
        command: The typed command, for the record.
        progress: Called while a slide is encoded, in another thread.
        done: Called with every answer as soon as it is written.

    Returns:
        The answers in the order of the cases.

    Raises:
        InputError: An input cannot be used. If a slide has no tissue or cannot be decoded, the other patients are still
            predicted first. With `strict`, the same if a slide is unlike the training slides; its answer is written, too.
    """
    table = AnswersTable(out)
    model = models[0]
    if len(models) > 1:
        options.explain_level.check_divides_one_model()
    if options.strict:
        check_knows_slides(model)
    tiles = choose_tiles(
        model.path,
        model.module.fitted.get("extraction"),
        options.tissue,
        options.min_tissue,
        options.roi,
        options.budget,
    )
    check_scales(cases, options.mpp, model.module.magnifications)
    encoder = load_encoder_of(model, options.weights)
    stains = stain_normalization_of(model)
    answers, failures = [], []
    encode = partial(encode_case, model=model, encoder=encoder, tiles=tiles, stains=stains, mpp=options.mpp)
    with EncodedAhead(cases, encode, progress) as encoded_cases:
        for case, encoded in encoded_cases:
            try:
                answers.append(_predict(case, encoded.result(), models, encoder, tiles, command, options))
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
    if options.strict:
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
    options: PredictionOptions,
) -> SlidePrediction:
    networks = [model.module for model in models]
    batch = patient_batch(case.name, encoded.bags, networks[0].magnifications)
    with threads_for(batch):
        answer, output = read_mean_answer(networks, batch)
        level, mpp, tile_um = options.explain_level, options.mpp, encoded.tile_um
        answer, explanation = explain(as_one(networks), batch, answer, output, level, case.slides, mpp, tile_um)
    limits = answer_limits(models[0], encoded, output.logits)
    result = PatientResult(case, encoded, batch, output, answer, explanation, limits)
    record = prediction_record(result, models, encoder, tiles, command, options)
    write_answer(result, record, options.qupath)
    return SlidePrediction(case.folder, answer, record)
