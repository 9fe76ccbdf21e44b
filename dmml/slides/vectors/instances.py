"""Rows that hold several instances side by side, such as the same measurements of eight kinds of cells."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from dmml.errors import InputError
from dmml.slides.vectors.file_vectors import FileVectors, listed

_PART = re.compile(r"[^_\[\]:|]+")
"""Parts of a name such as `MEAN[PLASMA CELL_NUCLEUS_AREA]`, of which one may name the instance"""


def split_instances(vectors: FileVectors, n: int) -> FileVectors:
    """Turn every row into n rows, one per instance.

    If the columns have names, the instance is the part of the name that takes n values, each with the same remaining
    names, in any order of the columns: `MEAN[CANCER CELL_AREA]`, `MEAN[PLASMA CELL_AREA]`, … Otherwise an instance is a
    block of consecutive columns. An instance without any value is left out.

    Args:
        vectors: Rows of n·d values.
        n: Instances per row.

    Raises:
        InputError: The width is not a multiple of n, or the names divide into n instances in several ways.
    """
    width = vectors.values.shape[1]
    if n < 2 or width % n:
        raise InputError(
            f"{vectors.path}: {width} features cannot be divided into --instances {n} of equal width; check --columns, or the number of instances"
        )
    ways = _groupings(vectors.names, n) if vectors.names else []
    if len(ways) > 1:
        listing = "; ".join(", ".join(way) for way in ways)
        raise InputError(
            f"{vectors.path}: --instances {n} divides the columns in several ways ({listing}); take the columns of one way with "
            "--columns, or rename them"
        )
    names: list[str] | None = None
    if not ways:
        order = np.arange(width).reshape(n, -1)
        note = f"instances are blocks of {width // n} consecutive columns"
        if vectors.names:
            note += f", which begin with {listed([vectors.names[i] for i in order[:, 0]])}"
    else:
        names = list(next(iter(ways[0].values())))
        order = np.array([[columns[name] for name in names] for columns in ways[0].values()])
        note = f"{n} instances of {width // n} features: {', '.join(ways[0])}"
    values = vectors.values[:, order]  # (rows, n, d)
    has_values = ~np.isnan(values).all(axis=2)
    notes = [*vectors.notes, note]
    if n_empty := int((~has_values).sum()):
        notes.append(f"{n_empty} of {has_values.size} instances have no value and were left out")
    ids = [name for name, count in zip(vectors.ids, has_values.sum(1), strict=True) for _ in range(int(count))]
    return FileVectors(vectors.path, ids, values[has_values], names, vectors.encoder, notes)


def _groupings(names: Sequence[str], n: int) -> list[dict[str, dict[str, int]]]:
    """Find every way in which one part of the names yields n instances, each as {instance: {common name: column}}."""
    parts = [list(_PART.finditer(name)) for name in names]
    ways = []
    for position in range(min(map(len, parts))):
        by_label: dict[str, dict[str, int]] = defaultdict(dict)
        for i, (name, its_parts) in enumerate(zip(names, parts, strict=True)):
            part = its_parts[position]
            by_label[part.group()][f"{name[: part.start()]}*{name[part.end() :]}"] = i
        rests = [set(columns) for columns in by_label.values()]
        if len(rests) == n and len(names) == n * len(rests[0]) and all(rest == rests[0] for rest in rests):
            ways.append(dict(by_label))
    return ways
