"""Expression tables as parquet: one column a gene, one row a patient, provenance in the file's metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dmml.cohort.gene_account import are_entrez
from dmml.cohort.gene_names import share_of_genes
from dmml.cohort.matrix import Matrix
from dmml.errors import InputError

_METADATA = b"dmml"
_FEWEST_KNOWN = 0.2
_ID_COLUMNS = ("patient_id", "__index_level_0__")


def write_parquet(table: pd.DataFrame, provenance: Mapping[str, Any], out: Path) -> None:
    """Write the table, then its provenance beside it (`<out>.json`); neither is ever half there.

    Args:
        table: (patients × genes).
        provenance: Plain values; kept in the file too, since files get separated.
        out: Where to.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    out.parent.mkdir(parents=True, exist_ok=True)
    values = np.ascontiguousarray(table.to_numpy(np.float32).T)
    columns = {"patient_id": pa.array([str(name) for name in table.index], pa.string())}
    columns |= {gene: pa.array(column) for gene, column in zip(table.columns, values, strict=True)}
    written = pa.table(columns).replace_schema_metadata({_METADATA: json.dumps(provenance).encode()})
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        # Expression values hardly compress, and statistics of a column would be larger than a short column.
        pq.write_table(written, temporary, compression="none", use_dictionary=False, write_statistics=False)
        os.replace(temporary, out)
        temporary.write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, out.with_name(out.name + ".json"))
    finally:
        temporary.unlink(missing_ok=True)


def read_parquet(path: Path, patient_id: str | None = None) -> tuple[Matrix, dict[str, Any]]:
    """Read a table and the provenance in it, which is empty where another writer made it.

    Args:
        path: The file.
        patient_id: Column of the patient ids; None for `patient_id` or the index that pandas wrote.

    Raises:
        InputError: No such file, no parquet, no column of ids, or a patient in two rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with `dmml cohort expression INPUT… --out {path}`")
    try:
        with pq.ParquetFile(path) as file:  # `pq.read_table` takes three times as long with many columns
            table = file.read(use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: no parquet file ({str(error).splitlines()[0]}); make it again") from None
    names = table.column_names
    words = [
        name
        for name, kind in zip(names, table.schema.types, strict=True)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind)
    ]
    id_column = patient_id or next((name for name in (*_ID_COLUMNS, *words) if name in names), "patient_id")
    if id_column not in names:
        raise InputError(f"{path}: no column {id_column!r} with the patient ids; name it under expression: patient_id")
    numeric = [pa.types.is_floating(kind) or pa.types.is_integer(kind) for kind in table.schema.types]
    genes = [name for name, number in zip(names, numeric, strict=True) if number and name != id_column]
    ids = [str(name) for name in table.column(id_column).to_pylist()]
    shares = share_of_genes(ids[:2000]), share_of_genes(genes[:2000])
    by_genes = patient_id is None and (
        shares[0] > max(_FEWEST_KNOWN, shares[1]) or (max(shares) < _FEWEST_KNOWN and are_entrez(ids))
    )
    if len(set(ids)) < len(ids) and not by_genes:
        twice = next(name for i, name in enumerate(ids) if name in ids[:i])
        raise InputError(f"{path}: patient {twice!r} stands in two rows; one row a patient is wanted")
    values = np.empty((len(ids), len(genes)), dtype=np.float32)
    for i, gene in enumerate(genes):
        values[:, i] = table.column(gene).to_numpy()
    if by_genes:  # genes × samples, as most portals give them
        return Matrix(values.T.copy(), genes, ids), {}
    return Matrix(values, ids, genes), json.loads((table.schema.metadata or {}).get(_METADATA, b"{}"))
