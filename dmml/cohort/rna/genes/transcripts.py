"""Maps transcripts from salmon and kallisto to genes, by their GENCODE names or by a map."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dmml.cohort.rna.genes.gene_names import is_gene, share_of_genes
from dmml.cohort.rna.genes.probes import ProbeMap
from dmml.cohort.rna.genes.summary_rows import kind_of_row
from dmml.errors import InputError

_GENE_ID = re.compile(r"ENSG\d{11}(?:\.\d+)?(?:_PAR_Y)?")
_MIN_SHARE = 0.2


def genes_of_targets(names: Sequence[str], path: Path, probes: ProbeMap | None = None) -> list[str | None]:
    """Find the gene of each row of a quantification; None if the map lacks the row, or its name includes no gene.

    Args:
        names: Genes; or transcripts of GENCODE's FASTA, whose names include the gene (`ENST…|ENSG…|…|DDX11L1|1657|…`).
        path: Path of the file, for the message.
        probes: Map {transcript: symbol}, used instead of the names if given.

    Raises:
        InputError: The names are transcripts that do not include their gene, or the map has none of them.
    """
    if probes is not None:
        symbols, notes = probes.rename(names)
        if not notes["probes_mapped"]:
            raise InputError(
                f"{path}: none of its rows ({', '.join(names[:3])}, …) is in the map of probes; give a map of these transcripts"
            )
        return symbols
    if share_of_genes(names[:2000]) >= _MIN_SHARE:
        return list(names)
    genes = [_gene_in(name) for name in names]
    if sum(gene is not None for gene in genes[:2000]) < _MIN_SHARE * len(names[:2000]):
        raise InputError(
            f"{path}: its rows ({', '.join(names[:2])}, …) are not genes, nor transcripts whose names include the gene; sum "
            "them to genes (salmon --geneMap, or tximport in R), quantify against GENCODE's transcripts with their full names, "
            "or add --probes with a table of the columns probe,symbol (transcript and gene)"
        )
    return [name if gene is None and kind_of_row(name) else gene for name, gene in zip(names, genes, strict=True)]


def _gene_in(name: str) -> str | None:
    """Find the Ensembl id of a gene among the fields of a name, or else a symbol; None if there is neither."""
    fields = name.split("|")
    ensembl = next((field for field in fields if _GENE_ID.fullmatch(field)), None)
    return ensembl or next((field for field in fields[1:] if is_gene(field)), None)
