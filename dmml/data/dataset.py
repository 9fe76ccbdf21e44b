"""Patients as dataset items: read and join a patient's slides, and pad a list of patients into a `Batch`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dmml.data.samplers import Request
from dmml.data.token_draw import draw_tokens
from dmml.errors import InputError
from dmml.store import FeatureStore
from dmml.types import Bag, Batch


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
        """Memory that the arrays take, in bytes."""
        parts = (self.features, self.position, self.slide)
        return self.parent.nbytes + sum(array.nbytes for part in parts for array in part.values())


class PatientReader:
    """Reads patients from a store, and caches as many of them as fit into a memory budget.

    Args:
        store: Feature store, or None for a cohort without slides.
        slides: {patient_id: [slide_id, …]}; slides that the store lacks are skipped.
        magnifications: Magnifications to read.
        cache_gib: Memory budget of the cache, in GiB.
    """

    def __init__(
        self,
        store: FeatureStore | None,
        slides: dict[str, list[str]],
        magnifications: Sequence[int],
        cache_gib: float = 2.0,
    ):
        self.store, self.magnifications = store, sorted(magnifications)
        named = {slide for ids in slides.values() for slide in ids}
        there = set() if store is None else set(store.whole(sorted(named)))
        self.slides = {patient: [s for s in ids if s in there] for patient, ids in slides.items()}
        self._cache: dict[str, Patient] = {}
        self._left = int(cache_gib * 2**30)

    def read(self, patient_id: str) -> Patient:
        """Read and concatenate all slides of a patient; each slide keeps a separate frame of coordinates."""
        if patient_id in self._cache:
            return self._cache[patient_id]
        coarse, fine = self.magnifications[0], self.magnifications[-1]
        features, position, slide = ({m: [] for m in self.magnifications} for _ in range(3))
        parents, before = [], 0
        for index, slide_id in enumerate(self.slides.get(patient_id, [])):
            bags = {m: self.store.read(slide_id, m) for m in self.magnifications}
            for m, bag in bags.items():
                if bag is None:
                    continue
                features[m].append(bag.features)
                position[m].append(bag.position)
                slide[m].append(np.full(len(bag.features), index))
            if bags[fine] is not None:
                parent, alone = bags[fine].parent, fine == coarse or bags[coarse] is None
                rows = np.full(len(bags[fine].features), -1) if parent is None or alone else parent.astype(np.int64)
                parents.append(np.where(rows >= 0, rows + before, -1))
            before += 0 if bags[coarse] is None else len(bags[coarse].features)
        patient = Patient(
            patient_id=patient_id,
            features={m: _join(x) for m, x in features.items() if x},
            position={m: _join(x) for m, x in position.items() if x},
            slide={m: _join(x) for m, x in slide.items() if x},
            parent=_join(parents) if parents else np.zeros(0, dtype=np.int64),
        )
        self._keep(patient)
        return patient

    def _keep(self, patient: Patient) -> None:
        if patient.nbytes <= self._left:
            self._left -= patient.nbytes
            for part in (patient.features, patient.position):  # copied, since a mapped file may be on a remote disk
                part.update({m: np.array(values) for m, values in part.items()})
            self._cache[patient.patient_id] = patient

    def sizes(self, patient_id: str) -> dict[int, int]:
        """Number of a patient's tokens at each magnification; the features are not read."""
        ids = self.slides.get(patient_id, [])
        return {m: sum(self.store.n_tokens(slide, m) for slide in ids) for m in self.magnifications}

    def sizes_of(self, patient_ids: Sequence[str]) -> np.ndarray:
        """Number of tokens of each patient at each magnification, (patients, M), the coarsest magnification first."""
        slides = [slide for patient in patient_ids for slide in self.slides.get(patient, [])]
        tiles = self.store.sizes(slides, self.magnifications)
        none = [0] * len(self.magnifications)
        sums = [np.sum([tiles[s] for s in self.slides.get(p, [])] or [none], axis=0) for p in patient_ids]
        return np.array(sums, dtype=np.int64).reshape(len(sums), len(none))


class PatientDataset(Dataset):
    """Dataset whose items are single patients, or whole batches of patients for a `Request`.

    Args:
        reader: Reads the patients.
        patient_ids: Ids of the patients, in the order of the dataset's rows.
        max_tokens: Maximum number of tokens per patient and magnification in a training epoch; None = all.
        seed: Seed of the draw of tokens.
    """

    def __init__(self, reader: PatientReader, patient_ids: Sequence[str], max_tokens: int | None = None, seed: int = 0):
        if max_tokens is not None and max_tokens < 1:
            raise InputError(f"data.max_tokens must be at least 1; got {max_tokens}")
        self.reader, self.patient_ids = reader, list(patient_ids)
        self.max_tokens, self.seed = max_tokens, seed

    def __len__(self) -> int:
        """Number of patients."""
        return len(self.patient_ids)

    def __getitem__(self, asked: int | Request) -> Patient | list[Patient]:
        """Read one patient with all tokens, or the patients of a request with the tokens drawn for its epoch."""
        if not isinstance(asked, Request):
            return self.reader.read(self.patient_ids[asked])
        patients = [self.reader.read(self.patient_ids[row]) for row in asked.rows]
        if asked.epoch is None or self.max_tokens is None:
            return patients
        return [take_part(patient, self.max_tokens, (self.seed, asked.epoch)) for patient in patients]

    def sizes(self, look: bool, training: bool) -> np.ndarray:
        """Number of tokens that a batch will hold of each patient at each magnification, (patients, M).

        Args:
            look: Whether to read the numbers from the store; otherwise every patient counts as 1.
            training: Whether `max_tokens` applies.
        """
        if not look or self.reader.store is None:
            return np.ones((len(self), len(self.reader.magnifications)), dtype=np.int64)
        sizes = self.reader.sizes_of(self.patient_ids)
        return np.minimum(sizes, self.max_tokens) if training and self.max_tokens else sizes


def take_part(patient: Patient, max_tokens: int, seed: tuple[int, int]) -> Patient:
    """Draw at most `max_tokens` of a patient's tokens at each magnification; see `draw_tokens`."""
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

    def kept(part: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        return {m: values[rows[m]] if m in rows else values for m, values in part.items()}

    return Patient(patient.patient_id, kept(patient.features), kept(patient.position), kept(patient.slide), parent)


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    """Concatenate arrays; a single array, which may be a mapped file, is returned without a copy."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


class Collate:
    """Pads patients into a `Batch` and adds their expression and targets.

    Args:
        magnifications: Keys of the bags; a magnification that no patient of a batch has is left out of the batch.
        patient_ids: Ids of the patients, in the row order of the following arguments.
        expression: {subspace: (patients, G)}.
        has_expression: (patients,) bool.
        target: {name: (patients,)} or empty.
        fill: {magnification: function of the padded features (B, N, D)}, for a store in which values may be missing.
    """

    def __init__(
        self,
        magnifications: Sequence[int],
        patient_ids: Sequence[str],
        expression: dict[str, Tensor],
        has_expression: Tensor,
        target: dict[str, Tensor],
        fill: Mapping[int, Callable[[Tensor], Tensor]] | None = None,
    ):
        self.magnifications = sorted(magnifications)
        self.row = {patient: row for row, patient in enumerate(patient_ids)}
        self.expression, self.has_expression, self.target = expression, has_expression, target
        self.fill = fill or {}

    def __call__(self, patients: list[Patient] | Patient) -> Batch:
        """Pad to the longest bag, with zeros (parents: −1); a single patient (`overfit_batches`) is a batch of one."""
        patients = [patients] if isinstance(patients, Patient) else patients
        rows = torch.tensor([self.row[patient.patient_id] for patient in patients])
        bags = {m: self._bag(patients, m) for m in self.magnifications if any(m in p.features for p in patients)}
        return Batch(
            patient_id=[patient.patient_id for patient in patients],
            bags=bags,
            parent=_pad([p.parent for p in patients], fill=-1).long(),
            expression={s: values[rows] for s, values in self.expression.items()},
            has_expression=self.has_expression[rows],
            target={name: values[rows] for name, values in self.target.items()},
        )

    def _bag(self, patients: list[Patient], m: int) -> Bag:
        width = next(p.features[m].shape[1] for p in patients if m in p.features)
        empty = np.zeros((0, width), dtype=np.float16)
        nowhere, no_slide = np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=np.int64)
        features = _pad([p.features.get(m, empty) for p in patients])
        return Bag(
            features=self.fill[m](features) if m in self.fill else features,
            position=_pad([p.position.get(m, nowhere) for p in patients]),
            mask=_pad([np.ones(len(p.features.get(m, empty)), dtype=bool) for p in patients]),
            slide=_pad([p.slide.get(m, no_slide) for p in patients]).long(),
            n_slides=max(int(p.slide[m].max(initial=0)) + 1 for p in patients if m in p.slide),
        )


def _pad(arrays: list[np.ndarray], fill: int = 0) -> Tensor:
    """[(N_i, …)] → (B, max N_i, …) in a common type, since stores of float16 and float32 may be joined."""
    longest = max(len(array) for array in arrays)
    kind = np.result_type(*{array.dtype for array in arrays})
    padded = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, dtype=kind)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(padded)
