"""Builds a cohort from GDC downloads: joins sample sheet, RNA files and clinical export, and lists what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dmml._version import __version__
from dmml.atomic_files import write_text
from dmml.cohort.gdc.clinical import read_gdc_clinical
from dmml.cohort.rna.expression import Expression, file_source, write_expression
from dmml.cohort.rna.formats.star_counts import StarCounts, combine, find_star_counts, read_star_counts
from dmml.cohort.rna.samples.patient_average import average_patients
from dmml.cohort.rna.samples.patient_map import tissue_columns
from dmml.cohort.rna.samples.tissue import Tissue, tissue_of
from dmml.cohort.tables.id_columns import read_ids
from dmml.cohort.tables.text_table import open_table, read_rows
from dmml.errors import InputError
from dmml.progress_bars import progress_bar

FILES = ("clinical.csv", "expression.parquet", "left_out.csv")
"""Files that `write_gdc` writes."""
_RNA = "Gene Expression Quantification"
_LEFT_OUT_COLUMNS = ["patient_id", "what", "file", "reason"]


@dataclass
class GdcCohort:
    """A cohort joined from the GDC's downloads."""

    clinical: pd.DataFrame
    """Clinical table, see `read_gdc_clinical`."""
    expression: Expression | None
    """None without RNA"""
    left_out: pd.DataFrame
    """One row for everything that is missing: `patient_id`, `what` (RNA, clinical, outcome), `file`, `reason`."""


def read_gdc(
    rna: str | Path, sheet: str | Path, clinical: Sequence[str | Path], scale: str = "tpm", all_genes: bool = False
) -> GdcCohort:
    """Join the GDC's downloads.

    If a patient has primary tumor samples, their average is used and other samples are ignored; recurrent and
    metastatic samples are used only for patients without a primary tumor sample. A truncated or damaged RNA file is
    left out and listed in `left_out`; the other files are still joined.

    Args:
        rna: Folder of downloaded STAR-counts files, as `gdc-client` leaves it.
        sheet: Sample sheet of the cart.
        clinical: See `read_gdc_clinical`.
        scale: Which values to read from the files: `tpm`, `counts` or `fpkm`.
        all_genes: Also keep genes other than protein-coding and immune-receptor genes.

    Raises:
        InputError: A file is missing or has another format, no RNA file can be used, or no patient has both RNA and
            clinical data.
    """
    table, reasons = read_gdc_clinical(clinical)
    listed = _read_sheet(Path(sheet))
    if not Path(rna).is_dir():
        raise InputError(f"{rna}: no such folder; name the folder that gdc-client downloaded the RNA files into")
    samples, files, left_out_files = _read_samples(Path(rna), listed, scale, all_genes)
    if not samples:
        first = f" ({left_out_files[0]['file']}: {left_out_files[0]['reason']})" if left_out_files else ""
        raise InputError(
            f"{rna}: no RNA file of the sample sheet can be used{first}; check that {sheet} is the sample sheet of these files"
        )
    matrix, notes, genes = combine(samples, str(rna))
    patients = [listed.loc[sample, "patient"] for sample in matrix.index]
    averaged, counts = average_patients(matrix, patients)
    with_rna = set(averaged.index)
    if not with_rna & {*table.index}:
        raise InputError(
            f"{sheet}: none of its {len(with_rna)} patients ({min(with_rna)}, …) is in the clinical export "
            f"({table.index[0]}, …); export both from one cart"
        )
    left_out = pd.DataFrame(
        [*left_out_files, *_left_out_patients(listed, with_rna, table, reasons, left_out_files)],
        columns=_LEFT_OUT_COLUMNS,
    )
    provenance = {
        "dmml": __version__,
        "sources": [file_source(path, "star_counts") for path in files],
        "counts": {reason: count for reason, count in {**notes, **counts}.items() if count},
        "scale_stated": True,
        "patients_without_tumor_rna": patients_without_tumor(left_out, with_rna),
        "patients": len(averaged),
        "genes": averaged.shape[1],
        "names": genes.to_dict(),
    }
    return GdcCohort(
        table, Expression(averaged, scale, provenance), left_out.sort_values(["patient_id", "what", "file"])
    )


def read_gdc_without_rna(clinical: Sequence[str | Path]) -> GdcCohort:
    """Make a cohort of clinical data alone, e.g. of patients with slides.

    Args:
        clinical: See `read_gdc_clinical`.
    """
    table, reasons = read_gdc_clinical(clinical)
    entries = [_entry(patient, "outcome", "", reason) for patient, reason in sorted(reasons.items())]
    return GdcCohort(table, None, pd.DataFrame(entries, columns=_LEFT_OUT_COLUMNS))


def check_output_folder(out: Path, overwrite: bool) -> None:
    """Refuse an output folder that already contains a cohort.

    Raises:
        InputError: One of `FILES` exists and `overwrite` is off.
    """
    existing = [name for name in FILES if (out / name).exists()]
    if existing and not overwrite:
        raise InputError(f"{out / existing[0]}: already exists; add --overwrite, or name another folder")


def write_gdc(cohort: GdcCohort, out: Path) -> None:
    """Write the files of a cohort, three with RNA; each one exists in full or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    for name, table in (("left_out.csv", cohort.left_out.set_index("patient_id")), ("clinical.csv", cohort.clinical)):
        write_text(out / name, table.to_csv())
    if cohort.expression is not None:
        write_expression(cohort.expression, out / "expression.parquet", overwrite=True)


def patients_without_tumor(left_out: pd.DataFrame, with_rna: Container[str]) -> list[str]:
    """Patients whose RNA samples are all of normal tissue (or of a cell line), not of a tumor.

    Args:
        left_out: See `GdcCohort`.
        with_rna: Patients in the expression table.
    """
    not_tumor = [tissue.value for tissue in Tissue if not tissue.is_tumor]
    rows = left_out[left_out["reason"].isin(not_tumor)]
    others = set(left_out["patient_id"][(left_out["what"] == "RNA") & ~left_out["reason"].isin(not_tumor)])
    return sorted({patient for patient in rows["patient_id"] if patient not in with_rna} - others)


def _left_out_patients(
    listed: pd.DataFrame,
    with_rna: Collection[str],
    clinical: pd.DataFrame,
    reasons: Mapping[str, str],
    left_out_files: Sequence[dict[str, str]],
) -> list[dict[str, str]]:
    """Entries for the patients who lack RNA, clinical data or an outcome.

    Args:
        listed: See `_read_sheet`.
        with_rna: Patients in the expression table.
        clinical: Clinical table.
        reasons: {patient: why the outcome is unknown}.
        left_out_files: Entries for files, whose patients need no further entry.
    """
    in_sheet, in_clinical = {*listed["patient"]}, {*clinical.index}
    explained = {entry["patient_id"] for entry in left_out_files}
    no_file = "no RNA file in the sample sheet"
    return [
        *(_entry(patient, "RNA", "", no_file) for patient in sorted(in_sheet - {*with_rna} - explained)),
        *(_entry(patient, "RNA", "", no_file) for patient in clinical.index if patient not in in_sheet),
        *(
            _entry(patient, "clinical", "", "no case in the clinical export")
            for patient in sorted({*with_rna} - in_clinical)
        ),
        *(_entry(patient, "outcome", "", reason) for patient, reason in reasons.items()),
    ]


def _entry(patient: str, what: str, file: str, reason: str) -> dict[str, str]:
    return {"patient_id": patient, "what": what, "file": file, "reason": reason}


def _read_sheet(path: Path) -> pd.DataFrame:
    """Read the RNA rows of a sample sheet: `file`, `patient` and `tissue`, indexed by file name up to its first dot."""
    table = open_table(path)
    absent = [name for name in ("File Name", "Case ID") if name not in table.columns]
    if absent:
        raise InputError(
            f"{path}: no column {absent[0]!r} (its columns are: {', '.join(table.columns[:8])}); name the sample sheet of the "
            "cart (button Sample Sheet), not the manifest"
        )
    descriptions, barcodes = tissue_columns(table)
    data_type = ["Data Type"] if "Data Type" in table.columns else []
    rows = read_rows(table, ["File Name", "Case ID", *data_type, *descriptions, *barcodes])
    if "Data Type" in rows:
        rows = rows[rows["Data Type"] == _RNA]
    rows = rows.dropna(subset=["File Name", "Case ID"])
    rows["Case ID"] = read_ids(table, rows["Case ID"])
    if rows.empty:
        raise InputError(f"{path}: lists no RNA file ({_RNA}); save the sample sheet of the RNA cart")
    listed = pd.DataFrame(
        {
            "file": rows["File Name"],
            "patient": rows["Case ID"].str.split(",").str[0].str.strip(),
            "tissue": [
                tissue_of(row[["File Name", *barcodes]].fillna(""), " ".join(row[descriptions].fillna("")))
                for _, row in rows.iterrows()
            ],
        }
    )
    listed.index = listed["file"].str.split(".").str[0]
    if listed.index.has_duplicates:
        repeated = listed.index[listed.index.duplicated()][0]
        raise InputError(f"{path}: file {repeated} is listed twice; remove one of the rows")
    return listed


def _read_samples(
    folder: Path, listed: pd.DataFrame, scale: str, all_genes: bool
) -> tuple[list[StarCounts], list[Path], list[dict[str, str]]]:
    """Read the samples to use.

    Returns:
        The samples, their files, and entries for files that are not used.
    """
    path_of = {
        path.name.split(".")[0]: path for path in find_star_counts(folder)[0] if not path.name.endswith(".partial")
    }
    file_names = {path.name for path in folder.rglob("*") if path.is_file()}
    left_out = [
        _entry("", "clinical", path.name, "RNA file that the sample sheet does not list")
        for sample, path in path_of.items()
        if sample not in listed.index
    ]
    has_primary = set(listed["patient"][(listed["tissue"] == Tissue.PRIMARY) & listed.index.isin(list(path_of))])
    samples: list[tuple[StarCounts, Path]] = []
    for sample, row in progress_bar(listed.iterrows(), "STAR-counts", len(listed), "file", leave=True):
        reason = _reason_without_reading(str(sample), row, path_of, file_names, has_primary)
        if reason is None:
            path = path_of[str(sample)]
            try:
                samples.append((read_star_counts(path, scale, all_genes), path))
            except InputError as error:
                reason = f"damaged: {error}"
        if reason:
            left_out.append(_entry(row["patient"], "RNA", row["file"], reason))
    numbers_of_genes = Counter(len(sample.values) for sample, _ in samples)
    usual_number = numbers_of_genes.most_common(1)[0][0] if numbers_of_genes else 0
    complete = []
    for one, path in samples:
        if len(one.values) >= usual_number:
            complete.append((one, path))
            continue
        reason = f"damaged: has {len(one.values)} genes, but the other files have {usual_number}; download it again"
        left_out.append(_entry(listed.loc[one.sample, "patient"], "RNA", path.name, reason))
    return [one for one, _ in complete], [path for _, path in complete], left_out


def _reason_without_reading(
    sample: str, row: pd.Series, path_of: Mapping[str, Path], file_names: Collection[str], has_primary: Collection[str]
) -> str | None:
    """Why a sample is not used, as far as the sheet and the names of the files show it; None if it is to be read."""
    if not row["tissue"].is_tumor:
        return str(row["tissue"].value)
    if sample not in path_of:
        names = [name for name in file_names if name.split(".")[0] == sample and not name.endswith(".parcel")]
        if any(name.endswith(".partial") for name in names):
            return "download was broken off"
        return "no STAR-counts file" if names else "not downloaded"
    if row["tissue"] is Tissue.LATER and row["patient"] in has_primary:
        return "recurrent or metastatic, and the patient has a primary tumor sample"
    return None
