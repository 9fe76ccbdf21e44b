"""dmml's own file of expression: parquet with one row per patient, one column per gene, and the provenance inside it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dmml.atomic_files import atomic_write, write_text
from dmml.cohort.rna.matrix import Matrix
from dmml.errors import InputError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_METADATA = b"dmml"


def write_expression_file(table: pd.DataFrame, provenance: Mapping[str, object], out: Path) -> None:
    """Write the table, then its provenance to `<out>.json`; each file exists in full or not at all.

    Args:
        table: (patients × genes).
        provenance: Plain values; also stored in the parquet file, in case the two files get separated.
        out: Path of the parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = np.ascontiguousarray(table.to_numpy(np.float32).T)
    columns = {"patient_id": pa.array([str(name) for name in table.index], pa.string())}
    columns |= {gene: pa.array(column) for gene, column in zip(table.columns, values, strict=True)}
    content = pa.table(columns).replace_schema_metadata({_METADATA: json.dumps(provenance).encode()})
    with atomic_write(out) as partial:
        # Expression values hardly compress, and the statistics of a column would be larger than the column itself.
        pq.write_table(content, partial, compression="none", use_dictionary=False, write_statistics=False)
    write_text(out.with_name(out.name + ".json"), json.dumps(provenance, indent=1) + "\n")


def read_expression_file(path: Path) -> tuple[Matrix, dict[str, Any]] | None:
    """Read a table that `write_expression_file` wrote, and its provenance; None if another program wrote the file.

    Raises:
        InputError: The file does not exist, is not parquet, has no column of ids, or has a patient in two rows.
    """
    with open_parquet_file(path) as file:
        provenance: dict[str, Any] = json.loads((file.schema_arrow.metadata or {}).get(_METADATA, b"{}"))
        if not provenance.get("scale"):
            return None
        table = file.read(use_threads=False)  # `pq.read_table` takes three times as long with many columns
    names = table.column_names
    if "patient_id" not in names:
        raise InputError(
            f"{path}: its column 'patient_id' was removed; write the file again with `dmml cohort expression`"
        )
    ids = [str(name) for name in table.column("patient_id").to_pylist()]
    check_unique_patients(path, ids)
    genes = [name for name in names if name != "patient_id"]
    values = np.empty((len(ids), len(genes)), dtype=np.float32)
    for i, gene in enumerate(genes):
        values[:, i] = table.column(gene).to_numpy()
    return Matrix(values, ids, genes), provenance


def open_parquet_file(path: Path) -> pq.ParquetFile:
    """Open a parquet file, of dmml or of another program.

    Raises:
        InputError: The file does not exist, cannot be read, or is not parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError(f"{path}: no such file; write it with `dmml cohort expression INPUT… --out {path}`")
    try:
        return pq.ParquetFile(path)
    except PermissionError:
        raise InputError(f"{path}: you have no permission to read this file; change its permissions") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: is not a parquet file ({str(error).splitlines()[0]}); write it again") from None


def check_unique_patients(path: Path, ids: list[str]) -> None:
    """Refuse a table that has a patient in two rows.

    Raises:
        InputError: An id occurs twice.
    """
    if len(set(ids)) < len(ids):
        repeated = next(name for name, count in Counter(ids).items() if count > 1)
        raise InputError(f"{path}: patient {repeated!r} is in two rows; keep one row per patient")
