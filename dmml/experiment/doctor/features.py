"""Examines the features themselves: their shapes, their values, and the positions of their tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dmml.errors import InputError
from dmml.slides.verify import check_slide
from dmml.store import FeatureStore

if TYPE_CHECKING:
    from dmml.experiment.doctor.doctor import Examination

READ_BYTES, READ_BYTES_REMOTE = 512 << 20, 32 << 20
"""Bytes of features that one examination reads: a second or two's worth from a disk, and from a URL"""
_SHOWN = 3


def examine_features(found: Examination, store: FeatureStore, slides: Sequence[str]) -> None:
    """Add findings on the slides of a store that a run would use.

    The shapes of all slides are checked, and the values of as many as can be read in a second or two, spread evenly over
    the store. If that is not all of them, a finding says how many were checked.

    Args:
        found: The examination that findings are added to.
        store: The feature store.
        slides: Complete slides of the store that belong to patients of the cohort.
    """
    misshapen = {slide: wrong for slide in slides if (wrong := _wrong_shapes(store, slide))}
    chosen = _spread([slide for slide in slides if slide not in misshapen], store)
    checks = [check_slide(store, slide) for slide in chosen]
    damaged = misshapen | {check.slide: check.problems for check in checks if check.problems}
    _add(found, store, "are damaged", damaged, "blocks")
    _add(found, store, "hold unlikely values", {c.slide: c.unlikely for c in checks if c.unlikely}, "look")
    _add(found, store, "have tiles where they cannot be", {c.slide: c.misplaced for c in checks if c.misplaced}, "look")
    _add(found, store, "are unusual", {c.slide: c.doubts for c in checks if c.doubts}, "look")
    if len(chosen) + len(misshapen) < len(slides):
        text = f"{store.path}: values of {len(chosen)} of {len(slides)} slides were checked; `dmml features verify "
        found.add("features", f"{text}{store.path}` checks them all")


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
        wanted = {"features": (features[0], store.n_features), "positions": (features[0], 2), "parents": features[:1]}
        given = {"features": features, "positions": position, "parents": parent or wanted["parents"]}
        wrong += [f"{magnification}x: {name} are {given[name]}, not {wanted[name]}" for name in wanted if given[name] != wanted[name]]  # fmt: skip
    return wrong


def _spread(slides: list[str], store: FeatureStore) -> list[str]:
    """Choose slides, spread evenly over those given, whose features together are small enough to be read now."""
    limit = READ_BYTES_REMOTE if "://" in store.path else READ_BYTES
    sizes = store.sizes(slides, sorted(store.attributes["magnifications"]))
    total = sum(store.dtype.itemsize * store.n_features * sum(tiles) for tiles in sizes.values())
    step = max(1, -(-total // limit))
    return slides[::step]


def _add(found: Examination, store: FeatureStore, what: str, wrong: dict[str, list[str]], state: str) -> None:
    """Add one finding for all slides with the same kind of problem, with details of the first few."""
    if wrong:
        named = "; ".join(f"{slide}: {', '.join(lines)}" for slide, lines in list(wrong.items())[:_SHOWN])
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        found.add("features", f"{store.path}: {len(wrong)} slides {what} ({named}{more})", state)
