"""Gene names: Ensembl ids, Entrez numbers and other names of a gene to one symbol, and which words are genes at all.

The tables behind it are shipped; NOTICE names their sources.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

INDEX = Path(__file__).parent / "genesets" / "ensembl_gene_index.csv.gz"
NAMES = Path(__file__).parent / "genesets" / "gene_names.csv.gz"
_ENSEMBL = re.compile(
    r"(ENSG\d{11})(?:\.\d+)?(?:_[\w.-]+)?"
)  # …_PAR_Y, …_TP53 (RSEM's --append-names), …_5 (lifted over)
_CLONE = re.compile(r"[A-Z]{2}\d{6}\.\d+")  # genes that go by the clone they were found on, AC004086.1
_DATE = re.compile(r"\d{1,2}-(Mar|Sep|Dec)|(Mar|Sep|Dec)-\d{1,2}", re.IGNORECASE)


@cache
def ensembl_index() -> dict[str, str]:
    """{Ensembl gene id without version: symbol}, as shipped."""
    with gzip.open(INDEX, "rt", newline="") as lines:
        rows = csv.reader(lines)
        next(rows)
        return {ensembl: symbol for ensembl, symbol in rows}


class Names(NamedTuple):
    """What else the symbols of the index go by."""

    entrez: dict[str, str]
    """{Entrez number: symbol}"""
    other: dict[str, str]
    """{earlier or later symbol of one gene alone: symbol}"""


@cache
def other_names() -> Names:
    """The shipped table `symbol,entrez,other`, several of one kind separated by `|`."""
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
def known_symbols() -> frozenset[str]:
    """Every symbol of the index, and every other name of one."""
    return frozenset([*ensembl_index().values(), *other_names().other])


def current_symbol(symbol: str) -> str:
    """The symbol under which a gene goes here, whichever of its names a table uses."""
    return other_names().other.get(symbol, symbol)


class Named(NamedTuple):
    """A gene as a table names it."""

    symbol: str | None
    """under which it goes here; None where the name tells no gene"""
    how: str
    """`as named`, `from an Ensembl id`, `by another name`; or why there is no symbol: `unknown Ensembl id`, `no name`,
    `a date of a spreadsheet`"""


def name_gene(name: str) -> Named:
    """A gene's symbol from what a table calls it: a symbol, `SYMBOL|entrez`, or an Ensembl id with or without version.

    An Ensembl id outside the index has none, nor has a date that a spreadsheet made of a symbol (1-Mar may have been
    MARCH1 or MARC1).
    """
    name = str(name).strip().split("|")[0]
    if ensembl := _ENSEMBL.fullmatch(name):
        symbol = ensembl_index().get(ensembl[1], "")
        return Named(current_symbol(symbol), "from an Ensembl id") if symbol else Named(None, "unknown Ensembl id")
    if name in ("", "?"):
        return Named(None, "no name")
    if _DATE.fullmatch(name):
        return Named(None, "a date of a spreadsheet")
    symbol = current_symbol(name)
    return Named(symbol, "as named" if symbol == name else "by another name")


def gene_symbol(name: str) -> str | None:
    """The symbol of `name_gene`."""
    return name_gene(name).symbol


def is_gene(name: str) -> bool:
    """Whether a name is a known symbol, an Ensembl id or a clone name."""
    head = name.split("|")[0]
    return head in known_symbols() or bool(_ENSEMBL.fullmatch(head) or _CLONE.fullmatch(head))


def share_of_genes(names: Iterable[str]) -> float:
    """Share of the names that are genes, 0 for no name."""
    verdicts = [is_gene(str(name)) for name in names]
    return sum(verdicts) / len(verdicts) if verdicts else 0.0
