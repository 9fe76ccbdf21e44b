"""Reads the header of an RNA table, which may be in a line that begins with `#`, and detects a missing header."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from dmml.cohort.rna.genes.gene_names import is_gene, other_names, share_of_genes
from dmml.cohort.rna.genes.summary_rows import kind_of_row
from dmml.cohort.tables.separators import split_line
from dmml.cohort.tables.text_files import open_text
from dmml.cohort.tables.text_table import MISSING, TextTable, open_table
from dmml.errors import InputError

_NAME_COLUMNS = 3  # a gene's name is in one of the first columns
_MIN_SHARE_OF_GENES = 0.2
_NO_SYMBOL = re.compile(r"ENS[A-Z]*\d{11}(?:\.\d+)?|LOC\d+|(?:RP\d+|CT[ABCD])-\d+\w*\.\d+|hsa-\w+-.+")
"""Names of transcripts, loci, clones and microRNAs, which are neither gene symbols nor names of a column."""


def open_rna_table(path: str | Path) -> TextTable:
    """Read the header of an RNA table.

    Unlike `open_table`, this accepts a header in a line that begins with `#` if the first line without `#` holds
    values.

    Raises:
        InputError: The file does not exist, is not text, has a single column, or has no header.
    """
    table = open_table(path)
    if table.columns[0].startswith("!"):  # a GEO series matrix, whose table follows later in the file
        return table
    lines = _first_lines(table)
    if len(table.columns) == 1:
        raise InputError(
            f"{table.path}: has a single column ({table.columns[0][:60]!r}); separate its columns by tabs, commas, semicolons, "
            "or a single space as R's write.table does"
        )
    for line in reversed(lines[: table.header_line - 1]):
        names = _fields(line.lstrip("# "), table.separator) if line.startswith("#") else []
        if len(names) == len(table.columns) - 1:  # from R, without a name for the column of row names
            names = ["", *names]
        if len(names) == len(table.columns) > 2 and _is_header_behind_hash(names, table.columns):
            return replace(table, header_line=table.header_line - 1, columns=names)
    check_header(table)
    return table


def check_header(table: TextTable) -> None:
    """Refuse a table whose header is a row of values: its gene would be lost, and numbers would become sample names.

    Raises:
        InputError: The header consists of the name of a gene and numbers.
    """
    if is_row_of_a_gene(table.columns):
        raise _without_header(table)


def _without_header(table: TextTable) -> InputError:
    fields = ", ".join(map(repr, table.columns[:3])) + (", …" if len(table.columns) > 3 else "")
    return InputError(
        f"{table.path}: has no header: its first line ({fields}) is the row of a gene; add a first line that names the "
        "columns (gene, then the samples)"
    )


def check_sample_names(table: TextTable, name_column: int, samples: Sequence[str]) -> None:
    """Refuse a table of genes without a header, even if the name of its first gene is not recognised.

    Whole numbers and numbers such as `1.2` may be the names of samples.

    Args:
        table: Header of the table.
        name_column: Position of the column of gene names.
        samples: Sample names in the header.

    Raises:
        InputError: The names are numbers, and either most have several decimals, several are 0, or the header also
            contains the name of a transcript or locus.
    """
    if not all(map(_is_number, samples)):
        return
    decimals = sum(len(name.partition(".")[2]) > 1 for name in samples)
    zeros = sum(name.strip().lower() not in MISSING and float(name) == 0 for name in samples)
    if decimals > len(samples) / 2 or zeros > 1 or _NO_SYMBOL.fullmatch(table.columns[name_column]):
        raise _without_header(table)


def is_row_of_a_gene(fields: Sequence[str]) -> bool:
    """Whether a line has the name of a gene (or its Entrez number) followed mostly by numbers, unlike a header."""
    if len(fields) > 1 and fields[0] in other_names().entrez and all(map(_is_number, fields)):
        return True
    for i, field in enumerate(fields[:_NAME_COLUMNS]):
        if is_gene(field) or kind_of_row(field):
            following = [_is_number(other) for other in fields[i + 1 :]]
            return bool(following) and sum(following) >= len(following) / 2
    return False


def are_values(fields: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a header without gene names is really the row of a patient: an id and numbers.

    Numbers may also be sample names or Entrez numbers. They are regarded as values if they have decimals or repeat
    often, or if they follow an id of the same form as the ids of the rows (`TCGA-05-4249` above `TCGA-05-4250`).

    Args:
        fields: Fields of the header.
        names: First column of the rows.
    """
    rest = fields[1:]
    if not rest or not all(map(_is_number, rest)):
        return False
    if not all(map(_is_whole, rest)) or len(set(rest)) < 0.9 * len(rest):
        return True
    form = _form(fields[0])
    has_same_form = [_form(str(name)) == form for name in names[:20]]
    return "9" in form and sum(has_same_form) > len(has_same_form) / 2


def _form(name: str) -> str:
    """Replace each digit of a name by 9 and each letter by a."""
    return re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", name.strip()))


def _is_header_behind_hash(behind_hash: list[str], first_line: list[str]) -> bool:
    """Whether the line that begins with `#` is the header, and the first line without `#` holds values."""
    if is_row_of_a_gene(first_line):
        return not is_row_of_a_gene(behind_hash)
    has_values = all(map(_is_number, first_line[1:]))  # the row of a patient
    return has_values and share_of_genes(behind_hash[1:]) >= _MIN_SHARE_OF_GENES


def _first_lines(table: TextTable) -> list[str]:
    """Read the lines of the file up to and including the header."""
    with open_text(table.path) as text:
        return list(islice(text, table.header_line))


def _fields(line: str, separator: str) -> list[str]:
    return [field.strip() for field in split_line(line, separator)]


def _is_number(field: str) -> bool:
    if field.strip().lower() in MISSING:
        return field.strip() != ""
    try:
        float(field)
    except ValueError:
        return False
    return True


def _is_whole(field: str) -> bool:
    return field.strip().lower() in MISSING or float(field).is_integer()
