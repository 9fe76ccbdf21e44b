"""Reads gene quantifications of the GDC: one STAR-counts file per sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
from dmml.cohort.rna.formats.rna_format import ReadOptions, SampleFileFormat
from dmml.cohort.rna.genes.gene_mapping import GeneMapping
from dmml.cohort.rna.genes.gene_names import current_symbol, gene_symbol
from dmml.cohort.rna.genes.summary_rows import COUNTS, SUMMARY, kind_of_row
from dmml.cohort.rna.symbol_table import SymbolTable
from dmml.cohort.tables.text_files import open_text
from dmml.errors import InputError
from dmml.progress_bars import progress_bar

COLUMNS = {"tpm": "tpm_unstranded", "counts": "unstranded", "fpkm": "fpkm_unstranded"}
_LAST_COLUMN = "fpkm_uq_unstranded"
_KEPT_TYPES = r"protein_coding|(?:IG|TR)_[CDJV]_gene"
_ENDINGS = (".tsv", ".txt", ".tsv.gz", ".txt.gz")


@dataclass
class StarCounts:
    """Gene values of one sample, read from its STAR-counts file."""

    sample: str
    """File name up to its first dot."""
    values: pd.Series
    """float64, indexed by unique gene symbols."""
    notes: dict[str, int]
    """{reason: number of rows that were merged or dropped}."""
    genes: GeneMapping
    """Genes that were renamed, merged, or dropped for lack of a symbol; those of dropped gene types are not listed."""


class StarCountsFiles(SampleFileFormat):
    """Gene quantifications as downloaded from the GDC."""

    key, title = "star_counts", "STAR-counts"
    folder_endings = (".tsv", ".txt")

    def matches(self, path: Path) -> bool:
        """Whether a file is a STAR-counts file, see `is_star_counts`."""
        return is_star_counts(path)

    def read(self, paths: Sequence[Path], options: ReadOptions) -> SymbolTable:
        """Read the files of a cohort; the files name the symbols and hold all scales.

        Raises:
            InputError: See `read_star_counts` and `combine`.
        """
        scale = options.scale or "tpm"
        progress = progress_bar(paths, "STAR-counts", unit="file", leave=True)
        samples = (read_star_counts(path, scale, options.all_genes) for path in progress)
        table, notes, genes = combine(samples, str(paths[0].parent))
        return SymbolTable(table, scale, notes, genes, "STAR-counts of the GDC")


STAR_COUNTS = StarCountsFiles()


def is_star_counts(path: Path) -> bool:
    """Whether a file begins like a STAR-counts file of the GDC (its comment line, if any, and its header)."""
    if not path.name.lower().endswith(_ENDINGS):
        return False
    try:
        with open_text(path) as text:
            first = text.readline()
            header = text.readline() if first.startswith("# gene-model") else first
    except InputError:
        return False
    return header.startswith("gene_id\tgene_name\tgene_type\t")


def find_star_counts(folder: Path) -> tuple[list[Path], int]:
    """Find STAR-counts files in a folder and its subfolders (gdc-client makes one per file); count the other files."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    star_counts = [path for path in files if is_star_counts(path)]
    return star_counts, len(files) - len(star_counts)


def read_star_counts(path: Path, scale: str = "tpm", all_genes: bool = False) -> StarCounts:
    """Read one file; the counting summary (`N_…`) is dropped, and rows of one symbol are summed.

    Pseudo-autosomal genes have two rows, the one on Y marked `_PAR_Y`, and some symbols have several Ensembl ids. Their
    transcripts share one name, so their TPM add up. For a row without a name, the symbol is looked up in the index.

    Args:
        path: The file.
        scale: Which values to read: `tpm`, `counts` or `fpkm`.
        all_genes: Keep every gene. Otherwise only protein-coding genes, genes of immune receptors and those of the
            shipped sets are kept: a third of the 60,000, and all that gene sets usually name.

    Raises:
        InputError: The file lacks the column, is truncated, or has a value that is not a number.
    """
    if scale not in COLUMNS:
        raise InputError(f"{path}: STAR-counts files give {', '.join(COLUMNS)}, not {scale}; change --scale")
    table = _read_columns(path, ["gene_id", "gene_name", "gene_type", COLUMNS[scale]])
    kinds = table["gene_id"].map(kind_of_row)
    genes = table[kinds.isna()]
    numbers = _numbers(path, genes, COLUMNS[scale])
    symbols = [
        current_symbol(name) if name else gene_symbol(identifier)
        for identifier, name in zip(genes["gene_id"], genes["gene_name"], strict=True)
    ]
    values = pd.Series(numbers.to_numpy(float), index=pd.Index(symbols, name="gene"))
    is_usual_type = genes["gene_type"].str.fullmatch(_KEPT_TYPES).to_numpy() | values.index.isin(_shipped_genes())
    is_kept = np.ones(len(values), dtype=bool) if all_genes else is_usual_type
    kept = values[is_kept]
    with_symbol = kept[kept.index.notna()]
    merged = with_symbol.groupby(level=0, sort=True).sum()
    mapping = _map_genes(genes[is_kept], symbols=list(kept.index))
    notes = {
        **{
            count: int((kinds == kind).sum())
            for kind, count in COUNTS.items()
            if kind == SUMMARY or (kinds == kind).any()
        },
        "par_y_rows_summed": int(table["gene_id"].str.endswith("_PAR_Y").sum()),
        "symbols_renamed": len(mapping.renamed),
        "rows_merged_into_a_symbol": len(with_symbol) - len(merged),
        "rows_of_other_gene_types_dropped": len(values) - len(kept),
        "rows_without_symbol_dropped": len(kept) - len(with_symbol),
    }
    return StarCounts(path.name.split(".")[0], merged, notes, mapping)


def _read_columns(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read columns of a file as text, and its last column, which shows whether the last line is complete."""
    with open_text(path) as text:
        try:
            table = pd.read_csv(
                text,
                usecols=lambda name: name in {*columns, _LAST_COLUMN},
                sep="\t",
                comment="#",
                dtype=str,
                keep_default_na=False,
            )
        except (ValueError, pd.errors.ParserError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path}: is not a STAR-counts file ({reason}); download it again") from None
    if missing := [name for name in columns if name not in table]:
        raise InputError(f"{path}: is not a STAR-counts file (no column {missing[0]}); download it again")
    return table


def _numbers(path: Path, genes: pd.DataFrame, column: str) -> pd.Series:
    """Numbers of a column of a file, which must be complete."""
    if _LAST_COLUMN in genes and len(genes) and not genes[_LAST_COLUMN].iloc[-1]:
        raise InputError(f"{path}: its last line is incomplete, so the file was cut off; download it again")
    numbers = pd.to_numeric(genes[column], errors="coerce")
    is_wrong = ~(np.isfinite(numbers) & (numbers >= 0))
    if genes.empty or is_wrong.any():
        problem = "no gene"
        if not genes.empty:
            problem = f"the value of gene {genes['gene_id'][is_wrong].iloc[0]!r} is not a number of at least 0"
        raise InputError(
            f"{path}: {problem} in column {column}; the file is incomplete or damaged, so download it again"
        )
    return numbers


def _map_genes(rows: pd.DataFrame, symbols: list[str | None]) -> GeneMapping:
    """List dropped and merged genes by Ensembl id, since names repeat, and renamed genes by name."""
    members: dict[str, list[str]] = {}
    mapping = GeneMapping()
    for identifier, name, symbol in zip(rows["gene_id"], rows["gene_name"], symbols, strict=True):
        if symbol is None or symbol != symbol:
            mapping.dropped.setdefault("unknown Ensembl id", []).append(identifier)
            continue
        members.setdefault(symbol, []).append(identifier)
        if name and name != symbol:
            mapping.renamed[name] = symbol
    mapping.merged = {symbol: names for symbol, names in members.items() if len(names) > 1}
    return mapping


@cache
def _shipped_genes() -> frozenset[str]:
    return frozenset(gene for programs in read_gene_sets().values() for gene in genes_of(programs))


def combine(samples: Iterable[StarCounts], source: str) -> tuple[pd.DataFrame, dict[str, int], GeneMapping]:
    """Combine samples into one table.

    Returns:
        (samples × genes) float32 with the genes that all samples have; the maximum of each note over the samples; and
        the genes that were renamed, merged or dropped in any sample.

    Raises:
        InputError: Two files have the same sample name, or no gene is in all of them.
    """
    columns: dict[str, pd.Series] = {}
    notes: dict[str, int] = {}
    mappings: list[GeneMapping] = []
    for sample in samples:
        if sample.sample in columns:
            raise InputError(f"{source}: two files are of sample {sample.sample!r}; remove one of them, or rename one")
        columns[sample.sample] = sample.values.astype("float32")
        for reason, count in sample.notes.items():
            notes[reason] = max(notes.get(reason, 0), count)
        if sample.genes not in mappings[-1:]:  # equal for files of one gene model
            mappings.append(sample.genes)
    table = pd.DataFrame(columns).T
    complete = table.dropna(axis=1)
    if complete.shape[1] == 0:
        raise InputError(f"{source}: no gene is in all of the {len(table)} files; use files of one gene model")
    notes["genes_not_in_every_file_dropped"] = table.shape[1] - complete.shape[1]
    return complete, notes, GeneMapping.combine(mappings)
