"""Sorts the files and folders that a user names by format."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dmml.cohort.rna.formats.registry import format_in_folder, format_of, titles_in_folders
from dmml.cohort.rna.formats.rna_format import RnaFormat, SampleFileFormat, TableFormat
from dmml.cohort.rna.formats.star_counts import STAR_COUNTS
from dmml.cohort.rna.formats.table_header import check_header
from dmml.cohort.tables.text_table import open_table
from dmml.errors import InputError

_TABLE_ENDINGS = (".txt", ".tsv", ".counts", ".tab")


@dataclass
class SortedInputs:
    """Input files, sorted by format."""

    sample_files: dict[SampleFileFormat, list[Path]] = field(default_factory=lambda: {STAR_COUNTS: []})
    """{format: files that hold one sample each}, STAR-counts files first."""
    tables: list[tuple[TableFormat, Path]] = field(default_factory=list)
    """Files that hold many samples each."""
    ignored: int = 0
    """Number of other files in folders, which are ignored."""

    def add(self, form: RnaFormat, paths: list[Path]) -> None:
        """Add files of one format."""
        if isinstance(form, SampleFileFormat):
            self.sample_files.setdefault(form, []).extend(paths)
        elif isinstance(form, TableFormat):
            self.tables += [(form, path) for path in paths]


def sort_inputs(paths: list[Path]) -> SortedInputs:
    """Find the format of each file, and search folders for files of one sample and tables of known programs.

    Raises:
        InputError: A file is missing or not text, a folder holds no RNA, or a file holds isoforms.
    """
    inputs = SortedInputs()
    for path in paths:
        if path.is_dir():
            _add_folder(inputs, path)
        else:
            inputs.add(format_of(path), [path])
    return inputs


def _add_folder(inputs: SortedInputs, folder: Path) -> None:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    by_format: dict[RnaFormat, list[Path]] = {}
    for path in files:
        if form := format_in_folder(path):
            by_format.setdefault(form, []).append(path)
    selected = {
        form: form.select(paths) if isinstance(form, SampleFileFormat) else paths for form, paths in by_format.items()
    }
    if not selected:
        _check_headers(files)
        raise InputError(
            f"{folder}: contains no RNA file of a format that is recognised in folders ({titles_in_folders()}); name other "
            "tables by their paths"
        )
    for form, paths in selected.items():
        inputs.add(form, paths)
    inputs.ignored += len(files) - sum(map(len, selected.values()))


def _check_headers(files: list[Path]) -> None:
    """Refuse a folder with a table that has no header: without HTSeq's summary, its format cannot be recognised."""
    for path in files:
        if path.name.lower().removesuffix(".gz").endswith(_TABLE_ENDINGS):
            try:
                table = open_table(path)
            except InputError:
                continue
            check_header(table)
