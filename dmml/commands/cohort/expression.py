"""Turn RNA files into one table of patients × genes, with its provenance.

Reads files of one sample each (STAR-counts of the GDC, STAR's ReadsPerGene.out.tab, htseq-count, RSEM genes.results,
salmon, kallisto, StringTie), folders of such files, and matrices (featureCounts, GCT, Firebrowse, UCSC Xena, or any
other), and .h5ad files of AnnData. Matrices may be genes × samples or patients × genes, with gene symbols, Ensembl ids or Entrez numbers, as CSV,
TSV, space-separated as R writes it, or parquet, also zipped or gzipped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dmml.writable import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="files of one sample each, folders of such files, or tables of many samples",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="E.parquet",
        help="file to write the table to; its provenance is written to E.parquet.json",
    )
    parser.add_argument(
        "--scale",
        help="tpm, counts, fpkm, log2 or zscore (default: detected; a table whose scale is unclear is refused)",
    )
    parser.add_argument(
        "--patients",
        type=Path,
        metavar="CSV",
        help="table that assigns samples to patients: a CSV sample,patient_id, or a sample sheet of the GDC",
    )
    parser.add_argument(
        "--patient-id",
        metavar="COLUMN",
        help="column of the patient ids, for a table of patients × genes, or of the obs of an .h5ad file",
    )
    parser.add_argument(
        "--suffix", help="suffix of the gene columns in a table that also has other columns, such as _rnaseq"
    )
    parser.add_argument(
        "--probes",
        type=Path,
        metavar="CSV",
        help="table that maps row names to genes, if they are probes or transcripts: a CSV probe,symbol, or a GPL table of GEO",
    )
    parser.add_argument("--layer", metavar="NAME", help="layer of the values in an .h5ad file (default: X)")
    parser.add_argument(
        "--gene-names", metavar="COLUMN", help="column of var with the names of genes in an .h5ad file (default: found)"
    )
    parser.add_argument("--all-genes", action="store_true", help="also keep non-coding genes of STAR-counts files")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> None:
    """Build the table, write it, and report what was read, merged and left out."""
    from dmml.cohort.rna.expression import build_expression, check_output, write_expression

    check_output(args.out, args.overwrite)
    check_writable(args.out.parent, "name another file with --out")
    expression = build_expression(
        args.inputs,
        scale=args.scale,
        patients=args.patients,
        patient_id=args.patient_id,
        suffix=args.suffix,
        all_genes=args.all_genes,
        probes=args.probes,
        layer=args.layer,
        gene_names=args.gene_names,
    )
    write_expression(expression, args.out, overwrite=args.overwrite)
    provenance = expression.provenance
    how = "as stated" if provenance["scale_stated"] else "detected"
    print(
        f"{args.out}: {len(expression.table)} patients × {expression.table.shape[1]} genes, {expression.scale} ({how})"
    )
    for unit in provenance.get("read_as", []):
        print(f"  read as: {unit}")
    for reason, count in provenance["counts"].items():
        print(f"  {reason.replace('_', ' ')}: {count}")
    if without := provenance.get("patients_without_tumor_rna"):
        print(
            f"  patients without RNA of a tumor, because all of their samples are of other tissue: {len(without)} "
            f"({', '.join(without)})"
        )
    if changes := provenance["names"]:
        print(f"  the genes that were {' and '.join(changes)} are listed in {args.out}.json")
