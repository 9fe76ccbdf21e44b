"""STAR-counts files like the GDC's, with made-up numbers."""

from pathlib import Path

HEADER = "gene_id\tgene_name\tgene_type\tunstranded\tstranded_first\tstranded_second\ttpm_unstranded\tfpkm_unstranded\tfpkm_uq_unstranded"
ROWS = [
    # id, name, type, count, tpm, fpkm
    ("ENSG00000000003.15", "TSPAN6", "protein_coding", 100, 10.5, 3.5),
    ("ENSG00000141510.18", "TP53", "protein_coding", 50, 20.0, 7.0),
    ("ENSG00000182378.14", "PLCXD1", "protein_coding", 8, 2.0, 0.5),
    ("ENSG00000182378.14_PAR_Y", "PLCXD1", "protein_coding", 1, 0.25, 0.125),
    ("ENSG00000164032.12", "H2AFZ", "protein_coding", 9, 4.0, 1.5),
    ("ENSG00000211592.8", "IGKC", "IG_C_gene", 9, 90.0, 30.0),
    ("ENSG00000276168.1", "RN7SL1", "misc_RNA", 9, 5.0, 2.0),
    ("ENSG00000274559.1", "Y_RNA", "protein_coding", 1, 0.5, 0.25),
    ("ENSG00000252010.1", "Y_RNA", "protein_coding", 2, 1.5, 0.75),
]


def star(path, factor=1.0, rows=ROWS):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["# gene-model: GENCODE v36", HEADER]
    lines += [
        f"{name}\t\t\t1000\t2000\t3000\t\t\t" for name in ("N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous")
    ]
    lines += [f"{g}\t{n}\t{t}\t{c}\t{c}\t{c}\t{tpm * factor}\t{fpkm}\t{fpkm}" for g, n, t, c, tpm, fpkm in rows]
    path.write_text("\n".join(lines) + "\n")
    return path
