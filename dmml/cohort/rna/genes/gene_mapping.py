"""Maps the gene names of a table to symbols, and records which were renamed, merged and dropped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dmml.cohort.rna.genes.gene_names import NamedGene, name_gene, other_names

_ENTREZ = re.compile(r"(\d+)(?:_at)?(?:\.0)?")
_MIN_SHARE_OF_NUMBERS, _MIN_SHARE_OF_GENES = 0.9, 0.5
_SPREADSHEET_DATE = "a date of a spreadsheet"


@dataclass
class GeneMapping:
    """Record of renamed, merged and dropped genes, under their names in the source."""

    renamed: dict[str, str] = field(default_factory=dict)
    """{name: symbol} for symbols that were replaced by another one; Ensembl ids and Entrez numbers are only counted."""
    merged: dict[str, list[str]] = field(default_factory=dict)
    """{symbol: names} for symbols with several names."""
    dropped: dict[str, list[str]] = field(default_factory=dict)
    """{reason: names}."""
    counts: dict[str, int] = field(default_factory=dict)
    """{reason: number of names}, for the provenance."""

    def to_dict(self) -> dict[str, object]:
        """Plain values for the provenance, without empty entries and counts."""
        entries = {"renamed": self.renamed, "merged": self.merged, "dropped": self.dropped}
        return {name: value for name, value in entries.items() if value}

    @classmethod
    def combine(cls, mappings: Iterable[GeneMapping]) -> GeneMapping:
        """Combine the names of several inputs; counts are left to the caller."""
        combined = cls()
        for mapping in mappings:
            combined.renamed |= mapping.renamed
            combined.merged |= mapping.merged
            for reason, names in mapping.dropped.items():
                combined.dropped[reason] = list(dict.fromkeys([*combined.dropped.get(reason, []), *names]))
        return combined


def entrez_number(name: str) -> str | None:
    """The Entrez number in `7157`, `7157.0` or `7157_at`; None for other words."""
    match = _ENTREZ.fullmatch(str(name).strip())
    return match[1] if match else None


def are_entrez(names: Sequence[str]) -> bool:
    """Whether names are Entrez numbers: nearly all are numbers, most of them of genes, and not just consecutive."""
    numbers = [number for name in names if (number := entrez_number(name))]
    if len(names) < 2 or len(numbers) < _MIN_SHARE_OF_NUMBERS * len(names):
        return False
    unique = sorted({int(number) for number in numbers})
    if unique[-1] - unique[0] + 1 == len(unique):
        return False
    symbol_of = other_names().entrez
    return sum(number in symbol_of for number in numbers) >= _MIN_SHARE_OF_GENES * len(numbers)


def name_genes(names: Sequence[str]) -> tuple[list[str | None], GeneMapping]:
    """Find the symbol of each name of a table, None for names to drop, and record the changes.

    If a table has a gene's current symbol, another name of that gene is left unchanged: symbols have been reassigned,
    so it may refer to another gene.

    Args:
        names: All gene names of the table.
    """
    if are_entrez(names):
        symbol_of = other_names().entrez
        genes = [NamedGene(symbol_of.get(entrez_number(name) or ""), "from an Entrez number") for name in names]
        genes = [gene if gene.symbol else NamedGene(None, "unknown Entrez number") for gene in genes]
    else:
        genes = [name_gene(name) for name in names]
        current = {gene.symbol for gene in genes if gene.derivation == "as named"}
        genes = [
            NamedGene(str(name).strip(), "as named")
            if gene.derivation == "by another name" and gene.symbol in current
            else gene
            for name, gene in zip(names, genes, strict=True)
        ]
    return [gene.symbol for gene in genes], _record(names, genes)


def _record(names: Sequence[str], genes: Sequence[NamedGene]) -> GeneMapping:
    mapping = GeneMapping()
    members: dict[str, list[str]] = {}
    for name, gene in zip(map(str, names), genes, strict=True):
        if gene.symbol is None:
            mapping.dropped.setdefault(gene.derivation, []).append(name)
            continue
        members.setdefault(gene.symbol, []).append(name)
        if gene.derivation == "by another name":
            mapping.renamed[name] = gene.symbol
    mapping.merged = {symbol: same for symbol, same in members.items() if len(same) > 1}
    derivations = [gene.derivation for gene in genes]
    n_dates = len(mapping.dropped.get(_SPREADSHEET_DATE, []))
    mapping.counts = {
        "ensembl_ids_mapped": derivations.count("from an Ensembl id"),
        "entrez_numbers_mapped": derivations.count("from an Entrez number"),
        "symbols_renamed": len(mapping.renamed),
        "rows_merged_into_a_symbol": sum(len(same) - 1 for same in mapping.merged.values()),
        "genes_without_symbol_dropped": sum(map(len, mapping.dropped.values())) - n_dates,
        "spreadsheet_dates_dropped": n_dates,
    }
    return mapping
