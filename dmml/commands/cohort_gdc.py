"""Join the GDC's files (sample sheet, clinical export, downloaded RNA) into a cohort, and report who is left out.

Writes clinical.csv, expression.parquet and left_out.csv, which gives the reasons, into a folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dmml.writable import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "rna", type=Path, metavar="RNA", help="folder that gdc-client downloaded STAR-counts files into"
    )
    parser.add_argument(
        "--sample-sheet",
        type=Path,
        required=True,
        metavar="TSV",
        help="sample sheet of the RNA cart (gdc_sample_sheet.tsv)",
    )
    parser.add_argument(
        "--clinical",
        type=Path,
        required=True,
        nargs="+",
        metavar="FILE",
        help="clinical export of the cart: clinical.tsv and follow_up.tsv, their .tar.gz, or JSON",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the cohort")
    parser.add_argument(
        "--scale", default="tpm", choices=("tpm", "counts", "fpkm"), help="column to read (default tpm)"
    )
    parser.add_argument("--all-genes", action="store_true", help="keep non-coding genes too")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")


def run(args: argparse.Namespace) -> None:
    """Join the files, write the cohort and report what is present and what is missing."""
    from dmml.cohort.gdc.join import read_gdc, refuse_there, summary, write_gdc

    refuse_there(args.out, args.overwrite)
    check_writable(args.out, "name another folder with --out")
    cohort = read_gdc(args.rna, args.sample_sheet, args.clinical, args.scale, args.all_genes)
    write_gdc(cohort, args.out)
    print(f"{args.out}: clinical.csv, expression.parquet, left_out.csv")
    for line in summary(cohort):
        print(f"  {line}")
