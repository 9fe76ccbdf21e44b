"""Maps the gene names of a table to symbols, and records which were renamed, merged and dropped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dmml.cohort.rna.genes.gene_names import Named, name_gene, other_names

_ENTREZ = re.compile(r"(\d+)(?:_at)?(?:\.0)?")
_FEWEST_NUMBERS, _FEWEST_KNOWN = 0.9, 0.5
_DROPPED = {"a date of a spreadsheet": "spreadsheet_dates_dropped"}


@dataclass
class GeneAccount:
    """Record of renamed, merged and dropped genes, under their names in the source."""

    renamed: dict[str, str] = field(default_factory=dict)
    """{name: symbol} for symbols that were replaced by another one; Ensembl ids and Entrez numbers are only counted."""
    merged: dict[str, list[str]] = field(default_factory=dict)
    """{symbol: names} for symbols with several names."""
    dropped: dict[str, list[str]] = field(default_factory=dict)
    """{reason: names}."""
    counts: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the provenance, without empty entries."""
        named = {"renamed": self.renamed, "merged": self.merged, "dropped": self.dropped}
        return {what: value for what, value in named.items() if value}

    @classmethod
    def of(cls, inputs: Iterable[GeneAccount]) -> GeneAccount:
        """Combine the names of several inputs; counts are left to the caller."""
        whole = cls()
        for one in inputs:
            whole.renamed |= one.renamed
            whole.merged |= one.merged
            for reason, names in one.dropped.items():
                whole.dropped[reason] = list(dict.fromkeys([*whole.dropped.get(reason, []), *names]))
        return whole


def entrez_number(name: str) -> str | None:
    """The Entrez number in `7157`, `7157.0` or `7157_at`; None for other words."""
    found = _ENTREZ.fullmatch(str(name).strip())
    return found[1] if found else None


def are_entrez(names: Sequence[str]) -> bool:
    """Whether names are Entrez numbers: nearly all are numbers, most of them of genes, and not just consecutive."""
    numbers = [number for name in names if (number := entrez_number(name))]
    if len(names) < 2 or len(numbers) < _FEWEST_NUMBERS * len(names):
        return False
    found = sorted({int(number) for number in numbers})
    if found[-1] - found[0] + 1 == len(found):
        return False
    known = other_names().entrez
    return sum(number in known for number in numbers) >= _FEWEST_KNOWN * len(numbers)


def name_genes(names: Sequence[str]) -> tuple[list[str | None], GeneAccount]:
    """Find the symbol of each name of a table, None for names to drop, and record the changes.

    If a table has a gene's current symbol, another name of that gene is left unchanged: symbols have been reassigned,
    so it may refer to another gene.

    Args:
        names: All gene names of the table.
    """
    if are_entrez(names):
        known = other_names().entrez
        named = [Named(known.get(entrez_number(name) or ""), "from an Entrez number") for name in names]
        named = [one if one.symbol else Named(None, "unknown Entrez number") for one in named]
    else:
        named = [name_gene(name) for name in names]
        own = {one.symbol for one in named if one.how == "as named"}
        named = [
            Named(str(name).strip(), "as named") if one.how == "by another name" and one.symbol in own else one
            for name, one in zip(names, named, strict=True)
        ]
    return [one.symbol for one in named], _account(names, named)


def _account(names: Sequence[str], named: Sequence[Named]) -> GeneAccount:
    account, members = GeneAccount(), {}
    for name, one in zip(map(str, names), named, strict=True):
        if one.symbol is None:
            account.dropped.setdefault(one.how, []).append(name)
            continue
        members.setdefault(one.symbol, []).append(name)
        if one.how == "by another name":
            account.renamed[name] = one.symbol
    account.merged = {symbol: own for symbol, own in members.items() if len(own) > 1}
    hows = [one.how for one in named]
    account.counts = {
        "ensembl_ids_mapped": hows.count("from an Ensembl id"),
        "entrez_numbers_mapped": hows.count("from an Entrez number"),
        "symbols_renamed": len(account.renamed),
        "rows_merged_into_a_symbol": sum(len(own) - 1 for own in account.merged.values()),
        "genes_without_symbol_dropped": sum(len(own) for how, own in account.dropped.items() if how not in _DROPPED),
        **{count: len(account.dropped.get(how, [])) for how, count in _DROPPED.items()},
    }
    return account
