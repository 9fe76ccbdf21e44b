"""Patients as dataset items: reads and joins a patient's slides, and draws tokens of large patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from dmml.cohort.magnifications import check_linked
from dmml.data.joined_store import JoinedStore
from dmml.data.samplers import PlannedBatch
from dmml.data.token_draw import draw_tokens
from dmml.store import FeatureStore

_OBJECT_BYTES = 2_500
"""Memory of a patient's dictionaries and array headers, which is more than that of the arrays if they are a few vectors"""


@dataclass
class Patient:
    """One patient's tokens, not padded."""

    patient_id: str
    features: dict[int, np.ndarray]
    """{m: (N_m, D) in the store's type, float16 or float32}"""
    position: dict[int, np.ndarray]
    """{m: (N_m, 2) float32 µm}"""
    slide: dict[int, np.ndarray]
    """{m: (N_m,) int64, index of the slide within the patient}"""
    parent: np.ndarray
    """(N_fine,) int64, row in the coarse bag, −1 = none"""

    @property
    def nbytes(self) -> int:
        """Memory that the patient takes, in bytes: that of the arrays and of the objects around them."""
        parts = (self.features, self.position, self.slide)
        return _OBJECT_BYTES + self.parent.nbytes + sum(array.nbytes for part in parts for array in part.values())


class PatientReader:
    """Reads patients from a store, and caches as many of them as fit into a memory budget.

    Args:
        store: Feature store, or None for a cohort without slides.
        slides: {patient_id: [slide_id, …]}; slides that the store lacks are skipped.
        magnifications: Magnifications to read.
        cache_gib: Memory budget of the cache, in GiB.

    Raises:
        InputError: The store does not link the tokens of the magnifications (`check_linked`).
    """

    def __init__(
        self,
        store: FeatureStore | JoinedStore | None,
        slides: dict[str, list[str]],
        magnifications: Sequence[int],
        cache_gib: float = 2.0,
    ):
        self.store, self.magnifications = store, sorted(magnifications)
        if store is not None:
            check_linked(self.magnifications, store.attributes["magnifications"])
        named = {slide for ids in slides.values() for slide in ids}
        complete = set() if store is None else set(store.whole(sorted(named)))
        self.slides = {patient: [s for s in ids if s in complete] for patient, ids in slides.items()}
        self._cache: dict[str, Patient] = {}
        self._free_bytes = int(cache_gib * 2**30)

    def read(self, patient_id: str) -> Patient:
        """Read and concatenate all slides of a patient; each slide keeps a separate frame of coordinates."""
        if patient_id in self._cache:
            return self._cache[patient_id]
        coarse, fine = self.magnifications[0], self.magnifications[-1]
        features: dict[int, list[np.ndarray]] = {m: [] for m in self.magnifications}
        position: dict[int, list[np.ndarray]] = {m: [] for m in self.magnifications}
        slide: dict[int, list[np.ndarray]] = {m: [] for m in self.magnifications}
        parents, n_coarse = [], 0
        for index, slide_id in enumerate(self.slides.get(patient_id, [])):
            bags = {m: self._store.read(slide_id, m) for m in self.magnifications}
            for m, bag in bags.items():
                if bag is None:
                    continue
                features[m].append(bag.features)
                position[m].append(bag.position)
                slide[m].append(np.full(len(bag.features), index))
            fine_bag, coarse_bag = bags[fine], bags[coarse]
            if fine_bag is not None:
                if fine_bag.parent is None or fine == coarse or coarse_bag is None:
                    rows = np.full(len(fine_bag.features), -1)
                else:
                    rows = fine_bag.parent.astype(np.int64)
                parents.append(np.where(rows >= 0, rows + n_coarse, -1))
            n_coarse += 0 if coarse_bag is None else len(coarse_bag.features)
        patient = Patient(
            patient_id=patient_id,
            features={m: _join(x) for m, x in features.items() if x},
            position={m: _join(x) for m, x in position.items() if x},
            slide={m: _join(x) for m, x in slide.items() if x},
            parent=_join(parents) if parents else np.zeros(0, dtype=np.int64),
        )
        self._add_to_cache(patient)
        return patient

    @property
    def _store(self) -> FeatureStore | JoinedStore:
        if self.store is None:
            raise RuntimeError("a cohort without a feature store has no slides to read")
        return self.store

    def _add_to_cache(self, patient: Patient) -> None:
        if patient.nbytes <= self._free_bytes:
            self._free_bytes -= patient.nbytes
            for part in (patient.features, patient.position):  # copied, since a mapped file may be on a remote disk
                part.update({m: np.array(values) for m, values in part.items()})
            self._cache[patient.patient_id] = patient

    def sizes(self, patient_id: str) -> dict[int, int]:
        """Number of a patient's tokens at each magnification; the features are not read."""
        ids = self.slides.get(patient_id, [])
        return {m: sum(self._store.n_tokens(slide, m) for slide in ids) for m in self.magnifications}

    def sizes_of(self, patient_ids: Sequence[str]) -> np.ndarray:
        """Number of tokens of each patient at each magnification, (patients, M), the coarsest magnification first."""
        slides = [slide for patient in patient_ids for slide in self.slides.get(patient, [])]
        tiles = self._store.sizes(slides, self.magnifications)
        none = [0] * len(self.magnifications)
        sums = [np.sum([tiles[s] for s in self.slides.get(p, [])] or [none], axis=0) for p in patient_ids]
        return np.array(sums, dtype=np.int64).reshape(len(sums), len(none))


class PatientDataset(Dataset):
    """Dataset whose items are single patients, or whole batches of patients for a `PlannedBatch`.

    Args:
        reader: Reads the patients.
        patient_ids: Ids of the patients, in the order of the dataset's rows.
        max_tokens: Maximum number of a patient's tokens in a training epoch, at each magnification or as {m: number}; see
            `draw_tokens`. None = all.
        seed: Seed of the draw of tokens.
    """

    def __init__(
        self,
        reader: PatientReader,
        patient_ids: Sequence[str],
        max_tokens: int | Mapping[int, int] | None = None,
        seed: int = 0,
    ):
        self.reader, self.patient_ids = reader, list(patient_ids)
        self.max_tokens, self.seed = max_tokens, seed

    def __len__(self) -> int:
        """Number of patients."""
        return len(self.patient_ids)

    def __getitem__(self, item: int | PlannedBatch) -> Patient | list[Patient]:
        """Read one patient with all tokens, or the patients of a batch with the tokens drawn for its epoch."""
        if not isinstance(item, PlannedBatch):
            return self.reader.read(self.patient_ids[item])
        patients = [self.reader.read(self.patient_ids[row]) for row in item.rows]
        if item.epoch is None or self.max_tokens is None:
            return patients
        return [subsample(patient, self.max_tokens, (self.seed, item.epoch)) for patient in patients]

    def sizes(self, from_store: bool, training: bool) -> np.ndarray:
        """Largest number of tokens that a batch can hold of each patient at each magnification, (patients, M).

        Args:
            from_store: Whether to read the numbers from the store; otherwise every patient counts as 1.
            training: Whether `max_tokens` applies.
        """
        if not from_store or self.reader.store is None:
            return np.ones((len(self), len(self.reader.magnifications)), dtype=np.int64)
        sizes = self.reader.sizes_of(self.patient_ids)
        if not training or self.max_tokens is None:
            return sizes
        if isinstance(self.max_tokens, Mapping):
            unlimited = np.iinfo(np.int64).max
            return np.minimum(sizes, [self.max_tokens.get(m, unlimited) for m in self.reader.magnifications])
        return np.minimum(sizes, self.max_tokens)


def subsample(patient: Patient, max_tokens: int | Mapping[int, int], seed: tuple[int, int]) -> Patient:
    """Draw part of a patient's tokens; see `draw_tokens`."""
    counts = {m: len(values) for m, values in patient.features.items()}
    rows = draw_tokens(counts, patient.parent, max_tokens, seed, patient.patient_id)
    if not rows:
        return patient
    coarse, fine = min(counts), max(counts)
    parent = patient.parent
    if fine in rows and len(parent):  # empty if the patient has only the coarse grid
        parent = parent[rows[fine]]
    if coarse in rows and coarse != fine:
        renumbered = np.full(counts[coarse], -1)
        renumbered[rows[coarse]] = np.arange(len(rows[coarse]))
        parent = np.where(parent >= 0, renumbered[np.maximum(parent, 0)], -1)

    def drawn(arrays: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        return {m: values[rows[m]] if m in rows else values for m, values in arrays.items()}

    return Patient(patient.patient_id, drawn(patient.features), drawn(patient.position), drawn(patient.slide), parent)


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    """Concatenate arrays; a single array, which may be a mapped file, is returned without a copy."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
