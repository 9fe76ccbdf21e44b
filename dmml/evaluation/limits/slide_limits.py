"""Fits the limits of a model to its training slides, and judges one slide by them.

The distance of a slide is that of its most unusual part, in units of the distance that 5 % of unseen training slides
exceed in that part. The maximum over several parts is exceeded more often than each of them, so it has a threshold of
its own. All of these limits come from training slides that were left out of the fit, ten folds of patients in turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmml.evaluation.limits.quantiles import lower_limit, min_sample, upper_limit
from dmml.evaluation.limits.slide_distance import features_distance, fit_features, fit_stain, stain_distance
from dmml.evaluation.limits.slide_summary import SlideSummary

ALARM_SHARE = 0.05
"""Share of unseen training slides that exceed the threshold of the distance"""
LITTLE_TISSUE_SHARE = 0.01
"""Share of unseen training slides that have fewer tiles than the limit; 1 / (n + 1) of them with fewer than 99 slides"""
SCALE_TOLERANCE = 1.2
"""Factor by which a slide's µm per pixel may lie outside the range of the training slides"""
FOLDS = 10
STAIN = "stain"
NO_LIMITS = "this checkpoint knows nothing about its training slides"
"""Note for a checkpoint without limits"""


@dataclass(frozen=True)
class SlideJudgement:
    """How one slide compares with the training slides.

    Attributes:
        distance: Distance of the slide; None if it cannot be measured.
        threshold: Distance that 5 % of unseen training slides exceed; None with too few training slides.
        parts: {part: distance in units of the part's limit}.
        warnings: Complete sentences; empty for a slide like the training slides.
    """

    distance: float | None
    threshold: float | None
    parts: dict[str, float]
    warnings: tuple[str, ...] = ()

    @property
    def largest_part(self) -> str:
        """The part that contributes most to the distance, in words; empty without a distance."""
        return part_name(max(self.parts, key=self.parts.__getitem__)) if self.parts else ""

    @property
    def is_unlike(self) -> bool:
        """Whether the distance exceeds the threshold."""
        return self.distance is not None and self.threshold is not None and self.distance > self.threshold


def fit_slide_limits(patients: Sequence[str], slides: Sequence[SlideSummary], seed: int = 0) -> dict[str, Any]:
    """Fit the limits to training slides, in plain Python; no number can be traced to a slide.

    Args:
        patients: (n,) patient of each slide.
        slides: (n,) the slides, at least one.
        seed: Seed by which patients are divided into folds.

    Returns:
        `n_slides`, `n_patients`, `parts`, `threshold`, `tiles` and `mpp`. With fewer than `min_sample(ALARM_SHARE)`
        slides, or patients for fewer than `FOLDS` folds, `parts` is empty, `threshold` is None and `reason` says so.
    """
    fold = _folds(patients, seed)
    limits: dict[str, Any] = {
        "n_slides": len(slides),
        "n_patients": len(set(patients)),
        "parts": {},
        "threshold": None,
        "tiles": _tile_limits(slides),
        "mpp": _scales(slides),
    }
    needed = min_sample(ALARM_SHARE)
    if len(set(patients)) < needed:
        limits["reason"] = (
            f"{len(set(patients))} training patients with slides are too few for a threshold, {needed} are needed"
        )
        return limits
    ratios: dict[str, NDArray] = {}
    for name, (rows, part, distances) in _fit_parts(slides, fold).items():
        usual = upper_limit(distances, ALARM_SHARE)
        if usual:
            limits["parts"][name] = part | {"limit": float(f"{usual:.6g}")}
            ratios[name] = np.full(len(slides), -np.inf)
            ratios[name][rows] = distances / usual
    if ratios:
        largest = np.max(list(ratios.values()), axis=0)
        limits["threshold"] = upper_limit(largest[np.isfinite(largest)], ALARM_SHARE)
    return limits


def judge_slide(limits: Mapping[str, Any], slide: SlideSummary) -> SlideJudgement:
    """Compare a slide with the training slides.

    Args:
        limits: From `fit_slide_limits`.
        slide: The slide.
    """
    parts = {}
    for name, part in limits["parts"].items():
        if name == STAIN:
            distance = None if slide.stain is None else stain_distance(part, slide.stain)
        else:
            m = int(name.removesuffix("x"))
            distance = features_distance(part, slide.mean[m], slide.variance[m]) if m in slide.mean else None
        if distance is not None:
            parts[name] = distance / part["limit"]
    judgement = SlideJudgement(max(parts.values(), default=None), limits["threshold"], parts)
    warnings = [_unlike(judgement), _little_tissue(limits, slide), *_other_scale(limits, slide)]
    return SlideJudgement(judgement.distance, judgement.threshold, parts, tuple(filter(None, warnings)))


def part_name(part: str) -> str:
    """Name a part in words."""
    return "the stain" if part == STAIN else f"the tile features at {part.removesuffix('x')}×"


def _folds(patients: Sequence[str], seed: int) -> NDArray[np.int64]:
    """(n,) fold of each slide: its patient's."""
    names = sorted(set(patients))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[index]: place % FOLDS for place, index in enumerate(order)}
    return np.array([fold_of[patient] for patient in patients], np.int64)


def _fit_parts(slides: Sequence[SlideSummary], fold: NDArray) -> dict[str, tuple[NDArray, dict, NDArray]]:
    """{part: (rows of the slides that have it, the part, their distances from fits without them)}."""
    fitted = {}
    for m in sorted({m for slide in slides for m in slide.mean}):
        rows = np.array([i for i, slide in enumerate(slides) if m in slide.mean])
        if len(np.unique(fold[rows])) >= FOLDS:
            mean, variance = (np.stack([getattr(slides[i], name)[m] for i in rows]) for name in ("mean", "variance"))
            fitted[f"{m}x"] = rows, *fit_features(mean, variance, fold[rows])
    stained = [(i, slide.stain) for i, slide in enumerate(slides) if slide.stain is not None]
    rows = np.array([i for i, _ in stained], np.int64)
    if len(np.unique(fold[rows])) >= FOLDS:
        fitted[STAIN] = rows, *fit_stain(np.stack([stain for _, stain in stained]), fold[rows])
    return fitted


def _tile_limits(slides: Sequence[SlideSummary]) -> dict[str, dict[str, float]]:
    """{magnification: {"low": fewest usual tiles, "median"}} of the training slides."""
    counts = {m: [slide.tiles.get(m, 0) for slide in slides] for m in sorted({m for s in slides for m in s.tiles})}
    return {
        str(m): {"low": lower_limit(each, LITTLE_TISSUE_SHARE), "median": float(np.median(each))}
        for m, each in counts.items()
    }


def _scales(slides: Sequence[SlideSummary]) -> dict[str, Any]:
    """Range of the µm per pixel of the training slides, and whether all their files state it; {} if none is known."""
    scales = [slide.mpp for slide in slides if slide.mpp is not None]
    if not scales:
        return {}
    return {"low": min(scales), "high": max(scales), "all_stated": all(slide.mpp_is_stated for slide in slides)}


def _unlike(judgement: SlideJudgement) -> str:
    if not judgement.is_unlike:
        return ""
    return (
        f"The slide is unlike the training slides: its distance from them is {judgement.distance:.2f}, and "
        f"{100 * (1 - ALARM_SHARE):g} % of unseen training slides stay below {judgement.threshold:.2f}. The largest difference is in "
        f"{judgement.largest_part}."
    )


def _little_tissue(limits: Mapping[str, Any], slide: SlideSummary) -> str:
    """Warn of a slide with fewer tiles than usual at its coarsest magnification."""
    m = min(slide.tiles, default=0)
    usual = limits["tiles"].get(str(m))
    if usual is None or slide.tiles[m] >= usual["low"]:
        return ""
    n = slide.tiles[m]
    return (
        f"The slide has little tissue: {n} tile{'s' * (n != 1)} at {m}×, and training slides have at least {usual['low']:g}, "
        f"half of them more than {usual['median']:g}."
    )


def _other_scale(limits: Mapping[str, Any], slide: SlideSummary) -> list[str]:
    """Warn of a scan at another scale than the training slides', and of a scale that its file does not state."""
    usual, warnings = limits["mpp"], []
    if not usual:
        return []
    if not slide.mpp_is_stated and usual["all_stated"]:
        warnings.append(
            "The slide's file does not state its scale, which was given by hand; those of all training slides do."
        )
    low, high = usual["low"], usual["high"]
    if slide.mpp is not None and not low / SCALE_TOLERANCE <= slide.mpp <= high * SCALE_TOLERANCE:
        span = f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"
        warnings.append(
            f"The slide was scanned at another scale: {slide.mpp:.3g} µm per pixel, and the training slides at {span}."
        )
    return warnings
