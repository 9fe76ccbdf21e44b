"""Feature stores of several cohorts, read as one store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dmml.errors import InputError
from dmml.store import FeatureStore, SlideFeatures


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
        self.attributes = first.attributes
        self.n_features = first.n_features
        self.holds_vectors = first.holds_vectors
        self._store: dict[str, FeatureStore] = {}
        owner: dict[str, str] = {}
        for path, store in stores.items():
            self._refuse_other_maker(path, store)
            for slide in store.names():
                if slide in owner:
                    both = [one for one in (self._store[slide], store) if one.whole([slide])]
                    if len(both) == 2:
                        raise InputError(
                            f"{path}: slide {slide} is in {owner[slide]} too; a slide belongs to one cohort"
                        )
                    if both != [store]:
                        continue
                owner[slide], self._store[slide] = path, store

    def _refuse_other_maker(self, path: str, store: FeatureStore) -> None:
        ours, theirs = self.attributes, store.attributes
        same = {key: ours["encoder"].get(key) == theirs["encoder"].get(key) for key in ("name", "weights", "dim")}
        same |= {key: ours.get(key) == theirs.get(key) for key in ("tile_px", "magnifications", "content")}
        apart = next((key for key, equal in same.items() if not equal), None)
        if apart is not None:
            told = [one["encoder"].get(apart, one.get(apart)) for one in (ours, theirs)]
            raise InputError(
                f"{path}: made with {apart} {told[1]}, {self.path} with {told[0]}; cohorts trained together need one "
                "encoder and grid, extract one of them again"
            )

    def whole(self, slide_ids: Iterable[str]) -> list[str]:
        """See `FeatureStore.whole`; the order of the ids is kept."""
        ids = list(slide_ids)
        there = {slide for store, own in self._dealt(ids) for slide in store.whole(own)}
        return [slide for slide in ids if slide in there]

    def sizes(self, slide_ids: Iterable[str], magnifications: Sequence[int]) -> dict[str, list[int]]:
        """See `FeatureStore.sizes`."""
        return {s: n for store, own in self._dealt(slide_ids) for s, n in store.sizes(own, magnifications).items()}

    def digests(self, slide_ids: Iterable[str]) -> dict[str, str]:
        """{path of a store: hash of the given slides that it holds}."""
        return {store.path: store.digest(own) for store, own in self._dealt(slide_ids)}

    def _dealt(self, slide_ids: Iterable[str]) -> list[tuple[FeatureStore, list[str]]]:
        """Pair each store with the given slides that it holds; slides in no store are left out."""
        dealt: dict[str, tuple[FeatureStore, list[str]]] = {}
        for slide in slide_ids:
            if (store := self._store.get(slide)) is not None:
                dealt.setdefault(store.path, (store, []))[1].append(slide)
        return list(dealt.values())

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
