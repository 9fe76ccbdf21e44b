"""Expression tables as parquet: one row per patient, one column per gene, provenance in the file's metadata."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dmml.cohort.rna.formats.matrix import Matrix
from dmml.cohort.rna.genes.gene_mapping import are_entrez
from dmml.cohort.rna.genes.gene_names import share_of_genes
from dmml.cohort.tables import TextTable
from dmml.errors import InputError

_METADATA = b"dmml"
_FEWEST_KNOWN = 0.2
_ID_COLUMNS = ("patient_id", "__index_level_0__")


def write_parquet(table: pd.DataFrame, provenance: Mapping[str, Any], out: Path) -> None:
    """Write the table, then its provenance to `<out>.json`; each file exists in full or not at all.

    Args:
        table: (patients × genes).
        provenance: Plain values; also stored in the parquet file, in case the two files get separated.
        out: Path of the parquet file.
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
        # Expression values hardly compress, and the statistics of a column would be larger than the column itself.
        pq.write_table(written, temporary, compression="none", use_dictionary=False, write_statistics=False)
        os.replace(temporary, out)
        temporary.write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, out.with_name(out.name + ".json"))
    finally:
        temporary.unlink(missing_ok=True)


def own_table(path: Path) -> tuple[Matrix, dict[str, Any]] | None:
    """Read a table that `write_parquet` wrote, and its provenance; None if another program wrote the file.

    Raises:
        InputError: The file does not exist, is not parquet, has no column of ids, or has a patient in two rows.
    """
    with _opened(path) as file:
        provenance = json.loads((file.schema_arrow.metadata or {}).get(_METADATA, b"{}"))
        if not provenance.get("scale"):
            return None
        table = file.read(use_threads=False)  # `pq.read_table` takes three times as long with many columns
    names = table.column_names
    if "patient_id" not in names:
        raise InputError(f"{path}: no column 'patient_id' any more; make it again with `dmml cohort expression`")
    ids = [str(name) for name in table.column("patient_id").to_pylist()]
    _refuse_twice(path, ids)
    genes = [name for name in names if name != "patient_id"]
    values = np.empty((len(ids), len(genes)), dtype=np.float32)
    for i, gene in enumerate(genes):
        values[:, i] = table.column(gene).to_numpy()
    return Matrix(values, ids, genes), provenance


def open_parquet(path: Path, patient_id: str | None = None) -> tuple[TextTable, pd.DataFrame]:
    """Open a table from another program, in the form that `read_matrix` takes: with the names in the first column.

    Args:
        path: The file.
        patient_id: Column of the patient ids; None for `patient_id`, else the index that pandas wrote, else the first
            column of text.

    Raises:
        InputError: The file does not exist, is not parquet, has no column of names, or is a table of patients with a
            patient in two rows.
    """
    import pyarrow as pa

    with _opened(path) as file:
        table = file.read(use_threads=False)
    frame = pd.DataFrame({i: table.column(i).to_pandas() for i in range(table.num_columns)})
    words = [
        name
        for name, kind in zip(table.column_names, table.schema.types, strict=True)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind)
    ]
    names = [str(name) for name in table.column_names]
    id_column = patient_id or next((name for name in (*_ID_COLUMNS, *words) if name in names), "patient_id")
    if id_column not in names:
        raise InputError(f"{path}: no column {id_column!r} with the patient ids; name it under expression: patient_id")
    first = names.index(id_column)
    order = [first, *(i for i in range(len(names)) if i != first)]
    frame, names = frame[order], [names[i] for i in order]
    frame[first] = frame[first].map(str, na_action="ignore")
    frame.columns = names
    if patient_id is not None or not are_genes(list(frame.iloc[:, 0].dropna())):
        _refuse_twice(path, list(frame.iloc[:, 0]))
    return TextTable(path, ",", 0, names), frame


def are_genes(names: list[str]) -> bool:
    """Whether names are genes, of which several rows may have the same name, and not patients."""
    return share_of_genes(names[:2000]) > _FEWEST_KNOWN or are_entrez(names)


def _opened(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with `dmml cohort expression INPUT… --out {path}`")
    try:
        return pq.ParquetFile(path)
    except PermissionError:
        raise InputError(f"{path}: may not be read; give yourself the right to") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: no parquet file ({str(error).splitlines()[0]}); make it again") from None


def _refuse_twice(path: Path, ids: list[str]) -> None:
    if len(set(ids)) < len(ids):
        twice = next(name for name, count in Counter(ids).items() if count > 1)
        raise InputError(f"{path}: patient {twice!r} stands in two rows; one row a patient is wanted")
