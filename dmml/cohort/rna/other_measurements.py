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


def refusal(source: object, contents: str, reason: str) -> InputError:
    """Make the error that names what a table holds instead of RNA."""
    return InputError(
        f"{source}: holds {contents}, not RNA ({reason}); give a table of RNA (TPM, FPKM, counts, log2 or z-scores), or leave "
        "expression out"
    )


def check_file(path: Path) -> None:
    """Refuse a file whose name means, in cBioPortal, another measurement than RNA.

    Raises:
        InputError: The file is named `data_cna.txt`, `data_mutations.txt` or similar.
    """
    for contents, pattern in _FILES.items():
        if re.fullmatch(pattern, path.name.split(".")[0], re.IGNORECASE):
            raise refusal(path, contents, f"cBioPortal's {path.name}")


def check_columns(source: object, columns: Sequence[str]) -> None:
    """Refuse a table whose header is that of a mutation or copy-number file.

    Raises:
        InputError: At least two of its columns are those of a MAF file, a segment file or a GISTIC table.
    """
    names = {name.strip().lower() for name in columns}
    for contents, typical in _COLUMNS.items():
        if len(matching := sorted(typical & names)) > 1:
            raise refusal(source, contents, f"it has the columns {' and '.join(matching)}")


def meaning_of_suffix(suffix: str) -> str | None:
    """Measurement other than RNA that a column suffix names; None if there is none."""
    word = suffix.strip("_-. ").lower()
    return next((contents for contents, pattern in _SUFFIXES.items() if re.fullmatch(pattern, word)), None)


def check_suffix(source: object, suffix: str) -> None:
    """Refuse a column suffix that names another measurement than RNA.

    Raises:
        InputError: The suffix is `_cnv`, `_mut` or similar.
    """
    if contents := meaning_of_suffix(suffix):
        raise refusal(source, contents, f"in the columns that end with {suffix!r}")


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
    finite = values[np.isfinite(values)]
    if finite.size < _MIN_VALUES:
        return
    if np.all(finite == np.rint(finite)):
        contents_and_reason = _judge_whole_numbers(values, finite)
    else:
        contents_and_reason = _judge_fractions(values, finite)
    if contents_and_reason:
        raise refusal(source, *contents_and_reason)


def _judge_whole_numbers(values: np.ndarray, finite: np.ndarray) -> tuple[str, str] | None:
    """What a table of whole numbers holds instead of RNA, and the reason; None if it may be RNA."""
    lowest, highest = int(finite.min()), int(finite.max())
    if lowest == highest:  # `check_varied` refuses such a table
        return None
    if lowest >= 0 and highest <= 2:
        unique = " and ".join(f"{value:.0f}" for value in np.unique(finite))
        return "mutations or copy numbers", f"its only values are {unique}"
    rounded_zscores = (lowest < -2 or highest > 2) and is_centred(values)  # GISTIC's values lie between −2 and 2
    if -10 <= lowest < 0 and highest <= 10 and not rounded_zscores:
        return "copy numbers", f"its values are whole numbers from {lowest} to {highest}"
    diploid = float(np.mean(finite == 2))
    if lowest >= 0 and highest <= _MAX_COPIES and diploid >= _MIN_DIPLOID and diploid > np.mean(finite <= 1):
        return "copy numbers", f"its values are whole numbers up to {highest}, of which {diploid:.0%} are 2"
    if lowest >= 0 and highest <= _MAX_MUTATIONS and finite.mean() < _MAX_MEAN_MUTATIONS:
        share = np.mean(finite == 0)
        return "numbers of mutations", f"its values are whole numbers up to {highest}, of which {share:.0%} are 0"
    return None


def _judge_fractions(values: np.ndarray, finite: np.ndarray) -> tuple[str, str] | None:
    """What a table of fractions holds instead of RNA, and the reason; None if it may be RNA."""
    lowest, highest = finite.min(), finite.max()
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
    is_varied = (np.diff(ordered, axis=0) > 0).sum(axis=0) + 1 >= 0.75 * len(values)
    columns = [column.tobytes() for column in np.ascontiguousarray(values[:, is_varied].T)]
    return 1.0 - len(set(columns)) / len(columns) if len(columns) >= _MIN_GENES else 0.0
