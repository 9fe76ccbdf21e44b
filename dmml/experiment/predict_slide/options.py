"""The options of `dmml predict-slide`, and their checks before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dmml.experiment.predict_slide.encoding.tile_choice import check_budget, check_options
from dmml.experiment.predict_slide.explain.levels import DEFAULT, ExplainLevel, explain_level
from dmml.experiment.predict_slide.input import Case, check_input, check_regions
from dmml.experiment.predict_slide.qupath.options import QuPathFiles


@dataclass(frozen=True)
class PredictionOptions:
    """Options of a prediction from raw slides. Their names are those on the command line.

    Attributes:
        mpp: µm per pixel, used only for slides that do not state it.
        weights: Local weights of the model's encoder.
        one_patient: Whether all slides belong to one patient; otherwise each slide is a patient.
        overwrite: Whether existing answers may be replaced.
        tissue: Method that finds tissue, `colour` or `module:function`; None = as in training.
        min_tissue: Smallest share of tissue of a tile that is read; None = as in training.
        budget: Share of the coarse tiles whose fine tiles are encoded, above 0 and at most 1; None = all.
        roi: GeoJSON file of the regions whose tiles are read, or folder with one per slide; None = whole slides.
        regions: Whether adjacent tiles of the same class are also written as regions for QuPath.
        overlay: Format in which the tiles are also written as an image; None = no such image.
        explain: How much is explained, a key of `LEVELS`.
        crossval_model: Which models of a cross-validation are averaged; None = its students.
        slide_metadata: Whether the metadata of the slides' files is written into `prediction.json`. They may name the
            patient.
        strict: Whether a slide with a warning is an error, once all answers are written.
    """

    mpp: float | None = None
    weights: str | None = None
    one_patient: bool = False
    overwrite: bool = False
    tissue: str | None = None
    min_tissue: float | None = None
    budget: float | None = None
    roi: str | None = None
    regions: bool = False
    overlay: str | None = None
    explain: str = DEFAULT
    crossval_model: str | None = None
    slide_metadata: bool = False
    strict: bool = False

    @cached_property
    def explain_level(self) -> ExplainLevel:
        """How much is explained.

        Raises:
            InputError: There is no such level, or captum is not installed.
        """
        return explain_level(self.explain)

    @cached_property
    def qupath(self) -> QuPathFiles:
        """Files for QuPath besides the tiles.

        Raises:
            InputError: The format of the overlay does not exist, or its library is not installed.
        """
        return QuPathFiles(self.regions, self.overlay)


def check_request(slides: Sequence[str | Path], out: str | Path, options: PredictionOptions) -> list[Case]:
    """Find the slides, and refuse options and slides that cannot be used.

    Args:
        slides: Files, and folders that are searched for slides.
        out: Folder of the answers.
        options: The options.

    Returns:
        One case per patient.

    Raises:
        InputError: An option or a slide cannot be used.
    """
    qupath, _ = options.qupath, options.explain_level
    cases = check_input(slides, out, options.mpp, options.weights, options.one_patient, options.overwrite)
    check_options(options.tissue, options.min_tissue, options.roi)
    check_budget(options.budget)
    check_regions(cases, options.roi, options.mpp)
    qupath.check_slides([path for case in cases for path in case.slides], options.mpp)
    return cases
