"""Describes the answer on a patient's slides in sentences: what a reader may conclude, and what not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dmml.evaluation.report.formatting import joined, percent
from dmml.experiment.predict_slide.answer import FEW_TILES, TISSUE, Answer
from dmml.experiment.predict_slide.prototypes import NONE
from dmml.slides.wsi.mpp import FROM_OPTION

RESEARCH_USE = (
    "For research use only. This is not a diagnosis, and no decision about a patient may be based on it. The model was "
    "fitted to one cohort; how well it performs elsewhere must be established by a test there (dmml test)."
)
CLOSE = 0.05
"""Difference of two probabilities up to which views are said to agree closely"""
_ABBREVIATIONS = {
    "DNA", "RNA", "UV", "MYC", "KRAS", "TGF", "TNFA", "NFKB", "WNT", "JAK", "STAT", "MTOR", "AKT", "TSV", "UPR", "DN", "UP",
}  # fmt: skip


def headline(answer: Answer, model: Mapping[str, Any]) -> str:
    """Summarise the answer in a few words, e.g. 'Above the median risk of the 80 training patients of luad'."""
    n = f"the {model['n_training']} training patients" if model.get("n_training") else "the training patients"
    of_cohort = f"{n} of {model['training_cohort']}" if model.get("training_cohort") else n
    return answer.presentation.summary(answer, of_cohort)


def outlook(answer: Answer) -> str:
    """Write the second sentence, without a full stop; see `Presentation.outlook`."""
    views = answer.views if answer.spread is not None else {}
    by_magnification = ", ".join(f"{m}×: {_value(answer, view)}" for m, view in views.items())
    return answer.presentation.outlook(answer, by_magnification)


def _value(answer: Answer, view: Mapping[str, float]) -> str:
    return answer.headline.text(view[answer.headline.column])


def how_certain(answer: Answer) -> list[str]:
    """Write sentences on how far models and the model's views agree, and on what their agreement does not show."""
    sentences = _model_spread(answer)
    if answer.spread is None:
        reads = "one magnification" if len(answer.by_magnification) < 2 else "all magnifications together"
        return [*sentences, f"The model reads {reads}, so there is no second view that could agree or disagree."]
    coarse, fine = (f"{m}×" for m in sorted(answer.views)[:: len(answer.views) - 1])
    if answer.headline.is_probability:
        verdict = "agree closely" if answer.spread <= CLOSE else "differ"
        verdict = "differ strongly" if answer.spread > 4 * CLOSE else verdict
        points = f"{100 * answer.spread:.0f} percentage points"
        sentences.append(f"The views at {coarse} and {fine} {verdict}: they are {points} apart.")
    if disagreement := _disagreement(answer):
        sentences.append(f"They lead to different answers: {disagreement}.")
    elif _sides(answer):
        sentences.append(answer.presentation.agreement)
    if answer.tiles is not None and answer.tiles.has_backbone:
        sentences.append("Both include the contribution of the backbone, which reads all magnifications together.")
    sentences.append(
        "These are two views of one model on the same tissue, and both can be wrong together. Their difference indicates "
        "how stable the answer is; it is not a confidence interval."
    )
    return sentences


def _model_spread(answer: Answer) -> list[str]:
    """Write how far the models of a cross-validation are apart; [] for the answer of one model."""
    if answer.models is None:
        return []
    low, high = (answer.headline.text(value) for value in (answer.models.low, answer.models.high))
    return [
        f"The answer is the mean of {answer.models.n} models, each fitted without another part of the training patients. Single "
        f"models give {low} to {high}. They share most of their patients, so they agree more than independent studies would."
    ]


def subspaces(answer: Answer) -> str:
    """Describe the answer without the part of the tumor, of the microenvironment, or of neither."""
    without = {part: _value(answer, view) for part, view in answer.without.items()}
    parts = "The two subspaces" if TISSUE not in without else "The two subspaces and the tissue-specific part"
    neither = (
        f", and without the tissue-specific part, which belongs to neither, {without[TISSUE]}"
        if TISSUE in without
        else ""
    )
    return (
        f"{parts} add up to the answer, {_value(answer, answer.prediction)}. Without the tumor's part it would be "
        f"{without['tumor']}, without the part of the tumor microenvironment (TME) {without['tme']}{neither}. The farther "
        "such a value is from the answer, the more that part contributed."
    )


def what_decides(answer: Answer) -> str:
    """Describe how much the backbone and the deep part contribute; empty if nothing is divided among tiles."""
    if answer.tiles is None:
        return ""
    if not answer.tiles.has_backbone:
        return "The model has no backbone: the deep part alone determines this answer."
    backbone = (
        "simple statistics of the tiles, such as their mean, the share of each kind of tissue, and the number of unusual "
        "tiles"
    )
    if not answer.tiles.deep_share:
        return (
            f"The backbone alone determines this answer, from {backbone}. The deep part does not contribute, because it did "
            "not clearly improve the predictions for the validation patients; its attention is therefore not shown."
        )
    share = percent(answer.tiles.deep_share)
    return (
        f"The backbone and the deep part determine this answer together. The backbone weighs {backbone}; {share} of what "
        "the deep part has learned beyond it is added."
    )


def tile_unit(answer: Answer) -> str:
    """Name the unit of a tile's contribution."""
    return answer.presentation.tile_unit(answer.headline)


def tile_colours(answer: Answer) -> str:
    """Explain how to read the maps of the tiles' contributions."""
    return (
        f"{answer.presentation.tile_colours(answer.headline)}, compared with the tissue of the mean training patient. Pale "
        "tiles change little; areas without colour were not read. The table gives the exact sums. The maps show what the "
        "model made of each tile, not what causes the disease."
    )


def prototypes(answer: Answer) -> list[str]:
    """Write sentences on the clusters behind the prototypes; empty for a model without prototypes."""
    if answer.prototypes is None:
        return []
    sentences = [
        "At each magnification the model divides the patient's tiles into two clusters by their features, one for the tumor "
        "and one for the tumor microenvironment (TME). Each subspace reads the slide through a single vector, its prototype, "
        "which is made mainly of the cluster named after it."
    ]
    for m, counts in answer.prototypes.counts.items():
        n = sum(counts.values())
        parts = [
            f"{percent(counts[s] / n)} are in the {name} cluster" for s, name in (("tumor", "tumor"), ("tme", "TME"))
        ]
        parts += [f"{percent(counts[NONE] / n)} are in neither"] if NONE in counts else []
        sentences.append(f"Of the {n} tile{'s' * (n != 1)} at {m}×, {joined(parts)}.")
    if answer.tiles is not None and not answer.tiles.deep_share:
        sentences.append("In this answer the deep part, to which the clusters belong, does not contribute.")
    sentences.append(
        "The model learned the names of the clusters in training. Nobody has compared them with the tissue of this patient: "
        "a cluster that is called tumor may hold other tissue."
    )
    return sentences


def notes(
    answer: Answer, slides: Sequence[Mapping[str, Any]], reads_rna: bool, knows_tissue: bool = False
) -> list[str]:
    """Write what a reader must know about this particular answer.

    Args:
        answer: The answer.
        slides: The entries `slides` of `prediction.json`.
        reads_rna: Whether the model can also read RNA.
        knows_tissue: Whether the tissue was compared with that of the training slides, so that no fixed limit is needed.
    """
    sentences = []
    if reads_rna:
        sentences.append(
            "The model is a teacher, which can also read RNA. It was given none, and used the slides alone."
        )
    if disagreement := _disagreement(answer):
        sentences.append(f"The answer is not clear-cut: {disagreement}.")
    coarsest = min(answer.by_magnification, default=0)
    tiles = sum(slide["tiles"].get(str(coarsest), 0) for slide in slides)
    if tiles < FEW_TILES and not knows_tissue:
        sentences.append(
            f"There is little tissue: the answer is based on {tiles} tile{'s' * (tiles != 1)} at {coarsest}×."
        )
    for slide in slides:
        sentences += [f"{slide['source']}: {note}." for note in _slide_notes(slide)]
    return sentences


def tile_notes(differences: Sequence[str]) -> list[str]:
    """Write sentences on where tiles are chosen otherwise than in training (`TileChoice.notes`)."""
    return [f"{difference[0].upper()}{difference[1:]}." for difference in differences]


def _slide_notes(slide: Mapping[str, Any]) -> list[str]:
    """Write what a reader must know about one slide, without full stops."""
    sentences = []
    if n := slide["tiles_unreadable"]:
        sentences.append(f"{n} tile{'s' * (n != 1)} could not be decoded and {'were' if n != 1 else 'was'} left out")
    if area := slide.get("findings", {}).get("unreadable"):
        sentences.append(f"{area:.2f} mm² could not be decoded and were not searched for tissue")
    if n := slide.get("tiles_skipped"):
        read = sum(slide["tiles"].values())
        sentences.append(f"{n} of its {n + read} tiles were not read, to stay within the budget")
    if roi := slide.get("roi"):
        sentences.append(f"only tiles within the regions of {roi['file']} were read")
    if slide["mpp_source"] == FROM_OPTION:
        sentences.append(f"its scale of {slide['mpp']:g} µm per pixel was given by hand")
    return sentences + [str(note) for note in slide.get("notes", [])]


def _sides(answer: Answer) -> dict[int, str]:
    """{magnification: side of the answer that its view is on}; empty if the task has no sides."""
    sides = {m: answer.presentation.side(view, answer.median_risk) for m, view in answer.views.items()}
    return {m: side for m, side in sides.items() if side}


def _disagreement(answer: Answer) -> str:
    """Describe how the magnifications disagree; empty if they agree."""
    sides = _sides(answer)
    return ", ".join(f"{side} by {m}× alone" for m, side in sides.items()) if len(set(sides.values())) > 1 else ""


def program_name(name: str) -> str:
    """Shorten HALLMARK_E2F_TARGETS to 'E2F targets'; names without underscores, such as genes, stay as they are."""
    if "_" not in name:
        return name
    words = re.sub(r"^(HALLMARK|REACTOME|KEGG|GOBP|BIOCARTA)_", "", name).split("_")
    words = [w if w in _ABBREVIATIONS or any(c.isdigit() for c in w) else w.lower() for w in words]
    words[0] = words[0] if words[0].isupper() else words[0].capitalize()
    return " ".join(words)
