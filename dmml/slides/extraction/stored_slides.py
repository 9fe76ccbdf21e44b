"""What the store already holds: which slides need not be extracted again, and whether they agree with the options."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dmml.errors import InputError
from dmml.slides.geojson.roi import roi_digest
from dmml.slides.slide_error import SlideError
from dmml.slides.wsi.file_identity import is_same_file
from dmml.slides.wsi.mpp import FROM_MANIFEST, FROM_OPTION
from dmml.store import FeatureStore, is_store


def existing_store(out: str) -> FeatureStore | None:
    """Open the store at `out`; None if it does not exist yet.

    Raises:
        InputError: There is something else at this path.
    """
    is_local = "://" not in out
    if is_local and not Path(out).exists():
        return None
    if is_store(out):
        return FeatureStore(out)
    # A writer that died while it created the store may have left these folders.
    if is_local and not (Path(out).is_dir() and {path.name for path in Path(out).iterdir()} <= {"slides", ".writing"}):
        raise InputError(f"--out {out}: exists and is not a feature store; name a new folder, e.g. features.zarr")
    return None


def stored_slide_test(
    store: FeatureStore | None,
    changed: list[str],
    mpp_of: Callable[[Path], float | None],
    roi: Path | None = None,
    is_same: Callable[[Path, Mapping[str, Any]], bool] = is_same_file,
) -> Callable[[Path], bool]:
    """Return a test of whether the store holds a slide, made from the same file, regions and scale.

    Args:
        store: None means that there is no store, or that all its slides are to be extracted again.
        changed: Receives the ids of slides that the store holds, but whose file has changed since.
        mpp_of: µm per pixel that the user gives for a slide, if any.
        roi: File or folder with the regions of interest; None means whole slides.
        is_same: Whether a file is the one that the attributes of a slide record.
    """

    def is_stored(path: Path) -> bool:
        if store is None or path.stem not in store:
            return False
        attributes = store.slide_attributes(path.stem)
        if attributes.get("source", path.name) != path.name:
            raise SlideError(
                "duplicate_stem",
                f"{path}: the store holds {path.stem!r} from {attributes['source']}; rename one, or give --overwrite",
            )
        if is_same(path, attributes):
            _check_same_scale(store.path, path, attributes, mpp_of(path))
            _check_same_roi(store.path, path, attributes, roi)
            return True
        changed.append(path.stem)
        return False

    return is_stored


def _check_same_scale(out: str, path: Path, attributes: Mapping[str, Any], mpp: float | None) -> None:
    """Refuse a scale other than the one given before: with one of the two, every position in the store is wrong."""
    is_from_user = attributes.get("mpp_source") in (FROM_OPTION, FROM_MANIFEST)
    if is_from_user and mpp is not None and not math.isclose(attributes["mpp"], mpp):
        raise InputError(
            f"{path}: {out} holds it at {attributes['mpp']:g} µm/px ({attributes['mpp_source']}), but its scale is now "
            f"given as {mpp:g}; give --overwrite to extract it again, or another --out"
        )


def _check_same_roi(out: str, path: Path, attributes: Mapping[str, Any], roi: Path | None) -> None:
    """Refuse other regions than those that a slide was extracted with, since its tiles would be others."""
    stored = attributes.get("roi") or {}
    if roi is not None and stored.get("sha256") != roi_digest(roi, path):
        raise InputError(
            f"{path}: {out} holds it with the regions of {stored.get('file', 'no file')}, and the file of --roi {roi} has "
            "changed since or is another; give --overwrite to extract it again, or another --out"
        )
