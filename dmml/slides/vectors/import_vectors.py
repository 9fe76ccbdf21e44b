"""Imports vectors of slides into a feature store: one bag per slide or patient, without positions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dmml.cohort.clinical.table import slide_stem
from dmml.errors import InputError
from dmml.slides.encoders.recipes import pretraining_warning
from dmml.slides.importing import slide2vec
from dmml.slides.vectors import read_arrays, read_table
from dmml.slides.vectors.file_vectors import FileVectors, listed
from dmml.slides.vectors.instances import split_instances
from dmml.store import FeatureStore, SlideFeatures, is_store
from dmml.store.folder_names import is_folder_name
from dmml.store.root_attributes import VECTORS

SUFFIXES = (*read_table.SUFFIXES, *read_arrays.SUFFIXES)
DEFAULT_MAGNIFICATION = 20
_UNNAMED = "vectors"
"""Name of the encoder if none is known; two tables with the same columns then agree on it"""
_MAX_HALF = float(np.finfo(np.float16).max)
_MAX_ERROR = 1e-3
"""Rounding error, relative to a feature's spread, above which features are kept as float32"""
_MIN_SPREAD = 1e-7
"""Spread, relative to a feature's magnitude, up to which it counts as constant, so that rounding loses nothing"""


@dataclass
class VectorImportResult:
    """The outcome of an import of vectors."""

    written: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    vectors: int = 0
    max_per_slide: int = 0
    """Number of vectors of the slide that has the most"""
    dim: int = 0
    dtype: str = "float16"
    missing: int = 0
    """Number of missing values"""
    notes: list[str] = field(default_factory=list)


def holds_vectors(inputs: Sequence[str | Path]) -> bool:
    """Whether the inputs are tables or arrays of vectors, judged by their suffixes, or else by the first file."""
    if any(slide2vec.holds_tiles(Path(path)) for path in inputs):
        return False
    files = _files(inputs, required=False)
    if not files:
        return False
    if any(_is_table(path) or path.suffix.lower() in (".npz", ".npy") for path in files):
        return True
    try:
        return read_arrays.holds_vectors(files[0])
    except InputError:
        return False


def import_vectors(
    inputs: Sequence[str | Path],
    out: str,
    options: read_table.TableOptions | None = None,
    encoder: str | None = None,
    ids: Path | None = None,
    instances: int | None = None,
    magnification: int = DEFAULT_MAGNIFICATION,
) -> VectorImportResult:
    """Write the vectors of tables and arrays into a store, with all rows of an id as one bag.

    Args:
        inputs: Tables, arrays, or folders of arrays.
        out: Store to create or to add to.
        options: How columns of tables are read.
        encoder: Name of the model that made the vectors; None means the name in the files or folders.
        ids: File with the ids of the rows of an array.
        instances: Number of instances that a row holds side by side; None means one.
        magnification: Magnification under which the store keeps them, so that a model reads them at it.

    Raises:
        InputError: A file cannot be read, files differ in their features, an id cannot be that of a slide or occurs in
            two files, or the store was made with other settings. Nothing is written then.
    """
    by_file = _read_files(inputs, options or read_table.TableOptions(), ids, instances)
    existing = FeatureStore(out) if is_store(out) else None
    names = (existing.attributes.get("feature_names") if existing else None) or by_file[0].names
    by_file = [_reordered(vectors, names, len(names or by_file[0].values[0])) for vectors in by_file]
    rows = _rows_by_id(by_file)
    values = np.concatenate([vectors.values for vectors in by_file])
    dtype = _dtype(values, existing, out)
    store = FeatureStore.create(
        out,
        _identity(encoder, by_file, names, values.shape[1]),
        {magnification: 10.0 / magnification},
        content=VECTORS,
        dtype=dtype,
        feature_names=names,
    )
    result = VectorImportResult(
        vectors=len(values), dim=values.shape[1], dtype=dtype, missing=int(np.isnan(values).sum())
    )
    warning = pretraining_warning(store.attributes["encoder"]["name"], rows)
    result.notes = list(dict.fromkeys(note for vectors in by_file for note in vectors.notes))
    result.notes += filter(None, [warning, _note_on_empty(values)])
    sources = [vectors.path.name for vectors in by_file for _ in vectors.ids]
    for slide_id, its_rows in rows.items():
        _write(store, slide_id, values[its_rows].astype(dtype), sources[its_rows[0]], magnification, result)
    return result


def _read_files(
    inputs: Sequence[str | Path], options: read_table.TableOptions, ids: Path | None, instances: int | None
) -> list[FileVectors]:
    files = _files(inputs, required=True)
    by_file = [_read(path, options, ids, len(files) == 1) for path in files]
    return by_file if instances is None else [split_instances(vectors, instances) for vectors in by_file]


def _dtype(values: np.ndarray, existing: FeatureStore | None, out: str) -> str:
    """Return the type in which the store keeps features: that of an existing store, or one that holds the values."""
    needed = "float32" if needs_single_precision(values) else "float16"
    if existing is None:
        return needed
    if needed == "float32" and existing.dtype == np.float16:
        raise InputError(
            f"--out {out}: keeps float16, which cannot hold these values; import all of them into another store"
        )
    return str(existing.dtype)


def _files(inputs: Sequence[str | Path], required: bool) -> list[Path]:
    """List input files, and the arrays in input folders. If `required`, a missing path or an empty list is refused."""
    files: list[Path] = []
    for input_path in map(Path, inputs):
        if input_path.is_dir():
            inside = sorted(path for path in input_path.rglob("*") if path.suffix.lower() in read_arrays.SUFFIXES)
            files += [path for path in inside if not path.name.startswith("._")]
        elif input_path.exists():
            files.append(input_path)
        elif required:
            raise InputError(f"{input_path}: no such file or folder")
    if required and not files:
        raise InputError(
            f"{', '.join(map(str, inputs))}: no vectors found; give tables, or arrays of {' '.join(SUFFIXES)}"
        )
    return files


def _is_table(path: Path) -> bool:
    return path.name.lower().endswith(read_table.SUFFIXES)


def _read(path: Path, options: read_table.TableOptions, ids: Path | None, is_only_file: bool) -> FileVectors:
    if path.suffix.lower() in read_arrays.SUFFIXES:
        if options.id_column or options.columns or options.drop:
            raise InputError(f"{path}: arrays have no named columns; leave out --id, --columns and --drop")
        vectors = read_arrays.read_arrays(path, ids, is_only_file)
        vectors.values = _without_missing(path, vectors.values, options.missing)
    else:
        vectors = read_table.read_table(path, options)
    vectors.ids = [slide_stem(name) for name in vectors.ids]
    if bad := [name for name in vectors.ids if not is_folder_name(name)]:
        raise InputError(f"{path}: {bad[0]!r} cannot be the id of a slide; rename it, without a path or a leading dot")
    if np.isinf(vectors.values).any():
        row = int(np.isinf(vectors.values).any(axis=1).argmax())
        raise InputError(f"{path}: the vector of {vectors.ids[row]} holds infinity; compute it again")
    if (empty := np.isnan(vectors.values).all(axis=1)).any():
        raise InputError(f"{path}: the vector of {vectors.ids[int(empty.argmax())]} holds no value; leave it out")
    return vectors


def _without_missing(path: Path, values: np.ndarray, missing: Sequence[str]) -> np.ndarray:
    """Replace values that mean that nothing was measured by NaN; returns (rows, D).

    Raises:
        InputError: One of the values of `--missing` is not a number.
    """
    for word in missing:
        try:
            values = np.where(values == float(word), np.nan, values)
        except ValueError as error:
            raise InputError(f"{path}: --missing {word!r} is not a number, and arrays hold only numbers") from error
    return values


def _reordered(vectors: FileVectors, names: Sequence[str] | None, width: int) -> FileVectors:
    """Reorder the features as in the store, or as in the first file."""
    if vectors.values.shape[1] != width and (names is None or vectors.names is None):
        raise InputError(
            f"{vectors.path}: has {vectors.values.shape[1]} features, but the others have {width}; import it into another store"
        )
    if names is None or vectors.names is None or list(vectors.names) == list(names):
        return vectors
    index = {name: i for i, name in enumerate(vectors.names)}
    if lacking := [name for name in names if name not in index]:
        raise InputError(
            f"{vectors.path}: lacks features that the others have ({listed(lacking)}); import it into another store"
        )
    if extra := [name for name in vectors.names if name not in set(names)]:
        raise InputError(
            f"{vectors.path}: has features that the others lack ({listed(extra)}); leave them out with --drop"
        )
    vectors.values, vectors.names = vectors.values[:, [index[name] for name in names]], list(names)
    return vectors


def _rows_by_id(by_file: Sequence[FileVectors]) -> dict[str, list[int]]:
    """Collect {id: rows over all files}; an id that occurs in two files is refused."""
    rows: dict[str, list[int]] = {}
    owner: dict[str, Path] = {}
    for i, (name, path) in enumerate((name, each.path) for each in by_file for name in each.ids):
        if owner.setdefault(name, path) != path:
            raise InputError(f"{path}: {name} is also in {owner[name]}; name only one of the files")
        rows.setdefault(name, []).append(i)
    return rows


def needs_single_precision(values: np.ndarray) -> bool:
    """Whether float16 overflows, or rounds some feature by more than a thousandth of its spread over the rows.

    Args:
        values: (rows, D), NaN where a value is missing.
    """
    if np.nanmax(np.abs(values)) > _MAX_HALF:
        return True
    has_value = ~np.isnan(values)
    count = np.maximum(has_value.sum(0), 1)
    exact = np.where(has_value, values, 0).astype(np.float64)
    spread = np.where(has_value, exact - exact.sum(0) / count, 0)
    error = exact - exact.astype(np.float16)
    varies = (spread**2).sum(0) > _MIN_SPREAD**2 * (exact**2).sum(0)
    return bool((varies & ((error**2).sum(0) > _MAX_ERROR**2 * (spread**2).sum(0))).any())


def _identity(
    encoder: str | None, by_file: Sequence[FileVectors], names: Sequence[str] | None, dim: int
) -> dict[str, Any]:
    """Encoder of a store; a table's columns take the place of its weights, to distinguish tables with other columns."""
    named = {each.encoder for each in by_file} - {""}
    if encoder is None and len(named) > 1:
        raise InputError(
            f"the files name several encoders ({', '.join(sorted(named))}); import the files of one at a time"
        )
    identity = {"name": encoder or next(iter(named), _UNNAMED), "dim": dim, "content": VECTORS}
    if names is not None:
        identity["weights"] = f"columns {hashlib.sha256(chr(10).join(names).encode()).hexdigest()[:16]}"
    return identity


def _note_on_empty(values: np.ndarray) -> str:
    n_empty = int(np.isnan(values).all(axis=0).sum())
    return f"{n_empty} features have no value in any row, so they carry no information" if n_empty else ""


def _write(
    store: FeatureStore, slide_id: str, values: np.ndarray, source: str, magnification: int, result: VectorImportResult
) -> None:
    """Write a slide unless the store already holds the same values."""
    digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
    result.max_per_slide = max(result.max_per_slide, len(values))
    if slide_id in store and store.slide_attributes(slide_id).get("values_hash") == digest:
        result.unchanged.append(slide_id)
        return
    bag = SlideFeatures(values, np.zeros((len(values), 2), np.float32))
    store.write(slide_id, {magnification: bag}, {"source": source, "values_hash": digest})
    result.written.append(slide_id)
