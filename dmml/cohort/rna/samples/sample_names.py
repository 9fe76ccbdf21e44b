"""Derives sample names from the names of files of one sample, and of alignments in a table's header."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from pathlib import Path, PurePosixPath

from dmml.cohort.rna.samples.tissue import find_barcode

_ALIGNMENT = re.compile(r"\.(?:bam|sam|cram)$", re.IGNORECASE)
_OF_ALIGNMENTS = re.compile(
    r"(?:[._-]?(?:Aligned(?:\.sortedByCoord)?(?:\.out)?|sortedByCoord\.out|sort(?:ed)?|mark(?:ed)?_?dup(?:licate)?s?|dedup(?:ed)?"
    r"|umi_dedup|accepted_hits|genome|hisat2|star))+$",
    re.IGNORECASE,
)
_OF_QUANTIFICATIONS = re.compile(
    r"[._-]?ReadsPerGene\.out\.tab$"
    r"|(?:^|[._-])(?:(?:rsem\.)?genes\.results|quant(?:\.genes)?\.sf|abundance\.tsv|(?:gene_abund|gene_abundances?)\.(?:tab|tsv)"
    r"|(?:(?:htseq|gene)[._-]?)?counts?(?:\.(?:tsv|txt|tab))?|htseq(?:\.(?:tsv|txt|tab))?|tsv|txt|tab)$",
    re.IGNORECASE,
)
_PROGRAM = re.compile(r"salmon|kallisto|rsem|star|star_salmon|quants?|out(?:put)?|results?", re.IGNORECASE)
_OF_FOLDERS = re.compile(r"[._-](?:salmon|kallisto|rsem|star|quant|quants|out|output)$", re.IGNORECASE)


def name_of_file(path: Path, mapped_samples: Container[str] = ()) -> str:
    """Name of the sample in a file: the file name without the program's suffix, or the name of its folder.

    `P1.genes.results`, `P1_ReadsPerGene.out.tab`, `P1/quant.sf`, `P1_quant/quant.sf` and `P1/salmon/quant.sf` all belong
    to P1. If only the folder's name contains the barcode of a sample, the folder names the sample.

    Args:
        path: Path of the file.
        mapped_samples: Names of samples in the patient map. If they contain the whole file name, the derived name, the
            file name up to its first dot or the folder's name, the first of these is returned.
    """
    folder = path.resolve().parent.name
    stem = _OF_QUANTIFICATIONS.sub("", path.name.removesuffix(".gz"))
    if not stem and _PROGRAM.fullmatch(folder):
        folder = path.resolve().parent.parent.name
    derived = stem or _OF_FOLDERS.sub("", folder)
    if find_barcode(folder) and not find_barcode(derived):
        derived = folder  # the sample type shows whether the tissue is normal
    candidates = (path.name, derived, path.name.split(".")[0], folder)
    return next((name for name in candidates if name and name in mapped_samples), derived)


def names_of_columns(names: Sequence[str]) -> list[str]:
    """Sample names of a table whose columns are named after alignments (`/data/P1.sorted.bam`) or quantifications.

    Files with the same name in several folders (`P1/accepted_hits.bam`) get the names of their folders. Other names are
    unchanged, and so are all names if two files would otherwise have the same sample name.
    """
    is_file = [bool(_ALIGNMENT.search(name) or _is_quantification(name)) for name in names]
    if not any(is_file):
        return list(names)
    paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
    for shorten in (_stem, lambda path: _stem(path) or path.parent.name, lambda path: path.parent.name):
        short = [shorten(path) if file else name for name, path, file in zip(names, paths, is_file, strict=True)]
        if all(short) and len(set(short)) == len(set(names)):
            return short
    return list(names)


def _is_quantification(name: str) -> bool:
    return bool(re.search(r"ReadsPerGene\.out\.tab$|genes\.results$|quant(\.genes)?\.sf$|abundance\.tsv$", name))


def _stem(path: PurePosixPath) -> str:
    alignment = _ALIGNMENT.search(path.name)
    name = _ALIGNMENT.sub("", path.name)
    return (_OF_ALIGNMENTS if alignment else _OF_QUANTIFICATIONS).sub("", name)
