"""Checks the input of `predict-slide` before torch is imported: slides open, have a scale, replace no answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dmml.errors import InputError
from dmml.slides.discovery.file_names import check_name
from dmml.slides.discovery.find import find_slides
from dmml.slides.geojson.roi import check_one_slide, read_roi
from dmml.slides.slide_error import SlideError
from dmml.slides.wsi.mpp import check_mpp
from dmml.slides.wsi.slide import Slide

PREDICTION = "prediction.json"
_MAX_NAMES = 3
"""Maximum number of folders that a message names"""


@dataclass(frozen=True)
class Case:
    """One patient to predict: the slides, and the folder that the answer is written to."""

    slides: tuple[Path, ...]
    folder: Path

    @property
    def name(self) -> str:
        """Name of the patient: the stem of the first slide."""
        return self.slides[0].stem


def check_input(
    slides: Sequence[str | Path],
    out: str | Path,
    mpp: float | None = None,
    weights: str | Path | None = None,
    one_patient: bool = False,
    overwrite: bool = False,
) -> list[Case]:
    """Find the slides, and refuse those that cannot be used, all at once.

    Args:
        slides: Files, and folders that are searched for slides. Plain images in folders count as slides if `mpp` is
            given.
        out: Folder of the answers.
        mpp: µm per pixel, used only for slides that do not state it.
        weights: Local weights of the encoder.
        one_patient: Whether all slides belong to one patient.
        overwrite: Whether existing answers may be replaced.

    Returns:
        One case per slide, or one case with all slides.

    Raises:
        InputError: A file is missing, does not open or has no scale; two slides have the same name; an answer exists.
    """
    if mpp is not None:
        check_mpp(mpp)
    if weights is not None and not Path(weights).is_file():
        raise InputError(f"--weights {weights}: the file does not exist")
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder, e.g. --out predictions")
    paths = find_slides(slides, lambda path: mpp is not None).slides
    for path in paths:
        try:
            check_name(path)  # the answer's folder is named after the slide
        except SlideError as error:
            raise InputError(str(error)) from error
    _check_names_differ(paths)
    problems = [problem for path in paths if (problem := _problem(path, mpp))]
    if problems:
        more = (
            f"; {len(problems) - 1} more of the {len(paths)} slides cannot be used either" if len(problems) > 1 else ""
        )
        raise InputError(f"{problems[0]}{more}")
    cases = [Case(tuple(paths), out / paths[0].stem)] if one_patient else [Case((p,), out / p.stem) for p in paths]
    existing = [str(case.folder) for case in cases if case.folder.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - _MAX_NAMES} more" if len(existing) > _MAX_NAMES else ""
        raise InputError(
            f"{', '.join(existing[:_MAX_NAMES])}{more} already exists; give --overwrite to replace it, or another --out"
        )
    others = [case.folder for case in cases if case.folder.exists() and not _is_answer(case.folder)]
    if others:
        raise InputError(f"{others[0]} contains no prediction of dmml and is not overwritten; give another --out")
    return cases


def thumbnail_name(slide_id: str, n_slides: int) -> str:
    """Name of the file with a slide's thumbnail in the folder of an answer."""
    return f"thumbnail_{slide_id}.jpg" if n_slides > 1 else "thumbnail.jpg"


def check_scales(cases: Sequence[Case], mpp: float | None, magnifications: Sequence[int]) -> None:
    """Refuse slides that were scanned too coarsely for the model, before any of them is encoded.

    Raises:
        SlideError: A slide is too coarse; its state is `too_coarse`.
    """
    for case in cases:
        for path in case.slides:
            with Slide(path, mpp) as slide:
                finest = max(magnifications)
                try:
                    slide.check_scale([finest])
                except SlideError as error:
                    reason = f"{path} was scanned at {slide.mpp:.3g} µm per pixel, too coarse for the model, which reads {finest}x"
                    raise SlideError(error.state, f"{reason}; a finer scan is needed") from error


def check_regions(cases: Sequence[Case], roi: str | Path | None, mpp: float | None) -> None:
    """Refuse regions of interest that cannot be used, before any slide is encoded.

    Raises:
        InputError: A file is missing, holds no region or is of another slide, or one file is given for several slides.
    """
    if roi is None:
        return
    check_one_slide(roi, sum(len(case.slides) for case in cases))
    for case in cases:
        for path in case.slides:
            with Slide(path, mpp) as slide:
                read_roi(Path(roi), slide)


def _check_names_differ(paths: Sequence[Path]) -> None:
    for stem, count in Counter(path.stem for path in paths).items():
        if count > 1:
            same = ", ".join(str(path) for path in paths if path.stem == stem)
            raise InputError(
                f"{same} have the same name, and the folder of an answer is named after its slide; rename one of them, or "
                "predict them separately with different --out"
            )


def _problem(path: Path, mpp: float | None) -> str | None:
    try:
        Slide(path, mpp).close()
    except SlideError as error:
        return str(error)
    return None


def _is_answer(folder: Path) -> bool:
    return folder.is_dir() and ((folder / PREDICTION).is_file() or not any(folder.iterdir()))
