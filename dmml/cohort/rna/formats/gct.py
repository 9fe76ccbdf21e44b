"""Reads GCT, the format of GenePattern, GTEx and the Broad, in versions 1.2 and 1.3."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

from dmml.cohort.rna.formats.annotated_table import read_annotated
from dmml.cohort.rna.formats.rna_format import ReadOptions, TableFormat
from dmml.cohort.rna.matrix import Matrix
from dmml.cohort.rna.samples.normal_tissue import select_tumors
from dmml.cohort.rna.samples.tissue import describes_tissue
from dmml.cohort.tables.text_files import open_text
from dmml.cohort.tables.text_table import TextTable, read_rows
from dmml.errors import InputError

_MAX_COLUMN_FIELDS = 500  # maximum number of lines that describe the samples


class Gct(TableFormat):
    """Version, numbers of rows and columns, header and rows; version 1.3 also describes the samples, below the header."""

    key, title = "gct", "GCT"

    def matches(self, path: Path) -> bool:
        """Whether the first line of a file names the format."""
        with open_text(path) as text:
            return text.readline().strip() in ("#1.2", "#1.3")

    def read(self, path: Path, options: ReadOptions) -> Matrix:
        """Read the values of tumor samples; other annotations of rows and, in version 1.3, of columns are skipped.

        Raises:
            InputError: The second line does not hold the numbers of rows and columns, or no sample is of a tumor; see
                also `read_annotated`.
        """
        with open_text(path) as text:
            version, sizes, header = (text.readline().rstrip("\r\n") for _ in range(3))
            following = [line.rstrip("\r\n") for line in islice(text, _MAX_COLUMN_FIELDS)]
        numbers = sizes.split()
        if len(numbers) != (4 if version.strip() == "#1.3" else 2) or not all(number.isdigit() for number in numbers):
            raise InputError(
                f"{path}: the second line of a GCT file holds its numbers of rows and columns, but here it is {sizes!r}; "
                "download the file again"
            )
        row_fields, column_fields = (int(numbers[2]), int(numbers[3])) if len(numbers) == 4 else (1, 0)
        # In version 1.3, the header is followed by lines that describe the samples.
        table = TextTable(path, "\t", 3 + column_fields, [name.strip().strip('"') for name in header.split("\t")])
        frame = read_rows(table, names=0)
        samples = list(range(1 + row_fields, len(table.columns)))
        samples, dropped = _of_tumors(table, samples, [line.split("\t") for line in following[:column_fields]])
        matrix = read_annotated(table, frame, list(range(1 + row_fields)), samples, options.probes)
        skipped = {"other_columns_passed_by": row_fields}
        return replace(matrix, unit=f"GCT {version.strip()[1:]}", notes=matrix.notes | skipped | dropped)


def _of_tumors(table: TextTable, samples: list[int], lines: list[list[str]]) -> tuple[list[int], dict[str, int]]:
    """Positions of the samples that are not described as normal tissue or cell lines, and counts of the others."""
    fields = [[field.strip().strip('"') for field in line] for line in lines if len(line) == len(table.columns)]
    tissue_lines = [line for line in fields if describes_tissue(line[0], {line[i] for i in samples} - {"", "na", "NA"})]
    if not tissue_lines:
        return samples, {}
    kept, dropped = select_tumors(table, [" ".join(line[i] for line in tissue_lines) for i in samples])
    return [samples[i] for i in kept], dropped
