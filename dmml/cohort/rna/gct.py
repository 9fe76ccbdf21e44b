"""GCT, the format of GenePattern, GTEx and the Broad: versions 1.2 and 1.3."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dmml.cohort.matrix import Matrix
from dmml.cohort.probes import ProbeMap
from dmml.cohort.rna.annotated_table import read_annotated
from dmml.cohort.tables import TextTable, open_text, read_rows
from dmml.errors import InputError


def is_gct(path: Path) -> bool:
    """Whether a file's first line names the format."""
    with open_text(path) as text:
        return text.readline().strip() in ("#1.2", "#1.3")


def read_gct(path: Path, probes: ProbeMap | None = None) -> Matrix:
    """Read the values; annotations of rows and, in version 1.3, of columns are skipped.

    Args:
        path: The file: its version, its numbers of rows and columns, its header, and the rows.
        probes: What the rows' names mean, where they are no genes.

    Raises:
        InputError: The second line does not hold these numbers, or see `read_annotated`.
    """
    with open_text(path) as text:
        version, sizes, header = (text.readline().rstrip("\r\n") for _ in range(3))
    numbers = sizes.split()
    if len(numbers) != (4 if version.strip() == "#1.3" else 2) or not all(number.isdigit() for number in numbers):
        raise InputError(
            f"{path}: a GCT file whose second line is {sizes!r}, not its numbers of rows and columns; fetch it again"
        )
    row_fields, column_fields = (int(numbers[2]), int(numbers[3])) if len(numbers) == 4 else (1, 0)
    # Lines that describe the samples follow the header in version 1.3.
    table = TextTable(path, "\t", 3 + column_fields, [name.strip().strip('"') for name in header.split("\t")])
    frame = read_rows(table, names=0)
    samples = list(range(1 + row_fields, len(table.columns)))
    matrix = read_annotated(table, frame, list(range(1 + row_fields)), samples, probes)
    return replace(matrix, unit=f"GCT {version.strip()[1:]}")
