"""The answer of several models, such as those of a cross-validation: their mean, and how far they are apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from dmml.evaluation.average_predictions import SPREAD, average_predictions
from dmml.evaluation.predictions import survival_days
from dmml.experiment.fold_models.mean_model import mean_output
from dmml.experiment.predict_slide.answer import Answer, ModelSpread, read_answer
from dmml.experiment.predict_slide.tile_scores import TileScores
from dmml.tasks.presentation import Columns, Curve
from dmml.types import Batch, SubspaceOutput

if TYPE_CHECKING:
    from dmml.networks.subspace_network import SubspaceNetwork

Key = TypeVar("Key")


def read_mean_answer(models: Sequence[SubspaceNetwork], batch: Batch) -> tuple[Answer, SubspaceOutput]:
    """Run models once on a batch of one patient; return the mean of their answers, and of their outputs.

    Predictions are averaged as in `average_predictions`, everything in logits as logits. The clusters of a model with
    prototypes are left out, because each model has its own.

    Args:
        models: One or more models, in eval mode.
        batch: B = 1.
    """
    answers, outputs = zip(*(read_answer(model, batch) for model in models), strict=True)
    if len(answers) == 1:
        return answers[0], outputs[0]
    return _mean_answer(answers, models[0].fitted.get("horizons")), mean_output(outputs)


def _mean_answer(answers: Sequence[Answer], horizons: Sequence[float] | None) -> Answer:
    first = answers[0]
    mean, sd = _mean_columns([answer.prediction for answer in answers])
    headline = first.presentation.headline(mean, horizons)
    of_models = [_value_in(answer.prediction, headline.column) for answer in answers]
    medians = [answer.median_risk for answer in answers if answer.median_risk is not None]
    by_magnification = _each(answers, lambda answer: answer.by_magnification)
    return replace(
        first,
        prediction=mean,
        by_magnification=by_magnification,
        without=_each(answers, lambda answer: answer.without),
        without_by_magnification=_each(answers, lambda answer: answer.without_by_magnification),
        subspace_logits={
            key: np.mean([answer.subspace_logits[key] for answer in answers], axis=0).tolist()
            for key in first.subspace_logits
        },
        headline=headline,
        median_risk=fmean(medians) if len(medians) == len(answers) else None,
        programs=_mean_programs([answer.programs for answer in answers]),
        programs_by_magnification=_mean_programs([answer.programs_by_magnification for answer in answers]),
        curve=None if first.curve is None else _curve(mean),
        curves_by_magnification={m: _curve(by_magnification[m]) for m in first.curves_by_magnification},
        tiles=_mean_tiles([answer.tiles for answer in answers]),
        prototypes=None,
        models=ModelSpread(len(answers), sd, min(of_models), max(of_models)),
    )


def _table(prediction: Columns) -> pd.DataFrame:
    return pd.DataFrame([{"patient_id": "", **prediction}])


def _value_in(prediction: Columns, column: str) -> float:
    """Value of a column, interpolated if it is survival on a day that another model predicts."""
    days = [float(column.removeprefix("survival_"))] if column.startswith("survival_") else []
    return float(average_predictions([_table(prediction)], days)[column].iloc[0])


def _mean_columns(views: Sequence[Columns]) -> tuple[dict[str, float], dict[str, float]]:
    """Average predictions of one patient; return {column: mean} and {column: standard deviation}."""
    row = average_predictions([_table(view) for view in views]).iloc[0].drop("patient_id").astype(float).to_dict()
    sd = {name.removeprefix(SPREAD): value for name, value in row.items() if name.startswith(SPREAD)}
    return {name: value for name, value in row.items() if not name.startswith(SPREAD)}, sd


def _each(answers: Sequence[Answer], views: Callable[[Answer], Mapping[Key, Columns]]) -> dict[Key, dict[str, float]]:
    return {key: _mean_columns([views(answer)[key] for answer in answers])[0] for key in views(answers[0])}


def _mean_programs(programs: Sequence[Mapping[Key, Mapping[str, float]]]) -> dict[Key, dict[str, float]]:
    """Average {subspace: {program: score}}; the folds of a cross-validation have the same programs."""
    return {
        key: {
            name: fmean(each[key][name] for each in programs)
            for name in scores
            if all(name in p[key] for p in programs)
        }
        for key, scores in programs[0].items()
        if all(key in each for each in programs)
    }


def _curve(prediction: Mapping[str, float]) -> Curve:
    days = survival_days(pd.DataFrame([prediction]))
    return [0.0, *days], [1.0, *(prediction[f"survival_{day:g}"] for day in days)]


def _mean_tiles(tiles: Sequence[TileScores | None]) -> TileScores | None:
    present = [each for each in tiles if each is not None]
    if len(present) < len(tiles):
        return None
    first = present[0]
    return TileScores(
        fmean(each.deep_share for each in present),
        fmean(each.program_share for each in present),
        {key: np.mean([each.scores[key] for each in present], axis=0) for key in first.scores},
        {part: fmean(each.undivided[part] for each in present) for part in first.undivided},
        {part: fmean(each.constant[part] for each in present) for part in first.constant},
        all(each.has_backbone for each in present),
    )
