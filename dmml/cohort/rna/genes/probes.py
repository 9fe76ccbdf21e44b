"""Maps row names that are not genes, such as probes of a microarray, to symbols by a table of the user."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dmml.cohort.rna.genes.gene_names import is_gene
from dmml.cohort.tables.text_files import open_text
from dmml.cohort.tables.text_table import TextTable, open_table, read_rows
from dmml.errors import InputError

_PROBE_COLUMNS = (
    "probe", "ID", "ID_REF", "PROBE_ID", "Probe Set ID", "entrez", "Entrez_Gene_Id", "ENTREZID", "NCBI Gene ID",
)  # fmt: skip
_SYMBOL_COLUMNS = (
    "symbol", "Symbol", "Gene Symbol", "GENE_SYMBOL", "Gene symbol", "ILMN_Gene", "Hugo_Symbol", "SYMBOL", "Approved symbol",
)  # fmt: skip
_SEVERAL = re.compile(r"\s*(?:///|;|\|)\s*")


@dataclass
class ProbeMap:
    """Map from probes to gene symbols; probes of several genes are left out."""

    symbols: dict[str, str]
    """{probe: symbol}."""

    def rename(self, names: Sequence[str]) -> tuple[list[str | None], dict[str, int]]:
        """Look up the symbol of each name, None where there is none, and count the mapped and the dropped names."""
        symbols = [self.symbols.get(str(name).strip().removesuffix(".0")) for name in names]
        n_unmapped = sum(symbol is None for symbol in symbols)
        return symbols, {
            "probes_mapped": len(symbols) - n_unmapped,
            "probes_without_one_gene_dropped": n_unmapped,
        }


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
            f"{path}: a map of probes needs the columns probe and symbol (or ID and Gene Symbol, as in the annotation of a "
            f"platform); its columns are: {', '.join(table.columns[:12])}"
        )
    symbols: dict[str, str] = {}
    for name, value in read_rows(table, [probe, symbol]).itertuples(index=False):
        if name is None or value is None:
            continue
        genes = list(dict.fromkeys(gene for gene in _SEVERAL.split(value) if gene))
        if len(genes) == 1:
            symbols[name.removesuffix(".0")] = genes[0]
    if not any(is_gene(gene) for gene in symbols.values()):
        raise InputError(
            f"{path}: column {symbol!r} contains no known gene; give the annotation of the platform, with gene symbols"
        )
    return ProbeMap(symbols)


def _annotation(path: Path) -> TextTable:
    """Read the header of an annotation; before it, files from GEO have lines that start with `^` or `!`."""
    with open_text(path) as text:
        skipped = 0
        for line in text:
            if not line.startswith(("^", "!", "#")):
                break
            skipped += 1
        else:
            raise InputError(f"{path}: is empty; give a table of probes and symbols")
    if not skipped:
        return open_table(path)
    separator = max("\t,;", key=line.count)
    return TextTable(
        path, separator, skipped + 1, [name.strip().strip('"') for name in line.rstrip("\r\n").split(separator)]
    )
