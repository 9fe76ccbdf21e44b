"""Normal tissue and controls never describe a tumor, in any spelling of the barcode and with any map of patients."""

import argparse

import numpy as np
import pandas as pd
import pytest
from gdc_downloads import Downloads
from rna_tables import GENES, PATIENTS, TPM, by_genes, write_rsem, write_star

from dmml.cohort.cohort_summary import describe_rna
from dmml.cohort.rna.expression import build_expression, read_expression
from dmml.cohort.rna.samples.tissue import Tissue, find_barcode, tissue_of
from dmml.commands.cohort import gdc as cohort_gdc
from dmml.errors import InputError

SPELLINGS = {
    "dashes": str,
    "R's dots": lambda name: name.replace("-", "."),
    "lower case": str.lower,
    "underscores": lambda name: name.replace("-", "_"),
    "no separators": lambda name: name.replace("-", ""),
    "dots in lower case": lambda name: name.replace("-", ".").lower(),
}
KINDS = ["01A-11R-1107-07", "11A-11R-1107-07", "01", "10B", "06A-11R-A", "20A"]
WHO = [PATIENTS[i] for i in (0, 0, 1, 1, 2, 3)]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("way", ["genes × samples", "patients × genes"])
def test_normal_tissue_is_left_out_and_patients_with_nothing_else_are_named(spelling, mapped, way):
    samples = [SPELLINGS[spelling](f"{patient}-{kind}") for patient, kind in zip(WHO, KINDS, strict=True)]
    table = by_genes(TPM[:6], samples)
    options = {"path": "e.csv", "scale": "tpm"}
    if way == "patients × genes":
        table, options = table.T.rename_axis("sample"), {**options, "patient_id": "sample"}
    table.to_csv("e.csv")
    if mapped:
        pd.DataFrame({"sample": samples, "patient_id": WHO}).to_csv("map.csv", index=False)
        options["patients"] = "map.csv"
    read = read_expression(options)
    assert read.patients == PATIENTS[:3]
    np.testing.assert_allclose(read.table[GENES], TPM[[0, 2, 4]], rtol=1e-6)  # a metastasis alone stands in
    assert read.provenance["counts"] == {"normal_samples_dropped": 3}  # none of them called a recurrence
    assert read.provenance["patients_without_tumor_rna"] == [PATIENTS[3]]
    assert f"patients without tumor RNA: 1 ({PATIENTS[3]})" in describe_rna(read)


@pytest.mark.parametrize(
    ("name", "tissue"),
    [
        ("TCGA-05-4000-01A", Tissue.PRIMARY),
        ("TCGA-05-4000", Tissue.PRIMARY),
        ("TCGA-05-4000-02B-11R-1107-07", Tissue.LATER),
        ("TCGA-05-4000-06", Tissue.LATER),
        ("TCGA-05-4000-40A", Tissue.LATER),
        ("TCGA-05-4000-14A", Tissue.NORMAL),
        ("tcga.05.4000.29a", Tissue.NORMAL),
        ("results/TCGA-05-4000-11A.genes.results", Tissue.NORMAL),
        ("TARGET-20-PABHET-14A-01R", Tissue.NORMAL),
        ("TCGA-05-4000-50A", Tissue.CULTURED),
        ("patient-11", Tissue.PRIMARY),
        ("TCGA-05-4000_10x", Tissue.PRIMARY),
    ],
)
def test_sample_types_determine_the_tissue(name, tissue):
    assert tissue_of([name]) is tissue


@pytest.mark.parametrize(
    ("words", "tissue"),
    [
        ("Primary Tumor", Tissue.PRIMARY),
        ("Tumor Recurrence", Tissue.LATER),
        ("Blood Derived Normal", Tissue.NORMAL),
        ("Control Analyte", Tissue.NORMAL),
        ("Abnormal", Tissue.PRIMARY),
        ("11", Tissue.NORMAL),
        ("11.0", Tissue.NORMAL),
        ("6", Tissue.LATER),
        ("1.0", Tissue.PRIMARY),
        ("NT", Tissue.NORMAL),
        ("tumor-adjacent lung", Tissue.NORMAL),
        ("Lung", Tissue.PRIMARY),
        ("TM", Tissue.LATER),
        ("", Tissue.PRIMARY),
    ],
)
def test_descriptions_in_a_sample_sheet_determine_the_tissue(words, tissue):
    assert tissue_of(["x"], words) is tissue


def test_a_barcode_in_another_column_of_a_sheet_counts():
    by_genes(TPM[:3], ["f0", "f1", "f2"]).to_csv("g.csv")
    sheet = {"File Name": ["f0.tsv", "f1.tsv", "f2.tsv"], "Case ID": list("aba"),
             "Sample ID": ["TCGA-05-4000-01A", "TCGA-05-4001-11A", "TCGA-05-4000-11A"]}  # fmt: skip
    pd.DataFrame(sheet).to_csv("sheet.tsv", sep="\t", index=False)
    read = build_expression(["g.csv"], patients="sheet.tsv")
    assert (read.patients, read.provenance["patients_without_tumor_rna"]) == (["a"], ["b"])
    cbioportal = {"SAMPLE_ID": ["f0", "f1", "f2"], "PATIENT_ID": list("aba"),
                  "SAMPLE_TYPE": ["Primary", "Solid Tissue Normal", "Metastasis"]}  # fmt: skip
    pd.DataFrame(cbioportal).to_csv("samples.txt", sep="\t", index=False)
    assert build_expression(["g.csv"], patients="samples.txt").patients == ["a"]


@pytest.mark.parametrize(
    ("words", "kept"),
    [(["tumor", "normal"], "a"), (["Primary Tumor", "Adjacent Normal"], "a"), (["T", "N"], "a"), (["Y", "N"], "ab")],
)
def test_a_column_that_describes_tissue_counts_under_any_name(words, kept):
    by_genes(TPM[:2], ["f0", "f1"]).to_csv("g.csv")
    pd.DataFrame({"sample": ["f0", "f1"], "patient_id": ["a", "b"], "condition": words}).to_csv("map.csv", index=False)
    assert build_expression(["g.csv"], patients="map.csv").patients == list(kept)


def test_patient_ids_that_are_words_for_tissue_are_patients():
    by_genes(TPM[:2], ["f0", "f1"]).to_csv("g.csv")
    pd.DataFrame({"sample": ["f0", "f1"], "patient_id": ["T", "N"]}).to_csv("map.csv", index=False)
    assert build_expression(["g.csv"], patients="map.csv").patients == ["T", "N"]


@pytest.mark.parametrize("spelling", [spelling for spelling in SPELLINGS if spelling != "no separators"])
def test_a_map_finds_barcodes_in_another_spelling_and_of_aliquots(spelling):
    kinds = ["01A-11R-1107-07", "11A", "06A"]
    samples = [f"{patient}-{kind}" for patient, kind in zip(PATIENTS[:3], kinds, strict=True)]
    by_genes(TPM[:3], list(map(SPELLINGS[spelling], samples))).to_csv("g.csv")
    listed = [name[:16] for name in samples]
    pd.DataFrame({"sample": listed, "patient_id": list("abc")}).to_csv("map.csv", index=False)
    assert build_expression(["g.csv"], patients="map.csv").patients == ["a", "c"]
    sheet = {"File Name": ["x.tsv", "y.tsv", "z.tsv"], "Case ID": list("abc"), "Sample ID": listed}
    pd.DataFrame(sheet).to_csv("sheet.tsv", sep="\t", index=False)
    assert build_expression(["g.csv"], patients="sheet.tsv").patients == ["a", "c"]


def test_the_barcode_of_a_folder_counts_if_its_file_has_none():
    for patient, kind, file in zip(PATIENTS, ["01A", "11A"], ["P0", "P1"], strict=False):
        write_rsem(f"rna/{patient}-{kind}/{file}.genes.results")
    assert build_expression(["rna"]).patients == PATIENTS[:1]
    for i in range(2):
        write_rsem(f"nested/P{i}/rsem/genes.results", i)
    assert build_expression(["nested"]).patients == ["P0", "P1"]


def test_a_cohort_of_normal_tissue_is_refused_as_such():
    by_genes(TPM[:2], [f"{PATIENTS[0]}-11A", f"{PATIENTS[1]}-11A"]).to_csv("g.csv")
    with pytest.raises(InputError, match=r"none of the 2 samples .* is of a tumor: they are normal tissue"):
        build_expression(["g.csv"])


def test_files_of_normal_tissue_are_left_out():
    write_star(f"rna/{PATIENTS[0]}-01A.ReadsPerGene.out.tab")
    write_star(f"rna/{PATIENTS[0].replace('-', '.')}.11A.ReadsPerGene.out.tab", seed=1)
    read = build_expression(["rna"])
    assert read.patients == PATIENTS[:1]
    assert read.provenance["counts"]["normal_samples_dropped"] == 1


def test_a_sample_sheet_without_descriptions_is_read_by_its_barcodes(tmp_path, capsys):
    made = Downloads(tmp_path / "gdc")
    made.sample(PATIENTS[0])
    made.sample(PATIENTS[1], "Solid Tissue Normal")
    for patient in PATIENTS[:2]:
        made.case(patient, last=5)
    for row in made.sheet:
        row.pop("Tissue Type", None), row.pop("Tumor Descriptor", None)
    parser = argparse.ArgumentParser()
    cohort_gdc.add_arguments(parser)
    paths = [made.rna, "--sample-sheet", made.write_sheet(), "--clinical", made.write_json(), "--out", "out"]
    cohort_gdc.run(parser.parse_args(list(map(str, paths))))
    assert read_expression("out/expression.parquet").patients == PATIENTS[:1]
    assert (
        f"without RNA of a tumor, because all of their samples are of other tissue: 1 ({PATIENTS[1]})"
        in capsys.readouterr().out
    )


def test_the_barcode_of_a_patient_has_no_sample_type():
    assert find_barcode("TCGA-05-4249") is None
    assert find_barcode("tcga.05.4249.01a.x") == ("TCGA-05-4249", 1)
