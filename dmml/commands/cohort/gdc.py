"""Join the GDC's files (sample sheet, clinical export, downloaded RNA) into a cohort, and report who is left out.

Writes clinical.csv, expression.parquet and left_out.csv, which gives the reasons, into a folder. Without RNA, it writes
clinical.csv and left_out.csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dmml.writable import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "rna",
        type=Path,
        nargs="?",
        metavar="RNA",
        help="folder into which `dmml cohort fetch` or gdc-client downloaded the STAR-counts files",
    )
    parser.add_argument(
        "--sample-sheet",
        type=Path,
        metavar="TSV",
        help="sample sheet of the RNA files (gdc_sample_sheet.tsv)",
    )
    parser.add_argument(
        "--clinical",
        type=Path,
        required=True,
        nargs="+",
        metavar="FILE",
        help="clinical export of the cart: clinical.tsv and follow_up.tsv, the .tar.gz with both, or JSON",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write the cohort into")
    parser.add_argument(
        "--scale", default="tpm", choices=("tpm", "counts", "fpkm"), help="values to read (default tpm)"
    )
    parser.add_argument("--all-genes", action="store_true", help="also keep non-coding genes")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")


def run(args: argparse.Namespace) -> None:
    """Join the files, write the cohort, and report what is present and what is missing."""
    from dmml.cohort.gdc.join import check_output_folder, read_gdc, read_gdc_without_rna, write_gdc
    from dmml.cohort.gdc.summary import summary
    from dmml.errors import InputError

    if (args.rna is None) != (args.sample_sheet is None):
        raise InputError(
            "RNA needs both its folder and --sample-sheet, which assigns its files to patients; name both or none"
        )

    check_output_folder(args.out, args.overwrite)
    check_writable(args.out, "name another folder with --out")
    if args.rna is None:
        cohort = read_gdc_without_rna(args.clinical)
    else:
        cohort = read_gdc(args.rna, args.sample_sheet, args.clinical, args.scale, args.all_genes)
    write_gdc(cohort, args.out)
    names = ("clinical.csv", *(("expression.parquet",) if args.rna is not None else ()), "left_out.csv")
    print(f"{args.out}: {', '.join(names)}")
    for line in summary(cohort):
        print(f"  {line}")
