"""Recognises tables that are not RNA (mutations, copy numbers, methylation, proteins) by their names and values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dmml.cohort.rna.scale import is_centred
from dmml.errors import InputError

_SUFFIXES = {
    "mutations": r"mut|muts|mutation|mutations|snv|snp|indel|maf",
    "copy numbers": r"cnv|cna|cn|copynumber|copy_number|gistic|log2cna|amp|loss|gain|loh|homdel",
    "methylation": r"meth|methyl|methylation|beta|betas|hm27|hm450|epic",
    "proteins": r"rppa|prot|protein|proteins|proteome",
}
_FILES = {  # every study of cBioPortal uses these file names
    "mutations": r"data_mutations?(_.*)?",
    "copy numbers": r"data_(log2_|linear_)?cna(_.*)?|data_gistic.*|data_armlevel.*",
    "methylation": r"data_methylation.*",
    "proteins": r"data_rppa.*|data_protein.*",
}
_COLUMNS = {
    "mutations (MAF)": {"variant_classification", "tumor_sample_barcode", "hgvsp_short"},
    "segments of copy numbers": {"segment_mean", "seg.mean", "num_probes"},
    "copy numbers (GISTIC)": {"cytoband", "locus id"},
}
_METHYLATION_PROBE = re.compile(r"c[gh]\.?\d{7,8}|ch\.\d+\.\d+[FR]")
_ANTIBODY = re.compile(r".*(?:-[RMG]-[VCEQN]A?|[_|-]p[STY]\d{2,4}.*)")
_MIN_VALUES, _MIN_GENES, _MIN_SAMPLES = 20, 20, 4
_MIN_DIPLOID, _MAX_COPIES = 0.35, 20  # minimum share of values that are 2
_MAX_MUTATIONS, _MAX_MEAN_MUTATIONS = 10, 0.05
_MIN_EQUAL_GENES = 0.2


def refusal(source: object, what: str, reason: str) -> InputError:
    """Make the error that names what a table holds instead of RNA."""
    return InputError(
        f"{source}: holds {what}, not RNA ({reason}); give a table of RNA (TPM, FPKM, counts, log2 or z-scores), or leave "
        "expression out"
    )


def check_file(path: Path) -> None:
    """Refuse a file whose name means, in cBioPortal, another measurement than RNA.

    Raises:
        InputError: The file is named `data_cna.txt`, `data_mutations.txt` or similar.
    """
    for what, pattern in _FILES.items():
        if re.fullmatch(pattern, path.name.split(".")[0], re.IGNORECASE):
            raise refusal(path, what, f"cBioPortal's {path.name}")


def check_columns(source: object, columns: Sequence[str]) -> None:
    """Refuse a table whose header is that of a mutation or copy-number file.

    Raises:
        InputError: At least two of its columns are those of a MAF file, a segment file or a GISTIC table.
    """
    named = {name.strip().lower() for name in columns}
    for what, telling in _COLUMNS.items():
        if len(found := sorted(telling & named)) > 1:
            raise refusal(source, what, f"its columns are {' and '.join(found)}")


def meaning_of_suffix(suffix: str) -> str | None:
    """Measurement other than RNA that a column suffix names; None if there is none."""
    word = suffix.strip("_-. ").lower()
    return next((what for what, pattern in _SUFFIXES.items() if re.fullmatch(pattern, word)), None)


def check_suffix(source: object, suffix: str) -> None:
    """Refuse a column suffix that names another measurement than RNA.

    Raises:
        InputError: The suffix is `_cnv`, `_mut` or similar.
    """
    if what := meaning_of_suffix(suffix):
        raise refusal(source, what, f"columns that end with {suffix!r}")


def check_names(source: object, names: Sequence[str]) -> None:
    """Refuse a table whose rows (or columns) are probes of a methylation array or antibodies.

    Raises:
        InputError: More than half of the first 2,000 names are such probes, or more than a twentieth of them (and at
            least two) such antibodies.
    """
    names = [str(name).strip() for name in names[:2000]]
    probes = [name for name in names if _METHYLATION_PROBE.fullmatch(name)]
    if len(probes) > len(names) / 2:
        raise refusal(source, "methylation", f"{probes[0]} is a probe of a methylation array")
    antibodies = [name for name in names if _ANTIBODY.fullmatch(name)]
    if len(antibodies) > max(1, len(names) / 20):
        raise refusal(source, "proteins", f"{antibodies[0]} is an antibody")


def check_values(source: object, values: np.ndarray) -> None:
    """Refuse values that look like another measurement than RNA.

    Args:
        source: Name of the table in messages.
        values: (samples, genes), NaN where unknown.

    Raises:
        InputError: The values look like mutations, copy numbers or methylation.
    """
    known = values[np.isfinite(values)]
    if known.size < _MIN_VALUES:
        return
    if np.all(known == np.rint(known)):
        found = _whole_numbers(values, known)
    else:
        found = _fractions(values, known)
    if found:
        raise refusal(source, *found)


def _whole_numbers(values: np.ndarray, known: np.ndarray) -> tuple[str, str] | None:
    lowest, highest = int(known.min()), int(known.max())
    if lowest == highest:  # `check_varied` refuses such a table
        return None
    if lowest >= 0 and highest <= 2:
        only = " and ".join(f"{value:.0f}" for value in np.unique(known))
        return "mutations or copy numbers", f"its only values are {only}"
    rounded_zscores = (lowest < -2 or highest > 2) and is_centred(values)  # GISTIC's values lie between −2 and 2
    if -10 <= lowest < 0 and highest <= 10 and not rounded_zscores:
        return "copy numbers", f"whole numbers from {lowest} to {highest}"
    diploid = float(np.mean(known == 2))
    if lowest >= 0 and highest <= _MAX_COPIES and diploid >= _MIN_DIPLOID and diploid > np.mean(known <= 1):
        return "copy numbers", f"whole numbers up to {highest}, of which {diploid:.0%} are 2"
    if lowest >= 0 and highest <= _MAX_MUTATIONS and known.mean() < _MAX_MEAN_MUTATIONS:
        return "numbers of mutations", f"whole numbers up to {highest}, of which {np.mean(known == 0):.0%} are 0"
    return None


def _fractions(values: np.ndarray, known: np.ndarray) -> tuple[str, str] | None:
    lowest, highest = known.min(), known.max()
    if lowest >= 0 and highest <= 1 and values.shape[1] >= _MIN_GENES:
        reason = f"all values lie between {lowest:.3g} and {highest:.3g}"
        return "methylation or other shares from 0 to 1", reason
    if lowest < 0 and (share := _share_of_equal_genes(values)) >= _MIN_EQUAL_GENES:
        return "copy numbers", f"{share:.0%} of its genes equal another one in every sample, as genes of one segment do"
    return None


def _share_of_equal_genes(values: np.ndarray) -> float:
    """Share of genes that equal another gene in every sample; 0 with too few genes or samples.

    Genes with few distinct values are left out, since genes that only one patient expresses have equal z-scores.
    """
    if len(values) < _MIN_SAMPLES:
        return 0.0
    ordered = np.sort(values, axis=0)
    varied = (np.diff(ordered, axis=0) > 0).sum(axis=0) + 1 >= 0.75 * len(values)
    columns = [column.tobytes() for column in np.ascontiguousarray(values[:, varied].T)]
    return 1.0 - len(set(columns)) / len(columns) if len(columns) >= _MIN_GENES else 0.0
