"""Reads columns of ids, and refuses rows that are not patients and ids that a spreadsheet or a program has damaged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from dmml.cohort.tables.text_table import TextTable
from dmml.errors import InputError

# A spreadsheet shortens long numbers to 2.02E+11 (or 2,02E+11); the plus sign distinguishes this from ids such as 12E3.
_SHORTENED = re.compile(r"\d([.,]\d+)?[eE]\+\d{2,}")
_ERROR = re.compile(r"#(NAME\?|REF!|VALUE!|DIV/0!|NUM!|NULL!|#+)")
_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DATE = re.compile(rf"\d{{1,2}}-{_MONTH}|{_MONTH}-\d{{2}}")  # what spreadsheets make of 3-12 and 12-45
_TWO_NUMBERS = re.compile(r"\d+-\d+")
_WHOLE_NUMBER = re.compile(r"(\d+)(\.0+)?")
_ID_COLUMNS = frozenset(
    "patient_id|patientid|patient id|case_id|case id|sample_id|bcr_patient_barcode|submitter_id".split("|")
)
_ID_WORD = re.compile(
    r"(patient|case|sample|subject|participant)?[ _.-]?(id|no|number|identifier|barcode)?[.:]?", re.IGNORECASE
)
_COUNTED = r"(n|number|patients?|cases|samples?|subjects?|rows?|events?|deaths?|days|months|time|age)"
# Labels of the rows of sums and means at the end of a table. `max`, `all` and `n` on their own may be patient ids.
_SUMMARY = re.compile(
    rf"((grand|sub|row|column)[ _-]?)?totals?([ _]((number )?of )?{_COUNTED})?|sums?([ _]of[ _]{_COUNTED})?"
    rf"|(mean|average|median)([ _](of[ _])?{_COUNTED})?|n ?= ?\d+|std|std[ _.]dev|standard deviation|count|counts"
    rf"|(na|nan|null|missing)[ _](counts?|values)|n[ _]missing|number of {_COUNTED}"
    rf"|summary|overall|all[ _]{_COUNTED}|summe|gesamt|mittelwert|anzahl|somme|moyenne|percent(age)?|σ|%",
)
_TRAILING = re.compile(r"\s*([(\[].*[)\]]|(?<=[a-z ])(±|\+/-) ?(sd|sem?|std)?|:[\s\d.,]*|(?<=.)n\s*=\s*\d+)?\s*$")
_MAX_LINES = 5  # lines that a message lists


def read_ids(table: TextTable, column: pd.Series, patients: bool = True) -> pd.Series:
    """Check that the ids of a column are intact, and return them.

    If every id is a whole number, as in a column that was once numeric, `1040.0` becomes `1040`.

    Args:
        table: Table of the column, for messages.
        column: Text, None where missing; its index is the one that `TextTable.line_of` takes.
        patients: Whether the ids are patients. For other ids, rows that repeat the header or sum up others are not
            checked.

    Raises:
        InputError: An id is damaged (see `check_damaged`), a row repeats the header or sums up others, or the column
            holds both `1040` and `1040.0`; the message gives the lines.
    """
    check_damaged(table.path, column, [f"line {table.line_of(index)}" for index in column.index])
    if patients:
        _check_rows(table, column)
    return _whole_numbers(table, column)


def check_damaged(path: object, ids: Iterable[str | None], locations: Sequence[str]) -> None:
    """Refuse ids that a spreadsheet has shortened or taken for a formula or a date, since several may then be equal.

    Dates are refused only if other ids look like `12-45`, which shows what the dates were.

    Args:
        path: Path of the table, for the message.
        ids: Ids of patients, samples or slides.
        locations: Location of each id in the file, such as `line 3`.

    Raises:
        InputError: An id is damaged; the message gives the locations.
    """
    plain = [(name or "").strip(" \"'=") for name in ids]
    damages = [
        (_SHORTENED, "a spreadsheet has shortened the number"),
        (_ERROR, "a spreadsheet shows this where a formula fails or a column is too narrow"),
    ]
    if any(map(_TWO_NUMBERS.fullmatch, plain)):
        damages.append((_DATE, "a spreadsheet has taken a number such as 3-12 for a date"))
    for damage, cause in damages:
        damaged = [f"{where}: {name!r}" for name, where in zip(plain, locations, strict=True) if damage.fullmatch(name)]
        if damaged:
            more = f", … ({len(damaged)} in all)" if len(damaged) > _MAX_LINES else ""
            raise InputError(
                f"{path}: {', '.join(damaged[:_MAX_LINES])}{more}: {cause}, so different ids may have become the same; "
                "format the column of ids as text, and export the table again"
            )


def _check_rows(table: TextTable, column: pd.Series) -> None:
    """Refuse rows that repeat the header or are a summary of others."""
    header = _ID_COLUMNS | {str(column.name).strip().casefold()}
    for index, name in column.dropna().items():
        plain = name.strip("\ufeff\"' ").casefold()  # concatenated files leave byte order marks inside the table
        word = _TRAILING.sub("", plain.strip("*=-–— ")).rstrip(". ")
        if plain in header:
            raise InputError(
                f"{table.path}: line {table.line_of(index)} repeats the header ({name!r} in {column.name!r}), as "
                "happens when tables are pasted below each other; delete the line"
            )
        if _SUMMARY.fullmatch(word):
            raise InputError(
                f"{table.path}: line {table.line_of(index)} is a summary, not a patient ({name!r} in {column.name!r}); "
                "delete the line"
            )


def check_repeated_header(table: TextTable, rows: pd.DataFrame, id_column: str) -> None:
    """Refuse a row that repeats the header in other words: `Patient` as an id, with `Grade` in the column `grade`.

    Each of the two could otherwise be an id or a class.

    Args:
        table: Table of the rows, for the message.
        rows: Text columns, None where missing; their index is the one that `TextTable.line_of` takes.
        id_column: Column of the patient ids.

    Raises:
        InputError: A row repeats the header; the message gives the line.
    """
    for index in rows.index[rows[id_column].map(lambda name: bool(name and _ID_WORD.fullmatch(name)))]:
        for column in rows.columns:
            value = rows.loc[index, column]
            if column != id_column and value is not None and _plain(value) == _plain(column):
                raise InputError(
                    f"{table.path}: line {table.line_of(index)} repeats the header ({value!r} in {column!r}), as happens when "
                    "tables are pasted below each other; delete the line"
                )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()


def _whole_numbers(table: TextTable, column: pd.Series) -> pd.Series:
    """Remove the `.0` of ids if all are whole numbers."""
    names = column.dropna()
    matches = names.map(_WHOLE_NUMBER.fullmatch)
    if not len(names) or matches.isna().any() or not names.str.contains(".", regex=False).any():
        return column
    whole = matches.map(lambda match: match[1])
    spellings = names.groupby(whole).nunique()
    if (spellings > 1).any():
        number = spellings.index[spellings > 1][0]
        both = names[whole == number].drop_duplicates()
        listed = " and ".join(f"{name!r} (line {table.line_of(index)})" for index, name in both.items())
        raise InputError(
            f"{table.path}: {listed} in {column.name!r} are the same number; write each id in one way only"
        )
    return whole.reindex(column.index).where(column.notna(), None)
