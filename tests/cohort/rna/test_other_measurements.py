"""Mutations, copy numbers, methylation and proteins are refused by their names; unusual RNA is read."""

import numpy as np
import pandas as pd
import pytest
from rna_tables import COUNTS, GENES, TPM, by_genes

from dmml.__main__ import main
from dmml.cohort.rna.expression import build_expression, read_expression
from dmml.cohort.rna.other_measurements import check_values
from dmml.cohort.rna.scale import detect_scale
from dmml.errors import InputError

RNG = np.random.default_rng(3)
MUTATIONS = (RNG.random((12, 80)) < 0.1).astype(int)
THRESHOLDED = RNG.choice([-2, -1, 0, 1, 2], p=[0.05, 0.2, 0.5, 0.2, 0.05], size=(12, 80))
COPIES = RNG.choice([0, 1, 2, 3, 4, 8], p=[0.02, 0.15, 0.5, 0.2, 0.1, 0.03], size=(12, 80))
MUTATIONS_PER_GENE = RNG.choice([0, 1, 3], p=[0.98, 0.015, 0.005], size=(12, 80))
SEGMENTS = np.repeat(RNG.normal(0, 0.6, size=(12, 10)), 8, axis=1)
BETAS = RNG.beta(0.5, 0.5, size=(12, 80))
CASES = {
    "mutations": (MUTATIONS, "counts", "holds mutations or copy numbers, not RNA .its only values are 0 and 1"),
    "mutations as booleans": (MUTATIONS.astype(bool), "counts", "holds mutations or copy numbers, not RNA"),
    "thresholded": (THRESHOLDED, "zscore", "holds copy numbers, not RNA .its values are whole numbers from -2 to 2"),
    "copies": (
        COPIES,
        "counts",
        "holds copy numbers, not RNA .its values are whole numbers up to 8, of which .*% are 2",
    ),
    "mutations per gene": (MUTATIONS_PER_GENE, "counts", "holds numbers of mutations, not RNA"),
    "log ratios": (SEGMENTS, "zscore", "holds copy numbers, not RNA .88% of its genes equal another"),
    "betas": (BETAS, "log2", "holds methylation or other shares from 0 to 1, not RNA"),
}


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("form", ["genes.csv", "patients.csv", "patients.parquet", "suffix.csv"])
def test_other_measurements_are_refused_by_their_values_in_every_form(what, form):
    values, scale, message = CASES[what]
    table, options = by_genes(values), {"path": form}
    if form != "genes.csv":
        table = table.T.rename_axis("case_id")
        options["patient_id"] = "case_id"
    if form == "suffix.csv":
        table, options["suffix"] = table.add_suffix("_x"), "_x"
    table.reset_index().to_parquet(form) if form.endswith("parquet") else table.to_csv(form)
    for stated in (None, scale):
        with pytest.raises(InputError, match=f"{form}: {message}"):
            read_expression({**options, "scale": stated})


@pytest.mark.parametrize(
    ("suffix", "what"),
    [
        ("_mut", "mutations"),
        ("_cnv", "copy numbers"),
        ("_log2CNA", "copy numbers"),
        ("_methylation", "methylation"),
        ("_rppa", "proteins"),
    ],
)
def test_other_measurements_are_refused_by_the_suffix_of_their_columns(suffix, what):
    table = by_genes(TPM).T.rename_axis("case_id")
    wide = pd.concat([table.add_suffix("_rnaseq"), table.add_suffix(suffix)], axis=1)
    wide.to_csv("wide.csv")
    with pytest.raises(InputError, match=f"holds {what}, not RNA .in the columns that end with '{suffix}'"):
        read_expression({"path": "wide.csv", "patient_id": "case_id", "suffix": suffix})
    with pytest.raises(
        InputError, match="names of its gene columns end with '_rnaseq'; add"
    ):  # and is not sent to the others
        read_expression("wide.csv")
    assert read_expression({"path": "wide.csv", "patient_id": "case_id", "suffix": "_rnaseq"}).scale == "tpm"
    table.add_suffix(suffix).to_csv("wide.csv")
    with pytest.raises(InputError, match=f"holds {what} .columns ending with '{suffix}'., but no RNA"):
        read_expression("wide.csv")


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("Hugo_Symbol\tVariant_Classification\tTumor_Sample_Barcode", "TP53\tSilent\tx", "holds mutations .MAF."),
        ("Sample\tChromosome\tNum_Probes\tSegment_Mean", "x\t1\t9\t0.1", "holds segments of copy numbers"),
        ("Gene Symbol\tLocus ID\tCytoband\tx", "TP53\t1\t17p\t0.1", r"holds copy numbers .GISTIC."),
    ],
)
def test_other_measurements_are_refused_by_their_columns(header, row, message):
    with open("e.txt", "w") as file:
        file.write(f"{header}\n{row}\n")
    with pytest.raises(InputError, match=message):
        build_expression(["e.txt"])


def test_other_measurements_are_refused_by_the_names_of_their_rows():
    for table in (by_genes(BETAS, genes=[f"cg{i:08d}" for i in range(80)]), by_genes(BETAS).T):
        table.to_csv("e.csv")
        with pytest.raises(InputError, match="methylation"):
            build_expression(["e.csv"])
    antibodies = [f"{gene}|{gene}{'_pS473' if i % 3 else '-R-V'}" for i, gene in enumerate(GENES)]
    by_genes(RNG.normal(size=(12, 80)), genes=antibodies).to_csv("e.csv")
    with pytest.raises(InputError, match=r"holds proteins, not RNA .* is an antibody"):
        build_expression(["e.csv"])


def test_other_measurements_are_refused_by_the_file_names_of_cbioportal():
    for name, what in (
        ("data_log2_cna.txt", "copy numbers"),
        ("data_mutations.txt", "mutations"),
        ("data_rppa.txt", "proteins"),
    ):
        by_genes(TPM).to_csv(name, sep="\t")
        with pytest.raises(InputError, match=f"holds {what}, not RNA .cBioPortal's {name}"):
            build_expression([name])
    by_genes(TPM).to_csv("data_mrna_seq_tpm.txt", sep="\t")
    assert build_expression(["data_mrna_seq_tpm.txt"]).scale == "tpm"


def test_mutations_in_cells_are_refused_as_such():
    by_genes(TPM).map(lambda value: "p.R175H" if value > 1e4 else "WT").to_csv("e.csv")
    with pytest.raises(InputError, match="is a mutation, not RNA"):
        build_expression(["e.csv"])


def test_a_table_of_mutations_and_copy_numbers_is_refused_as_such(shared_faults, capsys):
    path = str(shared_faults / "table_without_rna" / "ucec_20_patients_no_rna.csv")
    message = {
        (): "holds mutations (columns ending with '_mut') and copy numbers (columns ending with '_cnv'), but no RNA",
        ("--suffix", "_mut", "--scale", "counts"): "holds mutations, not RNA",
        ("--suffix", "_cnv", "--scale", "counts"): "holds copy numbers, not RNA",
    }
    for options, words in message.items():
        assert main(["cohort", "expression", path, "--patient-id", "case_id", *options, "--out", "e.parquet"]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(InputError, match="holds mutations, not RNA"):  # as a config's data section names it
        read_expression({"path": path, "patient_id": "case_id", "suffix": "_mut", "scale": "counts"})


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (RNG.poisson(1.0, size=(12, 80)), "counts"),
        (RNG.poisson(0.3, size=(12, 80)), "counts"),
        (np.where(RNG.random((12, 80)) < 0.97, 0, COUNTS), "counts"),
        (np.where(RNG.random((12, 80)) < 0.9, 0, TPM), "fpkm"),
        (RNG.normal(size=(12, 80)).round(1), "zscore"),
        (RNG.normal(size=(40, 80)).round(), "zscore"),
        (np.log2(TPM + 1), "log2"),
        (TPM[:, :3], "tpm"),
    ],
)
def test_unusual_rna_is_read(values, scale):
    by_genes(values, range(len(values)), GENES[: values.shape[1]]).to_csv("e.csv")
    assert build_expression(["e.csv"], scale=scale).scale == scale


def test_z_scores_of_genes_that_few_patients_express_are_not_taken_for_segments():
    """Genes that only one patient expresses have equal z-scores, whatever their values."""
    values = np.zeros((12, 80))
    values[np.arange(80) % 12, np.arange(80)] = TPM.max(axis=0)
    values[:, :30] = TPM[:, :30]
    z = np.log2(values + 1)
    check_values("e", (z - z.mean(0)) / z.std(0))


def test_real_tables_of_rna_are_read_and_their_copy_numbers_refused(shared_data):
    path = shared_data / "tcga_luad/mcat_luad_all_clean.csv.zip"
    wide = pd.read_csv(path, low_memory=False)
    check_values("luad", wide.filter(like="_rnaseq").to_numpy(float))
    with pytest.raises(InputError, match="copy numbers"):
        check_values("luad", wide.filter(regex="_cnv$").to_numpy(float))


def test_whole_numbers_are_not_taken_for_a_logarithm():
    assert detect_scale(RNG.poisson(4.0, size=(12, 80)).astype(float)) is None
