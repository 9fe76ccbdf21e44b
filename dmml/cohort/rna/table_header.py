"""The header of an RNA table: behind tabs, commas, semicolons or R's single spaces, behind `#`, or missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from dmml.cohort.gene_names import is_gene, other_names, share_of_genes
from dmml.cohort.rna.summary_rows import kind_of_row
from dmml.cohort.separator import split_line
from dmml.cohort.tables import MISSING, TextTable, open_table, open_text
from dmml.errors import InputError

_NAME_COLUMNS = 3  # a gene's name is in one of the first columns
_MIN_SHARE_OF_GENES = 0.2
_NO_SYMBOL = re.compile(r"ENS[A-Z]*\d{11}(?:\.\d+)?|LOC\d+|(?:RP\d+|CT[ABCD])-\d+\w*\.\d+|hsa-\w+-.+")
"""Names of transcripts, loci, clones and microRNAs, which are no symbols and no name of a column either"""


def open_rna_table(path: str | Path) -> TextTable:
    """Read the header of an RNA table.

    Beyond what `open_table` reads: a header in a line that begins with `#`, where the first line without `#` holds values.

    Raises:
        InputError: There is no such file, it is not text, it has a single column, or it has no header.
    """
    table = open_table(path)
    if table.columns[0].startswith("!"):  # a series matrix of GEO, which has its table further down
        return table
    lines = _first_lines(table)
    if len(table.columns) == 1:
        raise InputError(
            f"{table.path}: has a single column ({table.columns[0][:60]!r}); separate columns by tabs, commas, semicolons, or "
            "a single space as R's write.table does"
        )
    for line in reversed(lines[: table.header_line - 1]):
        names = _fields(line.lstrip("# "), table.separator) if line.startswith("#") else []
        if len(names) == len(table.columns) - 1:  # R's, which has no name above those of the rows
            names = ["", *names]
        if len(names) == len(table.columns) > 2 and _is_header_behind_hash(names, table.columns):
            return replace(table, header_line=table.header_line - 1, columns=names)
    check_header(table)
    return table


def check_header(table: TextTable) -> None:
    """Refuse a table whose header is a row of values: the first gene would be lost, and patients would have numbers as ids.

    Raises:
        InputError: The header holds the name of a gene and numbers.
    """
    if is_row_of_a_gene(table.columns):
        raise _without_header(table)


def _without_header(table: TextTable) -> InputError:
    shown = ", ".join(map(repr, table.columns[:3])) + (", …" if len(table.columns) > 3 else "")
    return InputError(
        f"{table.path}: has no header: its first line ({shown}) is the row of a gene; add a first line that names the "
        "columns (gene, then the samples)"
    )


def check_sample_names(table: TextTable, name_column: int, samples: Sequence[str]) -> None:
    """Refuse a table of genes without a header, whose first gene is none that dmml knows.

    Whole numbers and numbers such as `1.2` may well be the names of samples.

    Args:
        table: Its header.
        name_column: Position of the genes' names.
        samples: What the header holds above the samples.

    Raises:
        InputError: These are numbers, and most have several decimals, several are 0, or they stand beside a gene.
    """
    if not all(map(_is_number, samples)):
        return
    decimals = sum(len(name.partition(".")[2]) > 1 for name in samples)
    zeros = sum(name.strip().lower() not in MISSING and float(name) == 0 for name in samples)
    if decimals > len(samples) / 2 or zeros > 1 or _NO_SYMBOL.fullmatch(table.columns[name_column]):
        raise _without_header(table)


def is_row_of_a_gene(fields: Sequence[str]) -> bool:
    """Whether a line holds the name of a gene (or its Entrez number) and then mostly numbers, as no header does."""
    if len(fields) > 1 and fields[0] in other_names().entrez and all(map(_is_number, fields)):
        return True
    for i, field in enumerate(fields[:_NAME_COLUMNS]):
        if is_gene(field) or kind_of_row(field):
            following = [_is_number(other) for other in fields[i + 1 :]]
            return bool(following) and sum(following) >= len(following) / 2
    return False


def are_values(fields: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a header without gene names is the row of a patient: an id and numbers.

    Numbers alone may be sample names or Entrez numbers. They are taken for values if they have decimals or repeat often, or
    if they follow an id of the same form as the ids of the rows (`TCGA-05-4249` above `TCGA-05-4250`).

    Args:
        fields: The header.
        names: The first column of the rows.
    """
    rest = fields[1:]
    if not rest or not all(map(_is_number, rest)):
        return False
    if not all(map(_is_whole, rest)) or len(set(rest)) < 0.9 * len(rest):
        return True
    form = _form(fields[0])
    same = [_form(str(name)) == form for name in names[:20]]
    return "9" in form and sum(same) > len(same) / 2


def _form(name: str) -> str:
    """A name with a 9 for each digit and an a for each other letter."""
    return re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", name.strip()))


def _is_header_behind_hash(behind_hash: list[str], first_line: list[str]) -> bool:
    """Whether the line behind `#` is the header and the first line without it holds values."""
    if is_row_of_a_gene(first_line):
        return not is_row_of_a_gene(behind_hash)
    has_values = all(map(_is_number, first_line[1:]))  # the row of a patient
    return has_values and share_of_genes(behind_hash[1:]) >= _MIN_SHARE_OF_GENES


def _first_lines(table: TextTable) -> list[str]:
    """Lines of the file up to the header."""
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
