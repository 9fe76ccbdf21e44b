"""Recognises gene names, and maps Ensembl ids, Entrez numbers and other names of a gene to one symbol.

The underlying tables are shipped with the package; NOTICE names their sources.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

INDEX = Path(__file__).parent / "ensembl_gene_index.csv.gz"
NAMES = Path(__file__).parent / "gene_names.csv.gz"
# Suffixes of Ensembl ids: …_PAR_Y, …_TP53 (RSEM's --append-names), …_5 (lifted over).
_ENSEMBL = re.compile(r"(ENSG\d{11})(?:\.\d+)?(?:_[\w.-]+)?")
_CLONE = re.compile(r"[A-Z]{2}\d{6}\.\d+")  # genes named after the clone that contains them, such as AC004086.1
_DATE = re.compile(r"\d{1,2}-(Mar|Sep|Dec)|(Mar|Sep|Dec)-\d{1,2}", re.IGNORECASE)


@cache
def ensembl_index() -> dict[str, str]:
    """Read the shipped index {Ensembl gene id without version: symbol}."""
    with gzip.open(INDEX, "rt", newline="") as lines:
        rows = csv.reader(lines)
        next(rows)
        return {ensembl: symbol for ensembl, symbol in rows}


class Names(NamedTuple):
    """Alternative names of the symbols in the index."""

    entrez: dict[str, str]
    """{Entrez number: symbol}."""
    other: dict[str, str]
    """{earlier or later symbol that only one gene has had: symbol}."""


@cache
def other_names() -> Names:
    """Read the shipped table `symbol,entrez,other`, in which several names of one kind are separated by `|`."""
    entrez: dict[str, str] = {}
    other: dict[str, str] = {}
    with gzip.open(NAMES, "rt", newline="") as lines:
        rows = csv.reader(lines)
        next(rows)
        for symbol, numbers, names in rows:
            entrez |= dict.fromkeys(numbers.split("|"), symbol) if numbers else {}
            other |= dict.fromkeys(names.split("|"), symbol) if names else {}
    return Names(entrez, other)


@cache
def all_symbols() -> frozenset[str]:
    """All symbols of the index and all other names of them."""
    return frozenset([*ensembl_index().values(), *other_names().other])


def current_symbol(symbol: str) -> str:
    """Symbol that dmml uses for a gene, given any of its symbols; unknown names are returned unchanged."""
    return other_names().other.get(symbol, symbol)


class NamedGene(NamedTuple):
    """Symbol of a gene, and how it was derived from the name in a table."""

    symbol: str | None
    """Symbol that dmml uses; None if the name does not identify a gene."""
    derivation: str
    """`as named`, `from an Ensembl id`, `by another name`; or why there is no symbol: `unknown Ensembl id`, `no name`,
    `a date of a spreadsheet`."""


def name_gene(name: str) -> NamedGene:
    """Find a gene's symbol from its name in a table: a symbol, `SYMBOL|entrez`, or an Ensembl id (with any version).

    There is no symbol for an Ensembl id outside the index, nor for a date into which a spreadsheet has turned a symbol
    (1-Mar may have been MARCH1 or MARC1).
    """
    name = str(name).strip().split("|")[0]
    if ensembl := _ENSEMBL.fullmatch(name):
        symbol = ensembl_index().get(ensembl[1], "")
        return (
            NamedGene(current_symbol(symbol), "from an Ensembl id") if symbol else NamedGene(None, "unknown Ensembl id")
        )
    if name in ("", "?"):
        return NamedGene(None, "no name")
    if _DATE.fullmatch(name):
        return NamedGene(None, "a date of a spreadsheet")
    symbol = current_symbol(name)
    return NamedGene(symbol, "as named" if symbol == name else "by another name")


def gene_symbol(name: str) -> str | None:
    """The symbol that `name_gene` finds, or None."""
    return name_gene(name).symbol


def is_gene(name: str) -> bool:
    """Whether a name is a known symbol, an Ensembl id or a clone name."""
    head = name.split("|")[0]
    return head in all_symbols() or bool(_ENSEMBL.fullmatch(head) or _CLONE.fullmatch(head))


def share_of_genes(names: Iterable[str]) -> float:
    """Share of the names that are genes; 0 if there are no names."""
    are_genes = [is_gene(str(name)) for name in names]
    return sum(are_genes) / len(are_genes) if are_genes else 0.0
