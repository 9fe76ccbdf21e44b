"""Feature stores of several cohorts, read as one store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dmml.errors import InputError
from dmml.store import FeatureStore, SlideFeatures
from dmml.store.encoder_identity import describe_stains, same_stains


class JoinedStore:
    """Several stores behind the reading interface of `FeatureStore`; each slide is read from the store that holds it.

    Args:
        stores: {path: store}, all made with the same encoder on the same grid.

    Raises:
        InputError: Two stores differ in encoder, tile size, magnifications or content, or both hold a complete slide
            with the same id.
    """

    def __init__(self, stores: Mapping[str, FeatureStore]):
        (self.path, first), *_ = stores.items()
        self.attributes = {**first.attributes, "extraction": _common_extraction(list(stores.values()))}
        self.n_features = first.n_features
        self.holds_vectors = first.holds_vectors
        self._store: dict[str, FeatureStore] = {}
        owner: dict[str, str] = {}
        for path, store in stores.items():
            self._check_same_maker(path, store)
            for slide in store.names():
                if slide in owner:
                    complete = [candidate for candidate in (self._store[slide], store) if candidate.whole([slide])]
                    if len(complete) == 2:
                        raise InputError(
                            f"{path}: the slide {slide} is in {owner[slide]}, too; remove it from one of the stores, since "
                            "a slide belongs to one cohort"
                        )
                    if complete != [store]:
                        continue
                owner[slide], self._store[slide] = path, store

    def _check_same_maker(self, path: str, store: FeatureStore) -> None:
        first, other = self.attributes, store.attributes
        equal = {key: first["encoder"].get(key) == other["encoder"].get(key) for key in ("name", "weights", "dim")}
        equal |= {key: first.get(key) == other.get(key) for key in ("tile_px", "magnifications", "content")}
        equal["stain_normalization"] = same_stains(first["encoder"], other["encoder"])
        different = next((key for key, is_equal in equal.items() if not is_equal), None)
        if different is not None:
            values = [attributes["encoder"].get(different, attributes.get(different)) for attributes in (first, other)]
            if different == "stain_normalization":
                different = "tiles"
                values = [describe_stains(attributes["encoder"]) for attributes in (first, other)]
            raise InputError(
                f"{path}: made with {different} {values[1]}, but {self.path} with {values[0]}; cohorts trained together need "
                "one encoder and one grid, so extract one of them again"
            )

    def whole(self, slide_ids: Iterable[str]) -> list[str]:
        """See `FeatureStore.whole`; the order of the ids is kept."""
        ids = list(slide_ids)
        complete = {slide for store, members in self._by_store(ids) for slide in store.whole(members)}
        return [slide for slide in ids if slide in complete]

    def sizes(self, slide_ids: Iterable[str], magnifications: Sequence[int]) -> dict[str, list[int]]:
        """See `FeatureStore.sizes`."""
        return {
            slide: sizes
            for store, members in self._by_store(slide_ids)
            for slide, sizes in store.sizes(members, magnifications).items()
        }

    def digests(self, slide_ids: Iterable[str]) -> dict[str, str]:
        """{path of a store: hash of the given slides that it holds}."""
        return {store.path: store.digest(members) for store, members in self._by_store(slide_ids)}

    def _by_store(self, slide_ids: Iterable[str]) -> list[tuple[FeatureStore, list[str]]]:
        """Pair each store with the given slides that it holds; slides in no store are left out."""
        pairs: dict[str, tuple[FeatureStore, list[str]]] = {}
        for slide in slide_ids:
            if (store := self._store.get(slide)) is not None:
                pairs.setdefault(store.path, (store, []))[1].append(slide)
        return list(pairs.values())

    def slide_attributes(self, slide_id: str) -> dict[str, Any]:
        """See `FeatureStore.slide_attributes`."""
        return self._store[slide_id].slide_attributes(slide_id)

    def read(self, slide_id: str, magnification: int) -> SlideFeatures | None:
        """See `FeatureStore.read`."""
        return self._store[slide_id].read(slide_id, magnification)

    def n_tokens(self, slide_id: str, magnification: int) -> int:
        """See `FeatureStore.n_tokens`."""
        return self._store[slide_id].n_tokens(slide_id, magnification)

    def thumbnail(self, slide_id: str) -> np.ndarray | None:
        """See `FeatureStore.thumbnail`."""
        return self._store[slide_id].thumbnail(slide_id)


def _common_extraction(stores: Sequence[FeatureStore]) -> dict[str, Any]:
    """Return {option: value} of the extraction, None where the stores differ; {} if one of them does not record it."""
    each = [store.attributes.get("extraction") or {} for store in stores]
    if not all(each):
        return {}
    options = {name for extraction in each for name in extraction}
    values = {name: [extraction.get(name) for extraction in each] for name in sorted(options)}
    return {
        name: of_stores[0] if all(value == of_stores[0] for value in of_stores) else None
        for name, of_stores in values.items()
    }
