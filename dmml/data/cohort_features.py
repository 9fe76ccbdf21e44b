"""Opens the feature stores of a cohort and matches their slides to its patients."""

from __future__ import annotations

from collections.abc import Sequence

from dmml.cohort.cohort import Cohort
from dmml.data.encoder_match import check_has_magnification, check_slides_match
from dmml.data.joined_store import JoinedStore
from dmml.store import FeatureStore


def open_features(
    cohort: Cohort, magnifications: Sequence[int]
) -> tuple[FeatureStore | JoinedStore | None, dict[str, list[str]]]:
    """Open the stores of a cohort, of several if it was joined from cohorts with stores of their own.

    Args:
        cohort: The cohort.
        magnifications: Magnifications that the model will read.

    Returns:
        The store, or None for a cohort without slides, and {patient: ids of the slides in the store}.

    Raises:
        InputError: A store is missing or damaged, has none of the magnifications or no slide of the cohort's patients,
            or two stores were made differently.
    """
    members = [member for member in cohort.members or [cohort] if member.features]
    stores = {str(member.features): FeatureStore(str(member.features)) for member in members}
    if not stores:
        return None, {}
    store = next(iter(stores.values())) if len(stores) == 1 else JoinedStore(stores)
    slides: dict[str, list[str]] = {}
    for member in members:
        path = str(member.features)
        check_has_magnification(path, stores[path], magnifications)
        names = stores[path].names()
        matched = member.clinical.match_slides(names)
        check_slides_match(path, names, member.clinical, matched)
        slides |= matched
    return store, slides
