"""Tables whose rows are not named after genes, such as microarray probes; a map from the user translates the names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from dmml.cohort.rna.genes.gene_mapping import entrez_number
from dmml.cohort.rna.genes.gene_names import is_gene, share_of_genes
from dmml.cohort.rna.other_measurements import meaning_of_suffix
from dmml.cohort.tables import MISSING, TextTable, open_table, open_text, read_rows
from dmml.errors import InputError

_PROBE_COLUMNS = (
    "probe",
    "ID",
    "ID_REF",
    "PROBE_ID",
    "Probe Set ID",
    "entrez",
    "Entrez_Gene_Id",
    "ENTREZID",
    "NCBI Gene ID",
)
_SYMBOL_COLUMNS = (
    "symbol", "Symbol", "Gene Symbol", "GENE_SYMBOL", "Gene symbol", "ILMN_Gene", "Hugo_Symbol", "SYMBOL", "Approved symbol",
)  # fmt: skip
_SEVERAL = re.compile(r"\s*(?:///|;|\|)\s*")
_TABLE = "!series_matrix_table_begin"


@dataclass
class ProbeMap:
    """Map from probes to gene symbols; probes of several genes are left out."""

    symbols: dict[str, str]
    """{probe: symbol}."""
    ambiguous: int
    """Number of probes that name several genes."""

    def rename(self, names: Sequence[str]) -> tuple[list[str | None], dict[str, int]]:
        """Look up the symbol of each name, None where there is none, and count the mapped and the dropped names."""
        symbols = [self.symbols.get(str(name).strip().removesuffix(".0")) for name in names]
        lost = sum(symbol is None for symbol in symbols)
        return symbols, {"probes_mapped": len(symbols) - lost, "probes_without_one_gene_dropped": lost}


def read_probe_map(path: str | Path) -> ProbeMap:
    """Read a platform's annotation, or any table of names and symbols.

    Args:
        path: Table with the columns `probe` (or ID, Entrez_Gene_Id, …) and `symbol` (or Gene Symbol, Hugo_Symbol, …);
            lines before the header that start with `#`, `^` or `!` are skipped.

    Raises:
        InputError: One of the columns is missing, or the symbols contain no known gene.
    """
    table = _annotation(Path(path))
    probe = next((name for name in _PROBE_COLUMNS if name in table.columns), None)
    symbol = next((name for name in _SYMBOL_COLUMNS if name in table.columns), None)
    if probe is None or symbol is None:
        raise InputError(
            f"{path}: a map of probes needs the columns probe and symbol (or ID and Gene Symbol of the platform's "
            f"annotation); there are: {', '.join(table.columns[:12])}"
        )
    symbols: dict[str, str] = {}
    ambiguous = 0
    for name, value in read_rows(table, [probe, symbol]).itertuples(index=False):
        if name is None or value is None:
            continue
        genes = list(dict.fromkeys(gene for gene in _SEVERAL.split(value) if gene))
        if len(genes) == 1:
            symbols[name.removesuffix(".0")] = genes[0]
        ambiguous += len(genes) > 1
    if not any(is_gene(gene) for gene in symbols.values()):
        raise InputError(
            f"{path}: no known gene in column {symbol!r}; give the platform's annotation with gene symbols"
        )
    return ProbeMap(symbols, ambiguous)


def is_series_matrix(table: TextTable) -> bool:
    """Whether a table begins like a GEO series matrix."""
    return table.columns[0].startswith("!")


def open_series_matrix(path: Path) -> tuple[TextTable, str]:
    """Find the table inside a GEO series matrix, and its platform.

    Raises:
        InputError: The file has no table.
    """
    platform = "unknown"
    with open_text(path) as text:
        for number, line in enumerate(text, start=1):
            if line.startswith("!Series_platform_id"):
                platform = line.split("\t")[1].strip().strip('"') if "\t" in line else platform
            if line.startswith(_TABLE):
                columns = [name.strip().strip('"') for name in text.readline().rstrip("\r\n").split("\t")]
                if len([name for name in columns if name]) < 2:
                    break
                return TextTable(path, "\t", number + 1, columns), platform
    raise InputError(f"{path}: a GEO series matrix without a table of values; fetch the series' expression data")


def series_values(table: TextTable) -> tuple[TextTable, pd.DataFrame]:
    """Read header and rows of a series matrix, without its end marker and the tabs that spreadsheets add to lines."""
    named = [name for name in table.columns if name]
    frame = read_rows(table, named, names=0)
    return replace(table, columns=named), frame[~frame.iloc[:, 0].astype(str).str.startswith("!")]


def unknown_names(path: Path, header: Sequence[str], rows: Sequence[str], platform: str | None = None) -> str:
    """Message about a table without gene names, with the likely cause and what to do."""
    names = [str(name).strip() for name in rows if str(name).strip().lower() not in MISSING]
    if platform:
        return (
            f"{path}: a GEO series matrix names probes of {platform} ({_examples(names)}), not genes; give "
            "--probes with the platform's annotation (columns ID and Gene Symbol)"
        )
    suffixes = _suffixes_of_genes(header)
    if suffix := next((suffix for suffix in suffixes if not meaning_of_suffix(suffix)), None):
        return (
            f"{path}: the columns of genes end with {suffix!r}; say so: --suffix {suffix} --patient-id COLUMN (in a "
            f"config: expression: {{path: …, suffix: {suffix}, patient_id: COLUMN}})"
        )
    if suffixes:
        held = " and ".join(f"{meaning_of_suffix(suffix)} (columns ending with {suffix!r})" for suffix in suffixes)
        return f"{path}: holds {held}, but no RNA; name a table of RNA, or leave expression out"
    for what, own in (("first column", names), ("header", [str(name) for name in header])):
        if len(own) > 1 and np.mean([entrez_number(name) is not None for name in own]) > 0.9:
            return (
                f"{path}: the {what} holds numbers ({_examples(own)}) that count up or are mostly no Entrez numbers of human "
                "genes; give a table with symbols, Ensembl ids or Entrez numbers, or --probes with the columns Entrez_Gene_Id "
                "and Hugo_Symbol"
            )
    return (
        f"{path}: no gene names recognised, neither in the header ({_examples(list(header))}) nor in the first "
        f"column ({_examples(names)}); symbols or Ensembl ids are wanted, or --probes with a table that maps them"
    )


def _suffixes_of_genes(header: Sequence[str]) -> list[str]:
    """Suffixes that turn genes into column names, such as `_rnaseq` in `TP53_rnaseq`, most frequent first."""
    ends = Counter(f"_{tail}" for name in header if (tail := str(name).rpartition("_")[2]) != name)
    found = []
    for suffix, count in ends.most_common(10):
        own = [str(name).removesuffix(suffix) for name in header if str(name).endswith(suffix)]
        if count > 1 and share_of_genes(own) > 0.5:
            found.append(suffix)
    return found


def _annotation(path: Path) -> TextTable:
    """Read the header of an annotation; before it, files from GEO have lines that start with `^` or `!`."""
    with open_text(path) as text:
        skipped = 0
        for line in text:
            if not line.startswith(("^", "!", "#")):
                break
            skipped += 1
        else:
            raise InputError(f"{path}: is empty; a table of probes and symbols is wanted")
    if not skipped:
        return open_table(path)
    separator = max("\t,;", key=line.count)
    return TextTable(
        path, separator, skipped + 1, [name.strip().strip('"') for name in line.rstrip("\r\n").split(separator)]
    )


def _examples(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(map(str, names[:count])) + (", …" if len(names) > count else "")
