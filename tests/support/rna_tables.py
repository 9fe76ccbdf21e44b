"""Small RNA tables of twelve patients, and one table in the formats of programs and portals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dmml.cohort.gene_sets.gene_sets import genes_of, read_gene_sets
from dmml.cohort.rna.genes.gene_names import ensembl_index

_IDS = {symbol: identifier for identifier, symbol in ensembl_index().items()}
GENES = [gene for gene in genes_of(read_gene_sets()["tumor"]) if gene in _IDS][:80]
ENSEMBL = [_IDS[gene] for gene in GENES]
PATIENTS = [f"TCGA-05-{4000 + i}" for i in range(12)]
SAMPLES = [f"{patient}-01A-11R-1107-07" for patient in PATIENTS]
COUNTS = np.random.default_rng(0).negative_binomial(2, 0.01, size=(12, 80))
TPM = np.random.default_rng(1).gamma(0.5, size=(12, 80))
TPM *= 1e6 / TPM.sum(1, keepdims=True)
LENGTHS = np.random.default_rng(2).integers(500, 5000, size=80)


def by_genes(values=COUNTS, samples=SAMPLES, genes=GENES) -> pd.DataFrame:
    """(genes × samples) of values (samples, genes)."""
    return pd.DataFrame(np.asarray(values).T, index=pd.Index(genes, name="gene"), columns=samples)


def write_lines(path, rows) -> Path:
    """Write tab-separated lines; folders are created."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


def write_star(path, seed=0, forward=0.5) -> Path:
    """Write STAR's ReadsPerGene.out.tab; `forward` is the share of reads on one strand."""
    counts = np.random.default_rng(seed).negative_binomial(2, 0.01, size=80)
    on_strand = np.rint(counts * forward).astype(int)
    summary = [(name, 10**6, 10**6, 10**6) for name in ("N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous")]
    return write_lines(path, [*summary, *zip(ENSEMBL, counts, on_strand, counts - on_strand, strict=True)])


def write_rsem(path, row=0, names=ENSEMBL) -> Path:
    """Write RSEM's genes.results of one patient."""
    header = ["gene_id", "transcript_id(s)", "length", "effective_length", "expected_count", "TPM", "FPKM"]
    genes = [
        (name, "T1,T2", "1500.00", "1300.00", count + 0.5, tpm, tpm / 2)
        for name, count, tpm in zip(names, COUNTS[row], TPM[row], strict=False)
    ]
    return write_lines(path, [header, *genes])


def write_salmon(path, row=0, names=ENSEMBL) -> Path:
    """Write salmon's quant.sf or quant.genes.sf of one patient."""
    genes = [(name, 1500, 1300.5, TPM[row, i % 80], f"{COUNTS[row, i % 80]}.000") for i, name in enumerate(names)]
    return write_lines(path, [("Name", "Length", "EffectiveLength", "TPM", "NumReads"), *genes])


def write_kallisto(path, row=0, names=ENSEMBL) -> Path:
    """Write kallisto's abundance.tsv of one patient."""
    genes = [(name, 1500, 1300.5, COUNTS[row, i % 80], TPM[row, i % 80]) for i, name in enumerate(names)]
    return write_lines(path, [("target_id", "length", "eff_length", "est_counts", "tpm"), *genes])


def write_feature_counts(path, alignments, counts=COUNTS, names=ENSEMBL, gene_name=None) -> Path:
    """Write featureCounts' table of some alignments, with the first rows of the counts."""
    counts = counts[: len(alignments)]
    header = ["Geneid", "Chr", "Start", "End", "Strand", "Length", *(["gene_name"] if gene_name else []), *alignments]
    rows = [
        [name, "chr1;chr1", "1;20", "9;30", "+;+", LENGTHS[i], *([gene_name[i]] if gene_name else []), *counts[:, i]]
        for i, name in enumerate(names)
    ]
    command = ['# Program:featureCounts v2.0.6; Command:"featureCounts" "-a" "x.gtf"']
    return write_lines(path, [command, header, *rows])


def values(expression, genes=GENES) -> np.ndarray:
    """(patients, genes) values of an `Expression`."""
    return expression.table[list(genes)].to_numpy()


def forms(expression) -> set[str]:
    """Names of the formats in the provenance of an `Expression`."""
    return {source["form"] for source in expression.provenance["sources"]}


SIXTY_GENES = genes_of(read_gene_sets()["tumor"])[:60]


def tpm_table(samples=10, genes=SIXTY_GENES, seed=0) -> pd.DataFrame:
    """(samples × genes) of TPM; the samples are p0, p1, …."""
    table = np.random.default_rng(seed).gamma(0.5, size=(samples, len(genes)))
    return pd.DataFrame(
        1e6 * table / table.sum(1, keepdims=True), index=[f"p{i}" for i in range(samples)], columns=genes
    )
