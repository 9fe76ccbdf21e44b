"""Sorts the files and folders that a user names by format."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dmml.cohort.rna.formats.feature_counts import is_feature_counts
from dmml.cohort.rna.formats.sample_files import SampleFormat, find_sample_files, sample_format
from dmml.cohort.rna.formats.star_counts import find_star_counts, is_star_counts
from dmml.cohort.rna.formats.table_header import check_header
from dmml.cohort.tables import open_table
from dmml.errors import InputError

_FOLDER_FORMATS = (
    "STAR-counts, STAR ReadsPerGene.out.tab, htseq-count, RSEM genes.results, salmon, kallisto, featureCounts"
)


@dataclass
class SortedInputs:
    """Input files, sorted by format."""

    star_counts: list[Path] = field(default_factory=list)
    samples: dict[SampleFormat, list[Path]] = field(default_factory=dict)
    """{format: files that hold one sample each}."""
    matrices: list[Path] = field(default_factory=list)
    ignored: int = 0
    """Number of other files in folders, which are ignored."""


def sort_inputs(paths: list[Path]) -> SortedInputs:
    """Sort files into files of one sample and matrices, and search folders for both.

    Raises:
        InputError: A file is missing or not text, a folder holds no RNA, or a file holds isoforms.
    """
    inputs = SortedInputs()
    for path in paths:
        if path.is_dir():
            _add_folder(inputs, path)
        elif path.suffix == ".parquet":
            inputs.matrices.append(path)
        elif is_star_counts(path):
            inputs.star_counts.append(path)
        elif known := sample_format(path):
            inputs.samples.setdefault(known, []).append(path)
        else:
            open_table(path)  # refuses a file that is not a table before any table is read
            inputs.matrices.append(path)
    return inputs


def _add_folder(inputs: SortedInputs, folder: Path) -> None:
    star, other = find_star_counts(folder)
    samples = find_sample_files(folder)
    known = {*star, *(path for files in samples.values() for path in files)}
    matrices = [path for path in _texts(folder) if path not in known and _is_feature_counts(path)]
    found = len(star) + len(matrices) + sum(map(len, samples.values()))
    if not found:
        _refuse_headerless(folder)
        raise InputError(
            f"{folder}: no STAR-counts file in this folder, nor another file of one sample that dmml knows ({other} other "
            f"files; it knows {_FOLDER_FORMATS}); name a matrix by its path"
        )
    inputs.star_counts += star
    inputs.matrices += matrices
    for form, files in samples.items():
        inputs.samples.setdefault(form, []).extend(files)
    inputs.ignored += len(star) + other - found


def _refuse_headerless(folder: Path) -> None:
    """Refuse a folder if it has a table without header; without HTSeq's summary, its format cannot be recognised."""
    for path in _texts(folder):
        try:
            table = open_table(path)
        except InputError:
            continue
        check_header(table)


def _texts(folder: Path) -> list[Path]:
    endings = (".txt", ".tsv", ".counts", ".tab")
    return [path for path in sorted(folder.rglob("*")) if path.name.lower().removesuffix(".gz").endswith(endings)]


def _is_feature_counts(path: Path) -> bool:
    try:
        return path.is_file() and is_feature_counts(open_table(path))
    except InputError:
        return False
