"""Gene names: Ensembl ids to symbols, previous symbols to current ones, and which words are genes at all."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

INDEX = Path(__file__).parent / "genesets" / "ensembl_gene_index.csv.gz"
_ENSEMBL = re.compile(r"(ENSG\d{11})(?:\.\d+)?(?:_PAR_Y)?")
_CLONE = re.compile(r"[A-Z]{2}\d{6}\.\d+")  # genes that go by the clone they were found on, AC004086.1
_DATE = re.compile(r"\d{1,2}-(Mar|Sep|Dec)|(Mar|Sep|Dec)-\d{1,2}", re.IGNORECASE)

# Symbols of the shipped sets that HGNC has renamed since; a table may carry either name.
RENAMED = {
    "AARS": "AARS1",
    "CCDC58": "MIX23",
    "CENPJ": "CPAP",
    "DARS": "DARS1",
    "DDX58": "RIGI",
    "EPRS": "EPRS1",
    "FAM126B": "HYCC2",
    "FAM129A": "NIBAN1",
    "H1F0": "H1-0",
    "H2AFV": "H2AZ2",
    "H2AFX": "H2AX",
    "H2AFY2": "MACROH2A2",
    "H2AFZ": "H2AZ1",
    "H2AW": "H2AC25",
    "HIST1H1C": "H1-2",
    "HIST1H2BK": "H2BC12",
    "HIST3H2A": "H2AC25",
    "IARS": "IARS1",
    "KARS": "KARS1",
    "LRMP": "IRAG2",
    "MARCH1": "MARCHF1",
    "METTL7B": "TMT1B",
    "PHB": "PHB1",
    "PRPF4B": "PRP4K",
    "SLC9A3R1": "NHERF1",
    "TARS": "TARS1",
    "TTC37": "SKIC3",
    "WARS": "WARS1",
}


@cache
def ensembl_index() -> dict[str, str]:
    """{Ensembl gene id without version: symbol}, as shipped."""
    with gzip.open(INDEX, "rt", newline="") as lines:
        rows = csv.reader(lines)
        next(rows)
        return {ensembl: symbol for ensembl, symbol in rows}


@cache
def known_symbols() -> frozenset[str]:
    """Every symbol of the index, and previous symbols of the shipped sets."""
    return frozenset([*ensembl_index().values(), *RENAMED, *RENAMED.values()])


def current_symbol(symbol: str) -> str:
    """The symbol under which a gene goes here, whichever of its names a table uses."""
    return RENAMED.get(symbol, symbol)


def gene_symbol(name: str) -> str | None:
    """A gene's symbol from what a table calls it: a symbol, `SYMBOL|entrez`, or an Ensembl id with or without version.

    Returns:
        The current symbol; None where the name is an Ensembl id outside the index, empty, or a date that a spreadsheet
        made of a symbol (1-Mar may have been MARCH1 or MARC1).
    """
    name = str(name).strip().split("|")[0]
    ensembl = _ENSEMBL.fullmatch(name)
    if ensembl:
        name = ensembl_index().get(ensembl[1], "")
    return current_symbol(name) if name not in ("", "?") and not _DATE.fullmatch(name) else None


def is_gene(name: str) -> bool:
    """Whether a name is a known symbol, an Ensembl id or a clone name."""
    head = name.split("|")[0]
    return head in known_symbols() or bool(_ENSEMBL.fullmatch(head) or _CLONE.fullmatch(head))


def share_of_genes(names: Iterable[str]) -> float:
    """Share of the names that are genes, 0 for no name."""
    verdicts = [is_gene(str(name)) for name in names]
    return sum(verdicts) / len(verdicts) if verdicts else 0.0
