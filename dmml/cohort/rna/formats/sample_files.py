"""Reads quantifications with one file per sample: RSEM, salmon, kallisto, StringTie, STAR and htseq-count."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from dmml.cohort.rna.formats.matrix import Matrix
from dmml.cohort.rna.formats.strandedness import count_column
from dmml.cohort.rna.genes.gene_names import is_gene
from dmml.cohort.rna.genes.probes import ProbeMap
from dmml.cohort.rna.genes.summary_rows import kind_of_row
from dmml.cohort.rna.genes.transcripts import genes_of_targets
from dmml.cohort.rna.samples.sample_names import name_of_file
from dmml.cohort.tables import open_text
from dmml.errors import InputError

_MIN_SHARE_OF_GENES = 0.9  # of the median number in a cohort's files; with fewer, a file is regarded as truncated


@dataclass(frozen=True, eq=False)
class SampleFormat:
    """The tab-separated format in which a program writes the quantification of one sample."""

    key: str
    """Name of the format in the provenance."""
    title: str
    """Name of the format in messages."""
    names: str
    """Column of the gene (or transcript) names."""
    columns: dict[str, str]
    """{scale: column}, with the default scale first."""
    fields: tuple[str, ...] = ()
    """Column names of a format without a header; empty for formats with a header."""


RSEM = SampleFormat(
    "rsem_genes", "RSEM genes.results", "gene_id", {"tpm": "TPM", "counts": "expected_count", "fpkm": "FPKM"}
)
SALMON = SampleFormat("salmon", "salmon quant.sf", "Name", {"tpm": "TPM", "counts": "NumReads"})
KALLISTO = SampleFormat("kallisto", "kallisto abundance.tsv", "target_id", {"tpm": "tpm", "counts": "est_counts"})
STRINGTIE = SampleFormat("stringtie", "StringTie gene abundances", "Gene ID", {"tpm": "TPM", "fpkm": "FPKM"})
STAR = SampleFormat(
    "star_reads_per_gene", "STAR ReadsPerGene.out.tab", "gene", {"counts": "unstranded"},
    ("gene", "unstranded", "forward", "reverse"),
)  # fmt: skip
HTSEQ = SampleFormat("htseq_count", "htseq-count", "gene", {"counts": "count"}, ("gene", "count"))
_WITH_HEADER = (RSEM, SALMON, KALLISTO, STRINGTIE)
_ENDINGS = (".tsv", ".txt", ".tab", ".sf", ".results", ".counts", ".count", ".out")


def sample_format(path: Path) -> SampleFormat | None:
    """Recognise the format of a file of one sample; None for other files.

    htseq-count and STAR write no header. Files of htseq-count are recognised by the summary at their end, those of
    STAR by their name or by the summary at their beginning.

    Raises:
        InputError: The file cannot be read, or it holds isoforms or a summary, while another file of the program
            holds the genes.
    """
    with open_text(path) as text:
        fields = [field.strip() for field in text.readline().rstrip("\r\n").split("\t")]
        if fields[0] == "transcript_id" and "IsoPct" in fields:
            raise InputError(
                f"{path}: holds isoforms; give the file genes.results that RSEM writes beside it, which sums them to genes"
            )
        if fields[0] == "Status" and text.readline().startswith("Assigned\t"):
            raise InputError(f"{path}: is featureCounts' summary of reads; give the table of counts beside it")
        for form in _WITH_HEADER:
            if fields[0] == form.names and all(column in fields for column in form.columns.values()):
                return form
        if len(fields) == 4 and all(field.isdigit() for field in fields[1:]):
            star = fields[0].startswith("N_") or (is_gene(fields[0]) and "ReadsPerGene.out.tab" in path.name)
            return STAR if star else None
        if len(fields) == 2 and fields[1].isdigit() and (is_gene(fields[0]) or kind_of_row(fields[0])):
            with_summary = any(line.startswith(("__no_feature\t", "no_feature\t")) for line in text)
            return HTSEQ if with_summary or fields[0].startswith("__") else None
    return None


def find_sample_files(folder: Path) -> dict[SampleFormat, list[Path]]:
    """Find files of one sample in a folder and its subfolders: {format: sorted files}.

    If salmon has summed a sample to genes (`quant.genes.sf`), the file of its transcripts is left out.
    """
    found: dict[SampleFormat, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if not path.name.lower().removesuffix(".gz").endswith(_ENDINGS) or not path.is_file():
            continue
        try:
            form = sample_format(path)
        except InputError:
            continue
        if form:
            found.setdefault(form, []).append(path)
    if paths := found.get(SALMON):
        genes = {(path.parent, name_of_file(path)) for path in paths if _is_summed(path)}
        found[SALMON] = [path for path in paths if _is_summed(path) or (path.parent, name_of_file(path)) not in genes]
    return found


def _is_summed(path: Path) -> bool:
    return ".genes." in f".{path.name}"


def read_sample_files(
    form: SampleFormat,
    paths: Sequence[Path],
    scale: str | None,
    probes: ProbeMap | None = None,
    in_map: Container[str] = (),
) -> Matrix:
    """Read the files of one format into one matrix.

    Args:
        form: Format of the files.
        paths: The files, one per sample.
        scale: `tpm`, `counts` or `fpkm`, if the format has it; None for its default.
        probes: Map from transcripts to genes, for files whose transcript names do not include the gene.
        in_map: Names in the patient map (see `name_of_file`).

    Returns:
        Matrix of the genes that all files have; transcripts are summed to genes.

    Raises:
        InputError: The format lacks the scale, a file is damaged, has far fewer genes than the others or holds
            transcripts of unknown genes, no gene is in all files, or two files are of one sample.
    """
    scale = scale or next(iter(form.columns))
    if scale not in form.columns:
        have = ", ".join(form.columns)
        raise InputError(f"{paths[0]}: {form.title} gives {have}, not {scale}; change --scale")
    tables = _read_all(form, paths, None if form is STAR else form.columns[scale], in_map)
    column = count_column(tables.values()) if form is STAR else form.columns[scale]
    samples = _by_gene({sample: table[column] for sample, table in tables.items()}, paths, probes)
    _check_sizes(samples, paths)
    frame = pd.DataFrame(samples).T
    shared = frame.dropna(axis=1)
    if not shared.shape[1]:
        raise InputError(
            f"{paths[0].parent}: no gene is in all of the {len(paths)} files; they are of different gene models"
        )
    notes = {"genes_not_in_every_file_dropped": frame.shape[1] - shared.shape[1]}
    return Matrix(
        shared.to_numpy(np.float64),
        list(samples),
        list(shared.columns),
        notes,
        scale,
        f"{form.title}, column {column}",
    )


def _read_all(
    form: SampleFormat, paths: Sequence[Path], column: str | None, in_map: Container[str]
) -> dict[str, pd.DataFrame]:
    """Read {sample: numbers} of one column, or of all if it is None; equal indexes are shared to save memory."""
    samples: dict[str, Path] = {}
    for path in paths:
        sample = name_of_file(path, in_map)
        if sample in samples:
            raise InputError(
                f"{path}: a second file of the sample {sample!r} (beside {samples[sample]}); remove one, or give each its name"
            )
        samples[sample] = path
    tables: dict[str, pd.DataFrame] = {}
    names = None
    for sample, path in tqdm(samples.items(), desc=form.title, unit="file", disable=None):
        table = _read(form, path)
        if names is not None and table.index.equals(names):
            table.index = names
        names = table.index
        tables[sample] = table if column is None else table[[column]]
    return tables


def _read(form: SampleFormat, path: Path) -> pd.DataFrame:
    """Read the columns of numbers, indexed by gene or transcript name."""
    wanted = [*form.columns.values()] if not form.fields else [*form.fields[1:]]
    options = {"sep": "\t", "dtype": str, "keep_default_na": False, "index_col": False, "quoting": 3}
    if form.fields:
        options |= {"header": None, "names": list(form.fields)}
    with open_text(path) as text:
        try:
            table = pd.read_csv(text, usecols=[form.names, *wanted], **options)
        except (ValueError, pd.errors.ParserError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path}: cannot be read as {form.title} ({reason}); fetch it again") from None
    numbers = table[wanted].apply(pd.to_numeric, errors="coerce").astype(float)
    wrong = ~(np.isfinite(numbers) & (numbers >= 0)).all(axis=1)
    if table.empty or wrong.any():
        where = "no row" if table.empty else f"{table.loc[wrong.idxmax(), form.names]!r} without a number from 0 on"
        raise InputError(f"{path}: {form.title} with {where}; the file is cut off or damaged, fetch it again")
    return numbers.set_axis(table[form.names].str.strip())


def _by_gene(samples: dict[str, pd.Series], paths: Sequence[Path], probes: ProbeMap | None) -> dict[str, pd.Series]:
    """Sum the values by gene; names that files share are looked up only once."""
    summed, names, genes = {}, None, None
    for path, (sample, values) in zip(paths, samples.items(), strict=True):
        if values.index is not names:
            names, genes = values.index, pd.Index(genes_of_targets(list(values.index), path, probes), dtype=object)
        named = values.set_axis(genes)
        summed[sample] = named[named.index.notna()].groupby(level=0, sort=False).sum()
    return summed


def _check_sizes(samples: dict[str, pd.Series], paths: Sequence[Path]) -> None:
    usual = float(np.median([len(values) for values in samples.values()]))
    for path, values in zip(paths, samples.values(), strict=True):
        if len(values) < _MIN_SHARE_OF_GENES * usual:
            raise InputError(
                f"{path}: has {len(values)} genes, where the other files have {usual:.0f}; it is cut off or of another gene "
                "model: fetch it again, or leave it out"
            )
