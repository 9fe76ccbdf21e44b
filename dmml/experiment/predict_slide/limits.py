"""What an answer must state of the model's limits: how unlike training the slides are, and calibrated promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from dmml.errors import InputError
from dmml.evaluation.limits.slide_limits import NO_LIMITS, SlideJudgement, judge_slide
from dmml.evaluation.limits.slide_summary import summarise_slide
from dmml.slides.wsi.mpp import FROM_MANIFEST, FROM_OPTION

if TYPE_CHECKING:
    from dmml.experiment.load_model import CheckpointModel
    from dmml.experiment.predict_slide.encoding.encoded_ahead import EncodedCase
    from dmml.networks.subspace_network import SubspaceNetwork

HOLDS_FOR = "This holds on average over patients like those of the inner validation, {n} of whom calibrated it."
HOLDS_NOT = "Because of the warning, it need not hold for this patient."
READING = (
    "distance: that of the slide's most unusual part, where 1 is what 5 % of unseen training slides exceed in that part. "
    "threshold: the distance that 5 % of unseen training slides exceed. parts: the distance of each part. promise: what "
    "holds with the stated probability for patients like those of the inner validation"
)


@dataclass(frozen=True)
class AnswerLimits:
    """Limits of one answer.

    Attributes:
        slides: {slide: judgement}; empty for a checkpoint that knows nothing about its training slides.
        warnings: Complete sentences.
        promise: What the task promises of the patient, in plain Python; empty if nothing.
        sentences: The promise in sentences, or why nothing is promised.
        note: Why the slides cannot be judged; empty if they are.
    """

    slides: dict[str, SlideJudgement]
    warnings: tuple[str, ...]
    promise: dict[str, Any]
    sentences: tuple[str, ...]
    note: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """The entry `limits` of `prediction.json`."""
        slides = [
            {
                "slide_id": slide,
                "distance": each.distance,
                "threshold": each.threshold,
                "parts": each.parts,
                "largest_part": each.largest_part,
                "warnings": list(each.warnings),
            }
            for slide, each in self.slides.items()
        ]
        return {
            "warnings": list(self.warnings),
            "note": self.note,
            "slides": slides,
            "promise": self.promise,
            "sentences": list(self.sentences),
            "reading": READING,
        }


def check_knows_slides(model: CheckpointModel) -> None:
    """Refuse a model that cannot recognise slides unlike its training slides.

    Raises:
        InputError: The checkpoint has no limits, or too few training slides for a threshold.
    """
    limits = model.module.fitted.get("slide_limits") or {}
    if limits.get("threshold") is None:
        reason = limits.get("reason") or NO_LIMITS
        raise InputError(
            f"--strict: {model.path} cannot tell which slides are unlike its training slides ({reason}); leave --strict out, or "
            "fit the model again with this version of dmml, or with more patients"
        )


def answer_limits(model: CheckpointModel, encoded: EncodedCase, logits: torch.Tensor) -> AnswerLimits:
    """Judge the slides of a patient, and say what is promised of the answer.

    Args:
        model: The model.
        encoded: The patient's slides.
        logits: (1, C) of the whole prediction.
    """
    fitted = model.module.fitted
    limits = fitted.get("slide_limits") or {}
    judged = _judge(limits, encoded) if limits else {}
    several = len(judged) > 1
    warnings = [
        f"{slide}: {warning}" if several else warning for slide, each in judged.items() for warning in each.warnings
    ]
    promise, sentences = _promise(model.module, logits)
    sentences += [HOLDS_NOT] if promise and warnings else []
    note = str(limits.get("reason") or "") if limits else NO_LIMITS
    return AnswerLimits(judged, tuple(warnings), promise, tuple(sentences), note and f"{note[0].upper()}{note[1:]}.")


def _judge(limits: Mapping[str, Any], encoded: EncodedCase) -> dict[str, SlideJudgement]:
    """{slide: judgement} of each slide of a patient."""
    return {
        source["slide_id"]: judge_slide(
            limits,
            summarise_slide(
                encoded.bags[source["slide_id"]], thumbnail.pixels, source, by_hand=(FROM_OPTION, FROM_MANIFEST)
            ),
        )
        for source, thumbnail in zip(encoded.sources, encoded.thumbnails, strict=True)
    }


def _promise(model: SubspaceNetwork, logits: torch.Tensor) -> tuple[dict[str, Any], list[str]]:
    """What the task promises of a patient, and the sentences on it."""
    calibration = model.fitted.get("conformal") or {}
    if not calibration:
        return {}, []
    if "reason" in calibration:
        return {}, [f"Nothing can be promised of a single patient: {calibration['reason']}."]
    conformal = model.task.conformal()
    promise = conformal.promise(calibration, logits, model.fitted.get("censoring"))
    if not (sentences := conformal.sentences(promise)):
        return {}, []
    return promise | {"n": calibration["n"]}, [*sentences, HOLDS_FOR.format(n=calibration["n"])]
