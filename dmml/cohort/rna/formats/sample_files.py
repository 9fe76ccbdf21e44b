"""Reads quantifications with one file per sample: RSEM, salmon, kallisto, StringTie, STAR and htseq-count."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dmml.cohort.rna.formats.rna_format import ReadOptions, SampleFileFormat
from dmml.cohort.rna.genes.gene_names import is_gene
from dmml.cohort.rna.genes.probes import ProbeMap
from dmml.cohort.rna.genes.summary_rows import kind_of_row
from dmml.cohort.rna.genes.transcripts import genes_of_targets
from dmml.cohort.rna.matrix import Matrix
from dmml.cohort.rna.samples.sample_names import name_of_file
from dmml.cohort.rna.samples.strandedness import count_column
from dmml.cohort.tables.text_files import open_text
from dmml.errors import InputError
from dmml.progress_bars import progress_bar

_MIN_SHARE_OF_GENES = 0.9  # of the median number in a cohort's files; with fewer, a file is regarded as truncated


@dataclass(frozen=True, eq=False)
class Quantification(SampleFileFormat):
    """The tab-separated format in which a program writes the quantification of one sample."""

    key: str
    title: str
    names: str
    """Column of the gene (or transcript) names."""
    columns: Mapping[str, str]
    """{scale: column}, with the default scale first."""
    fields: tuple[str, ...] = ()
    """Column names of a format without a header; empty for formats with a header."""

    folder_endings = (".tsv", ".txt", ".tab", ".sf", ".results", ".counts", ".count", ".out")

    def matches(self, path: Path) -> bool:
        """Whether the header of a file has the columns of the format."""
        fields = first_fields(path)
        return fields[0] == self.names and all(column in fields for column in self.columns.values())

    def read(self, paths: Sequence[Path], options: ReadOptions) -> Matrix:
        """Read the files of a cohort into one matrix.

        Returns:
            Matrix of the genes that all files have; transcripts are summed to genes.

        Raises:
            InputError: The format lacks the scale, a file is damaged, has far fewer genes than the others or holds
                transcripts of unknown genes, no gene is in all files, or two files are of one sample.
        """
        scale = options.scale or next(iter(self.columns))
        if scale not in self.columns:
            raise InputError(f"{paths[0]}: {self.title} gives {', '.join(self.columns)}, not {scale}; change --scale")
        tables = _read_all(self, paths, self.columns_to_read(scale), options.mapped_samples)
        column = self.choose_column(tables, scale)
        samples = _sum_by_gene({sample: table[column] for sample, table in tables.items()}, paths, options.probes)
        _check_numbers_of_genes(samples, paths)
        frame = pd.DataFrame(samples).T
        shared = frame.dropna(axis=1)
        if not shared.shape[1]:
            raise InputError(
                f"{paths[0].parent}: no gene is in all of the {len(paths)} files; use files of one gene model"
            )
        notes = {"genes_not_in_every_file_dropped": frame.shape[1] - shared.shape[1]}
        unit = f"{self.title}, column {column}"
        return Matrix(shared.to_numpy(np.float64), list(samples), list(shared.columns), notes, scale, unit)

    def columns_to_read(self, scale: str) -> list[str]:
        """Columns of numbers to read for a scale."""
        return [self.columns[scale]]

    def choose_column(self, tables: Mapping[str, pd.DataFrame], scale: str) -> str:
        """Choose the column to use, the same for all samples."""
        return self.columns[scale]


class _Rsem(Quantification):
    def matches(self, path: Path) -> bool:
        """As for other formats; a file of isoforms is refused."""
        fields = first_fields(path)
        if fields[0] == "transcript_id" and "IsoPct" in fields:
            raise InputError(
                f"{path}: holds isoforms; give the genes.results that RSEM also writes, in which they are summed to genes"
            )
        return super().matches(path)


class _Salmon(Quantification):
    def select(self, paths: list[Path]) -> list[Path]:
        """Leave out the transcripts of a sample that salmon has also summed to genes (`quant.genes.sf`)."""
        with_genes = {(path.parent, name_of_file(path)) for path in paths if _is_summed(path)}
        return [path for path in paths if _is_summed(path) or (path.parent, name_of_file(path)) not in with_genes]


class _StarReadsPerGene(Quantification):
    def matches(self, path: Path) -> bool:
        """Whether a file has four columns without header, and begins with STAR's summary or has STAR's name."""
        fields = first_fields(path)
        if len(fields) != 4 or not all(field.isdigit() for field in fields[1:]):
            return False
        return fields[0].startswith("N_") or (is_gene(fields[0]) and "ReadsPerGene.out.tab" in path.name)

    def columns_to_read(self, scale: str) -> list[str]:
        """All columns, since which strand counts is only known from the reads of all samples."""
        return list(self.fields[1:])

    def choose_column(self, tables: Mapping[str, pd.DataFrame], scale: str) -> str:
        """Both strands together, or one strand of a stranded library."""
        return count_column(tables.values())


class _HtseqCount(Quantification):
    def matches(self, path: Path) -> bool:
        """Whether a file has two columns without header, and the summary of htseq-count."""
        with open_text(path) as text:
            fields = _split(text.readline())
            if len(fields) != 2 or not fields[1].isdigit() or not (is_gene(fields[0]) or kind_of_row(fields[0])):
                return False
            return fields[0].startswith("__") or any(
                line.startswith(("__no_feature\t", "no_feature\t")) for line in text
            )


QUANTIFICATIONS: tuple[Quantification, ...] = (
    _Rsem("rsem_genes", "RSEM genes.results", "gene_id", {"tpm": "TPM", "counts": "expected_count", "fpkm": "FPKM"}),
    _Salmon("salmon", "salmon quant.sf", "Name", {"tpm": "TPM", "counts": "NumReads"}),
    Quantification("kallisto", "kallisto abundance.tsv", "target_id", {"tpm": "tpm", "counts": "est_counts"}),
    Quantification("stringtie", "StringTie gene abundances", "Gene ID", {"tpm": "TPM", "fpkm": "FPKM"}),
    _StarReadsPerGene(
        "star_reads_per_gene", "STAR ReadsPerGene.out.tab", "gene", {"counts": "unstranded"},
        ("gene", "unstranded", "forward", "reverse"),
    ),
    _HtseqCount("htseq_count", "htseq-count", "gene", {"counts": "count"}, ("gene", "count")),
)  # fmt: skip
"""The formats of programs that write one file per sample."""


def first_fields(path: Path) -> list[str]:
    """Fields of the first line of a tab-separated file.

    Raises:
        InputError: The file cannot be read.
    """
    with open_text(path) as text:
        return _split(text.readline())


def _split(line: str) -> list[str]:
    return [field.strip() for field in line.rstrip("\r\n").split("\t")]


def _is_summed(path: Path) -> bool:
    return ".genes." in f".{path.name}"


def _read_all(
    form: Quantification, paths: Sequence[Path], columns: list[str], mapped_samples: Container[str]
) -> dict[str, pd.DataFrame]:
    """Read {sample: numbers} of some columns; equal indexes are shared to save memory."""
    path_of: dict[str, Path] = {}
    for path in paths:
        sample = name_of_file(path, mapped_samples)
        if sample in path_of:
            raise InputError(
                f"{path}: is a second file of sample {sample!r}, after {path_of[sample]}; remove one of them, or rename one"
            )
        path_of[sample] = path
    tables: dict[str, pd.DataFrame] = {}
    names = None
    for sample, path in progress_bar(path_of.items(), form.title, unit="file", leave=True):
        table = _read_numbers(form, path)
        if names is not None and table.index.equals(names):
            table.index = names
        names = table.index
        tables[sample] = table[columns]
    return tables


def _read_numbers(form: Quantification, path: Path) -> pd.DataFrame:
    """Read the columns of numbers, indexed by gene or transcript name."""
    columns = list(form.fields[1:]) if form.fields else list(form.columns.values())
    options: dict[str, Any] = {
        "sep": "\t", "dtype": str, "keep_default_na": False, "index_col": False, "quoting": 3,
    }  # fmt: skip
    if form.fields:
        options |= {"header": None, "names": list(form.fields)}
    with open_text(path) as text:
        try:
            table = pd.read_csv(text, usecols=[form.names, *columns], **options)
        except (ValueError, pd.errors.ParserError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path}: cannot be read as {form.title} ({reason}); download it again") from None
    numbers = table[columns].apply(pd.to_numeric, errors="coerce").astype(float)
    is_wrong = ~(np.isfinite(numbers) & (numbers >= 0)).all(axis=1)
    if table.empty or is_wrong.any():
        problem = "no row"
        if not table.empty:
            problem = f"a row ({table.loc[is_wrong.idxmax(), form.names]!r}) whose values are not numbers of at least 0"
        raise InputError(
            f"{path}: {form.title} with {problem}; the file is incomplete or damaged, so download it again"
        )
    return numbers.set_axis(table[form.names].str.strip())


def _sum_by_gene(samples: dict[str, pd.Series], paths: Sequence[Path], probes: ProbeMap | None) -> dict[str, pd.Series]:
    """Sum the values by gene; names that files share are looked up only once."""
    sums: dict[str, pd.Series] = {}
    names: pd.Index | None = None
    genes = pd.Index([], dtype=object)
    for path, (sample, values) in zip(paths, samples.items(), strict=True):
        if values.index is not names:
            names, genes = values.index, pd.Index(genes_of_targets(list(values.index), path, probes), dtype=object)
        by_gene = values.set_axis(genes)
        sums[sample] = by_gene[by_gene.index.notna()].groupby(level=0, sort=False).sum()
    return sums


def _check_numbers_of_genes(samples: dict[str, pd.Series], paths: Sequence[Path]) -> None:
    median = float(np.median([len(values) for values in samples.values()]))
    for path, values in zip(paths, samples.values(), strict=True):
        if len(values) < _MIN_SHARE_OF_GENES * median:
            raise InputError(
                f"{path}: has {len(values)} genes, but the other files have {median:.0f}; it is incomplete or uses another "
                "gene model: download it again, or leave it out"
            )
