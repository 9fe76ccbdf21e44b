"""Examines feature stores: whose slides they hold, and the shapes, values and positions of the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from dmml.cohort.clinical.table import Clinical
from dmml.data.encoder_match import check_slides_match
from dmml.errors import InputError
from dmml.experiment.doctor.examination import Examination, State
from dmml.slides.verify import check_slide
from dmml.store import FeatureStore

READ_BYTES, READ_BYTES_REMOTE = 512 << 20, 32 << 20
"""Bytes of features that one examination reads: a second or two's worth from a disk, and from a URL"""
_MAX_SLIDES = 3
"""Maximum number of slides that a finding describes"""


def examine_store(examination: Examination, path: str, clinical: Clinical, magnifications: Sequence[int]) -> set[str]:
    """Add findings on a store: its magnifications, its features, and how its slides match the clinical table.

    Args:
        examination: Findings are added to it.
        path: Folder or URL of the store.
        clinical: Clinical table of the cohort.
        magnifications: Magnifications that a model would read.

    Returns:
        The patients who have slides in the store.
    """
    store = examination.attempt("features", partial(FeatureStore, path))
    if store is None:
        return set()
    slides, matched = store.slides(), clinical.match_slides(store.slides())
    used = {slide for own_slides in matched.values() for slide in own_slides}
    encoder, available = store.attributes["encoder"], list(store.attributes["magnifications"])
    text = f"{path}: {len(slides)} slides at {available}, {encoder['name']}, {encoder['dim']} features per tile"
    examination.add("features", text)
    if missing := [m for m in magnifications if m not in available]:
        state: State = "blocks" if len(missing) == len(magnifications) else "check"
        text = f"{path}: no tiles at {missing} (data.magnifications: {list(magnifications)})"
        examination.add("features", text, state)
    examine_features(examination, store, sorted(used & set(slides)))
    examination.attempt("features", partial(check_slides_match, path, slides, clinical, matched))
    if used and (others := sorted(set(slides) - used)):
        text = f"{len(others)} slides belong to no patient of the clinical table: {others[0]}, …"
        examination.add("features", text, "check")
    absent = sum(map(len, clinical.slides.values())) - sum(map(len, matched.values()))
    if absent > 0:  # slides are matched by patient ids if the table names none
        examination.add("features", f"{absent} slides of the clinical table are not in the store", "check")
    return {patient for patient, own_slides in matched.items() if own_slides}


def examine_features(examination: Examination, store: FeatureStore, slides: Sequence[str]) -> None:
    """Add findings on the slides of a store that a run would use.

    The shapes of all slides are checked, and the values of as many as can be read in a second or two, spread evenly over
    the store. If that is not all of them, a finding says how many were checked.

    Args:
        examination: Findings are added to it.
        store: The feature store.
        slides: Complete slides of the store that belong to patients of the cohort.
    """
    misshapen = {slide: wrong for slide in slides if (wrong := _wrong_shapes(store, slide))}
    sample = _spread([slide for slide in slides if slide not in misshapen], store)
    checks = [check_slide(store, slide) for slide in sample]
    damaged = misshapen | {check.slide: check.problems for check in checks if check.problems}
    add = partial(_add_slides, examination, store)
    add("are damaged", damaged, "blocks")
    add("contain unlikely values", {check.slide: check.unlikely for check in checks if check.unlikely}, "check")
    add(
        "have impossible tile positions", {check.slide: check.misplaced for check in checks if check.misplaced}, "check"
    )
    add("are unusual", {check.slide: check.doubts for check in checks if check.doubts}, "check")
    if len(sample) + len(misshapen) < len(slides):
        text = f"{store.path}: values of {len(sample)} of {len(slides)} slides were checked; `dmml features verify "
        examination.add("features", f"{text}{store.path}` checks them all")


def _wrong_shapes(store: FeatureStore, slide: str) -> list[str]:
    """List what is wrong with a slide, as far as this shows without reading its features."""
    wrong = []
    for magnification in sorted(store.attributes["magnifications"]):
        try:
            shapes = store.shapes(slide, magnification)
        except InputError as error:
            return [str(error)]
        features, position, parent = (shapes[name] for name in ("features", "position", "parent"))
        if features is None:
            continue
        expected = {"features": (features[0], store.n_features), "positions": (features[0], 2), "parents": features[:1]}
        actual = {"features": features, "positions": position, "parents": parent or expected["parents"]}
        wrong += [
            f"{magnification}x: {name} are {actual[name]}, not {expected[name]}"
            for name in expected
            if actual[name] != expected[name]
        ]
    return wrong


def _spread(slides: list[str], store: FeatureStore) -> list[str]:
    """Choose slides, spread evenly over the store, whose features together are small enough to be read now."""
    limit = READ_BYTES_REMOTE if "://" in store.path else READ_BYTES
    sizes = store.sizes(slides, sorted(store.attributes["magnifications"]))
    total = sum(store.dtype.itemsize * store.n_features * sum(tiles) for tiles in sizes.values())
    step = max(1, -(-total // limit))
    return slides[::step]


def _add_slides(
    examination: Examination, store: FeatureStore, what: str, by_slide: Mapping[str, Sequence[str]], state: State
) -> None:
    """Add one finding for all slides with the same kind of problem, with details of the first few."""
    if by_slide:
        details = "; ".join(f"{slide}: {', '.join(lines)}" for slide, lines in list(by_slide.items())[:_MAX_SLIDES])
        more = f"; and {len(by_slide) - _MAX_SLIDES} more" if len(by_slide) > _MAX_SLIDES else ""
        examination.add("features", f"{store.path}: {len(by_slide)} slides {what} ({details}{more})", state)
