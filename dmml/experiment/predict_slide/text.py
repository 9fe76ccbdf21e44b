"""Describes the answer on a patient's slides in sentences: what a reader may conclude, and what not."""

from __future__ import annotations

import re
from typing import Any

from dmml.evaluation.report.formatting import horizon_name, number, percent
from dmml.experiment.predict_slide.answer import FEW_TILES, TISSUE, Answer
from dmml.slides.wsi.mpp import GIVEN

RESEARCH_USE = (
    "For research use only. This is not a diagnosis, and no decision on a patient may rest on it: the model was fitted to "
    "one cohort, and how well it holds elsewhere has to be shown by testing it there (dmml test)."
)
CLOSE = 0.05
"""Difference of two probabilities up to which views are said to agree closely"""
_ABBREVIATIONS = {
    "DNA", "RNA", "UV", "MYC", "KRAS", "TGF", "TNFA", "NFKB", "WNT", "JAK", "STAT", "MTOR", "AKT", "TSV", "UPR", "DN", "UP",
}  # fmt: skip


def headline(answer: Answer, model: dict[str, Any]) -> str:
    """Summarise the answer in a few words, e.g. 'Above the median risk of the 80 training patients of luad'."""
    if answer.kind == "classification":
        return f"{answer.headline.label}, with a probability of {percent(answer.value)}"
    if "risk" not in answer.prediction:
        return f"{answer.headline.column}: {number(answer.value, 3)}"
    if answer.above_median is None:
        return f"Risk {number(answer.prediction['risk'])}; the checkpoint does not tell the training patients' median"
    return f"{'Above' if answer.above_median else 'Below'} the median risk of {_training(model)}"


def outlook(answer: Answer) -> str:
    """Write the second sentence: survival at the headline's day, or the classes after the most probable one."""
    views = _views(answer)
    if answer.kind == "classification":
        rest = sorted(((v, k) for k, v in answer.prediction.items() if k != answer.headline.column), reverse=True)
        others = ", ".join(f"{name.removeprefix('prob_')} {percent(value)}" for value, name in rest[:4])
        return (
            f"Behind it: {others}"
            if not views
            else f"Behind it: {others}. {answer.headline.label} by magnification: {views}"
        )
    if answer.headline.day is not None:
        text = f"{percent(answer.value)} chance of being event-free after {horizon_name(answer.headline.day)}"
        return text if not views else f"{text} ({views})"
    return ", ".join(f"{name} {number(value, 3)}" for name, value in answer.prediction.items())


def _views(answer: Answer) -> str:
    if answer.spread is None:
        return ""
    return ", ".join(f"{m}×: {_value(answer, view)}" for m, view in answer.views.items())


def _value(answer: Answer, view: dict[str, float]) -> str:
    value = view[answer.headline.column]
    probability = answer.headline.day is not None or answer.headline.label is not None
    return percent(value) if probability else number(value, 3)


def _training(model: dict[str, Any]) -> str:
    n = f"the {model['n_training']} training patients" if model.get("n_training") else "the training patients"
    return f"{n} of {model['training_cohort']}" if model.get("training_cohort") else n


def how_sure(answer: Answer) -> list[str]:
    """Write sentences on how far the model's views agree, and on what their agreement does not show."""
    if answer.spread is None:
        reads = "one magnification" if len(answer.by_magnification) < 2 else "all magnifications together"
        return [f"The model reads {reads}, so there is no second view that could agree or disagree."]
    coarse, fine = (f"{m}×" for m in sorted(answer.views)[:: len(answer.views) - 1])
    sentences = []
    if answer.headline.day is not None or answer.headline.label is not None:
        points = f"{100 * answer.spread:.0f} percentage points"
        agree = (
            "agree closely" if answer.spread <= CLOSE else "differ" if answer.spread <= 4 * CLOSE else "differ strongly"
        )
        sentences.append(f"The views at {coarse} and {fine} {agree}: they lie {points} apart.")
    if disagreement := _sides(answer):
        sentences.append(f"They fall on different sides: {disagreement}.")
    elif answer.kind == "classification":
        sentences.append("Each alone, they choose the same class.")
    elif answer.median_risk is not None:
        sentences.append("Each alone, they lie on the same side of the median risk.")
    if answer.tiles is not None:
        sentences.append("They share the backbone's part, which reads all magnifications together.")
    sentences.append(
        "These are two views of one model on one slide, and both can be wrong together: their spread is a sign of how "
        "steady the answer is, not a confidence interval."
    )
    return sentences


def subspaces(answer: Answer) -> str:
    """Describe the answer without the part of the tumor, of the microenvironment, or of neither."""
    left = {part: _value(answer, view) for part, view in answer.without.items()}
    parts = "Both subspaces" if TISSUE not in left else "Both subspaces and the tissue-specific part"
    neither = f", without the tissue-specific part, which belongs to neither, {left[TISSUE]}" if TISSUE in left else ""
    return (
        f"{parts} add up to the answer, {_value(answer, answer.prediction)}. With the tumor's part left out it would "
        f"be {left['tumor']}, with the part of the microenvironment (TME) left out {left['tme']}{neither}: the farther "
        "from the answer, the more that part counted."
    )


def what_decides(answer: Answer) -> str:
    """Describe how much the backbone and the deep part count; empty for a model without a backbone."""
    if answer.tiles is None:
        return ""
    backbone = (
        "simple statistics of the tiles, such as their mean, the share of each kind of tissue and how many stand out"
    )
    if not answer.tiles.deep_share:
        return (
            f"The backbone alone decides this answer: it weighs {backbone}. The deep part counts for nothing in it, because "
            "it did not make the predictions for the validation patients clearly better, so its attention is not shown."
        )
    share = percent(answer.tiles.deep_share)
    return (
        f"The backbone and the deep part decide this answer together: the backbone weighs {backbone}, and {share} of what "
        "the deep part has learned beyond it is added."
    )


def tile_unit(answer: Answer) -> str:
    """Name the unit of a tile's contribution."""
    if answer.kind == "survival":
        return "log-odds of the event within an interval; above 0 raises the risk"
    if answer.kind == "classification":
        return f"log-odds of {answer.headline.label} against the mean of the other classes"
    return "units of the model's mean output"


def tile_colours(answer: Answer) -> str:
    """Explain how to read the maps of the tiles' contributions."""
    ends = {
        "survival": "Red tiles raise the predicted risk, and blue tiles lower it",
        "classification": f"Red tiles speak for {answer.headline.label}, and blue tiles against it",
    }.get(answer.kind, "Red tiles raise the answer, and blue tiles lower it")
    return (
        f"{ends}, compared with the tissue of the mean training patient; pale tiles change little, and what has no colour "
        "was not read. The table gives the exact sums. The maps show what the model made of each tile, not what causes the "
        "disease."
    )


def notes(answer: Answer, slides: list[dict[str, Any]], reads_rna: bool) -> list[str]:
    """Write what a reader must know about this particular answer."""
    found = []
    if reads_rna:
        found.append(
            "The model is a teacher, which also reads RNA; none was given, so it answers from the slide alone."
        )
    if disagreement := _sides(answer):
        found.append(f"The answer is not clear-cut: {disagreement}.")
    coarsest = min(answer.by_magnification, default=0)
    tiles = sum(slide["tiles"].get(str(coarsest), 0) for slide in slides)
    if tiles < FEW_TILES:
        found.append(f"Little tissue: the answer stands on {tiles} tile{'s' * (tiles != 1)} at {coarsest}×.")
    for slide in slides:
        if slide["tiles_unreadable"]:
            found.append(f"{slide['source']}: {slide['tiles_unreadable']} tiles could not be decoded and are left out.")
        if unreadable := slide.get("findings", {}).get("unreadable"):
            found.append(f"{slide['source']}: {unreadable:.2f} mm² of it could not be decoded and were not looked at.")
        if slide["mpp_source"] == GIVEN:
            found.append(f"{slide['source']}: its scale of {slide['mpp']:g} µm per pixel was given by hand.")
        found += [f"{slide['source']}: {note}." for note in slide.get("notes", [])]
    return found


def _sides(answer: Answer) -> str:
    """Describe how the magnifications disagree on the side of the median or the class; empty if they agree."""
    if answer.kind == "classification":
        sides = {m: max(view, key=view.__getitem__).removeprefix("prob_") for m, view in answer.views.items()}
    elif answer.median_risk is not None:
        above = {m: view["risk"] > answer.median_risk for m, view in answer.views.items()}
        sides = {m: f"{'above' if high else 'below'} the median risk" for m, high in above.items()}
    else:
        return ""
    return ", ".join(f"{side} by {m}× alone" for m, side in sides.items()) if len(set(sides.values())) > 1 else ""


def program_name(name: str) -> str:
    """Shorten HALLMARK_E2F_TARGETS to 'E2F targets'; names without underscores, such as genes, stay as they are."""
    if "_" not in name:
        return name
    words = re.sub(r"^(HALLMARK|REACTOME|KEGG|GOBP|BIOCARTA)_", "", name).split("_")
    words = [w if w in _ABBREVIATIONS or any(c.isdigit() for c in w) else w.lower() for w in words]
    words[0] = words[0] if words[0].isupper() else words[0].capitalize()
    return " ".join(words)
