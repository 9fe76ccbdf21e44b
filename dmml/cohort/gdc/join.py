"""Builds a cohort from GDC downloads: joins sample sheet, RNA files and clinical export, and lists what is missing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from dmml._version import __version__
from dmml.cohort.gdc.clinical import read_gdc_clinical
from dmml.cohort.rna.expression import Expression, file_source, write_expression
from dmml.cohort.rna.formats.star_counts import StarCounts, combine, find_star_counts, read_star_counts
from dmml.cohort.rna.samples.patient_average import average_patients
from dmml.cohort.rna.samples.patient_map import tissue_columns
from dmml.cohort.rna.samples.tissue import Tissue, tissue_of
from dmml.cohort.tables.id_columns import read_ids
from dmml.cohort.tables.text_table import open_table, read_rows
from dmml.errors import InputError

FILES = ("clinical.csv", "expression.parquet", "left_out.csv")
"""Files that `write_gdc` writes."""
_RNA = "Gene Expression Quantification"


@dataclass
class GdcCohort:
    """A cohort joined from the GDC's downloads."""

    clinical: pd.DataFrame
    """Clinical table, see `read_gdc_clinical`."""
    expression: Expression
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
        raise InputError(f"{rna}: no such folder; name the one that gdc-client downloaded the RNA files into")
    lost: list[dict[str, str]] = []
    samples, files = _read_samples(Path(rna), listed, scale, all_genes, lost)
    if not samples:
        first = f" ({lost[0]['file']}: {lost[0]['reason']})" if lost else ""
        raise InputError(f"{rna}: no RNA file of the sheet can be used{first}; is it the sheet of these files?")
    matrix, notes, genes = combine(samples, str(rna))
    patients = [listed.loc[sample, "patient"] for sample in matrix.index]
    averaged, counts = average_patients(matrix, patients)
    with_rna = set(averaged.index)
    for patient in sorted({*listed["patient"]} - with_rna):
        if not any(entry["patient_id"] == patient for entry in lost):
            lost.append(_entry(patient, "RNA", "", "no RNA file in the sample sheet"))
    lost += [
        _entry(p, "RNA", "", "no RNA file in the sample sheet") for p in table.index if p not in {*listed["patient"]}
    ]
    lost += [_entry(p, "clinical", "", "no case in the clinical export") for p in sorted(with_rna - {*table.index})]
    lost += [_entry(patient, "outcome", "", reason) for patient, reason in reasons.items()]
    if not with_rna & {*table.index}:
        raise InputError(
            f"{sheet}: none of its {len(with_rna)} patients ({min(with_rna)}, …) is in the clinical export "
            f"({table.index[0]}, …); export both from one cart"
        )
    left_out = pd.DataFrame(lost, columns=["patient_id", "what", "file", "reason"])
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


def refuse_there(out: Path, overwrite: bool) -> None:
    """Refuse an output folder that already contains a cohort.

    Raises:
        InputError: One of `FILES` exists and `overwrite` is off.
    """
    there = [name for name in FILES if (out / name).exists()]
    if there and not overwrite:
        raise InputError(f"{out / there[0]}: is there already; add --overwrite, or name another folder")


def write_gdc(cohort: GdcCohort, out: Path) -> None:
    """Write the three files of a cohort; each one exists in full or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    for name, table in (("left_out.csv", cohort.left_out.set_index("patient_id")), ("clinical.csv", cohort.clinical)):
        temporary = out / f".{name}.{os.getpid()}"
        temporary.write_text(table.to_csv(), encoding="utf-8")
        os.replace(temporary, out / name)
    write_expression(cohort.expression, out / "expression.parquet", overwrite=True)


def summary(cohort: GdcCohort) -> list[str]:
    """Summarise a cohort in lines: counts of patients, and how many were left out for each reason."""
    clinical, rna = cohort.clinical, set(cohort.expression.patients)
    known = clinical["os_days"].notna()
    both = known & clinical.index.isin(rna)
    lines = [
        f"{len(clinical)} patients with clinical data, {int(known.sum())} with outcome, "
        f"{int(clinical['os_event'].sum())} died",
        f"{len(rna)} patients with RNA, {cohort.expression.table.shape[1]} genes, {cohort.expression.scale}",
        f"{int(both.sum())} patients with both",
    ]
    if without := patients_without_tumor(cohort.left_out, rna):
        lines.append(
            f"patients without tumor RNA, since none of their samples is of a tumor: {len(without)} ({', '.join(without)})"
        )
    reasons = Counter((what, reason.split(":")[0]) for what, reason in cohort.left_out[["what", "reason"]].to_numpy())
    return lines + [f"  {count} without {what}: {reason}" for (what, reason), count in sorted(reasons.items())]


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


def _entry(patient: str, what: str, file: str, reason: str) -> dict[str, str]:
    return {"patient_id": patient, "what": what, "file": file, "reason": reason}


def _read_sheet(path: Path) -> pd.DataFrame:
    """Read the RNA rows of a sample sheet: `file`, `patient` and `tissue`, indexed by file name up to its first dot."""
    table = open_table(path)
    absent = [name for name in ("File Name", "Case ID") if name not in table.columns]
    if absent:
        raise InputError(
            f"{path}: no column {absent[0]!r} (there are: {', '.join(table.columns[:8])}); it must be the sample sheet of the "
            "cart (button Sample Sheet), not the manifest"
        )
    words, barcodes = tissue_columns(table)
    data_type = ["Data Type"] if "Data Type" in table.columns else []
    rows = read_rows(table, ["File Name", "Case ID", *data_type, *words, *barcodes])
    if "Data Type" in rows:
        rows = rows[rows["Data Type"] == _RNA]
    rows = rows.dropna(subset=["File Name", "Case ID"])
    rows["Case ID"] = read_ids(table, rows["Case ID"])
    if rows.empty:
        raise InputError(f"{path}: lists no RNA file ({_RNA}); save the sheet of the RNA cart")
    listed = pd.DataFrame(
        {
            "file": rows["File Name"],
            "patient": rows["Case ID"].str.split(",").str[0].str.strip(),
            "tissue": [
                tissue_of(row[["File Name", *barcodes]].fillna(""), " ".join(row[words].fillna("")))
                for _, row in rows.iterrows()
            ],
        }
    )
    listed.index = listed["file"].str.split(".").str[0]
    if listed.index.has_duplicates:
        raise InputError(f"{path}: file {listed.index[listed.index.duplicated()][0]} is listed twice; remove one row")
    return listed


def _read_samples(
    folder: Path, listed: pd.DataFrame, scale: str, all_genes: bool, lost: list[dict[str, str]]
) -> tuple[list[StarCounts], list[Path]]:
    """Read the samples to use and their paths; entries for files that cannot be used are added to `lost`."""
    found = {
        path.name.split(".")[0]: path for path in find_star_counts(folder)[0] if not path.name.endswith(".partial")
    }
    named = {path.name for path in folder.rglob("*") if path.is_file()}
    lost += [
        _entry("", "clinical", path.name, "RNA file that the sample sheet does not list")
        for sample, path in found.items()
        if sample not in listed.index
    ]
    has_primary = set(listed["patient"][(listed["tissue"] == Tissue.PRIMARY) & listed.index.isin(list(found))])
    read: list[tuple[StarCounts, Path]] = []
    for sample, row in tqdm(listed.iterrows(), total=len(listed), desc="STAR-counts", unit="file", disable=None):
        reason = None
        if not row["tissue"].is_tumor:
            reason = row["tissue"].value
        elif sample not in found:
            own = [name for name in named if name.split(".")[0] == sample and not name.endswith(".parcel")]
            partial = any(name.endswith(".partial") for name in own)
            reason = "download was broken off" if partial else "no STAR-counts file" if own else "not downloaded"
        elif row["tissue"] is Tissue.LATER and row["patient"] in has_primary:
            reason = "recurrent or metastatic, and the patient has a primary tumor sample"
        else:
            try:
                read.append((read_star_counts(found[sample], scale, all_genes), found[sample]))
            except InputError as error:
                reason = f"damaged: {error}"
        if reason:
            lost.append(_entry(row["patient"], "RNA", row["file"], reason))
    sizes = Counter(len(one.values) for one, _ in read)
    usual = sizes.most_common(1)[0][0] if sizes else 0
    for one, path in read:
        if len(one.values) < usual:
            reason = f"damaged: {len(one.values)} genes, where the other files have {usual}; fetch it again"
            lost.append(_entry(listed.loc[one.sample, "patient"], "RNA", path.name, reason))
    whole = [(one, path) for one, path in read if len(one.values) >= usual]
    return [one for one, _ in whole], [path for _, path in whole]
