"""Builds folders, sample sheets and clinical exports like the GDC's, with every reason for which a patient is left out."""

from __future__ import annotations

import io
import json
import tarfile
import uuid
from pathlib import Path

import numpy as np

HEADER = (
    "gene_id gene_name gene_type unstranded stranded_first stranded_second tpm_unstranded fpkm_unstranded "
    "fpkm_uq_unstranded"
).split()
SUMMARY = ("N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous")
GENES = [
    ("ENSG00000000003.15", "TSPAN6"), ("ENSG00000141510.18", "TP53"), ("ENSG00000146648.20", "EGFR"),
    ("ENSG00000182378.14", "PLCXD1"), ("ENSG00000182378.14_PAR_Y", "PLCXD1"), ("ENSG00000164032.12", "H2AFZ"),
]  # fmt: skip
OLD_NAMES = {
    "cases.submitter_id": "case_submitter_id", "project.project_id": "project_id",
    "demographic.vital_status": "vital_status", "demographic.days_to_death": "days_to_death",
    "demographic.age_at_index": "age_at_index", "demographic.gender": "gender",
    "diagnoses.days_to_last_follow_up": "days_to_last_follow_up",
    "diagnoses.ajcc_pathologic_stage": "ajcc_pathologic_stage",
}  # fmt: skip


def star_text(seed: int, genes=GENES) -> str:
    rng = np.random.default_rng(seed)
    lines = ["# gene-model: GENCODE v36", "\t".join(HEADER)]
    lines += [f"{name}\t\t\t1000\t2000\t3000\t\t\t" for name in SUMMARY]
    for identifier, name in genes:
        count = int(rng.integers(1, 500))
        lines.append(
            f"{identifier}\t{name}\tprotein_coding\t{count}\t{count}\t{count}\t{count / 10}\t{count / 20}\t1.0"
        )
    return "\n".join(lines) + "\n"


class Downloads:
    """One cart: the files on disk, the rows of the sample sheet, and the cases of the clinical export."""

    def __init__(self, root: Path, new_sheet: bool = True):
        self.root, self.rna, self.new_sheet = root, root / "rna", new_sheet
        self.rna.mkdir(parents=True)
        self.sheet: list[dict[str, str]] = []
        self.cases: list[dict] = []

    def sample(
        self, patient: str, kind: str = "Primary Tumor", text: str | None = "whole", listed: bool = True
    ) -> Path:
        """List a file of a patient; `text` is its content, or None if it was never downloaded."""
        seed = len(self.sheet) + 1
        name = f"{uuid.UUID(int=seed)}.rna_seq.augmented_star_gene_counts.tsv"
        path = self.rna / str(uuid.UUID(int=1000 + seed)) / name
        if text is not None:
            path.parent.mkdir()
            path.write_text(star_text(seed) if text == "whole" else text)
            (path.parent / "logs").mkdir()
            (path.parent / "logs" / f"{name}.parcel").write_text("")
        code = {"Primary Tumor": "01A", "Solid Tissue Normal": "11A", "Metastatic": "06A", "Recurrent Tumor": "02A"}[
            kind
        ]
        row = {
            "File ID": path.parent.name, "File Name": name, "Data Category": "Transcriptome Profiling",
            "Data Type": "Gene Expression Quantification", "Project ID": "TCGA-LUAD", "Case ID": patient,
            "Sample ID": f"{patient}-{code}",
        }  # fmt: skip
        if self.new_sheet:
            normal = "Normal" in kind
            row |= {
                "Tissue Type": "Normal" if normal else "Tumor",
                "Tumor Descriptor": kind.split()[0] if not normal else "",
            }
        else:
            row["Sample Type"] = kind
        if listed:
            self.sheet.append(row)
        return path

    def case(
        self, patient: str, vital="Alive", death=None, last=None, follow_ups=(), stage="Stage IIA", **more
    ) -> None:
        """A case of the clinical export, with one primary diagnosis and, as since 2024, one of another cancer."""
        other = {"ajcc_pathologic_stage": "Stage IV", "diagnosis_is_primary_disease": False}
        diagnosis = {
            "ajcc_pathologic_stage": stage,
            "days_to_last_follow_up": last,
            "diagnosis_is_primary_disease": True,
        }
        demographic = {"vital_status": vital, "days_to_death": death, "age_at_index": 61, "gender": "female"} | more
        self.cases.append(
            {
                "submitter_id": patient,
                "project": {"project_id": "TCGA-LUAD"},
                "demographic": demographic,
                "diagnoses": [other, diagnosis],
                "follow_ups": [{"days_to_follow_up": days} for days in follow_ups],
            }
        )

    def write_sheet(self) -> Path:
        path = self.root / "gdc_sample_sheet.tsv"
        columns = list(self.sheet[0])
        lines = ["\t".join(columns), *("\t".join(row[name] for name in columns) for row in self.sheet)]
        slide = {**self.sheet[0], "File Name": "x.svs", "Data Type": "Slide Image"}
        lines.append("\t".join(slide[name] for name in columns))
        path.write_text("\n".join(lines) + "\n")
        return path

    def write_json(self) -> Path:
        path = self.root / "clinical.cart.json"
        path.write_text(json.dumps(self.cases))
        return path

    def _tables(self, old: bool) -> dict[str, str]:
        """clinical.tsv and follow_up.tsv, with one row per diagnosis and `'--` for unknown values."""
        clinical, follow_ups = [], []
        for case in self.cases:
            for diagnosis in case["diagnoses"]:
                row = {"cases.submitter_id": case["submitter_id"], "project.project_id": "TCGA-LUAD"}
                row |= {f"demographic.{key}": value for key, value in case["demographic"].items()}
                row |= {"diagnoses.days_to_last_follow_up": None}
                row |= {f"diagnoses.{key}": value for key, value in diagnosis.items()}
                clinical.append(row)
            follow_ups += [
                {"cases.submitter_id": case["submitter_id"], "follow_ups.days_to_follow_up": f["days_to_follow_up"]}
                for f in case["follow_ups"]
            ]
        texts = {}
        for name, rows in (("clinical.tsv", clinical), ("follow_up.tsv", follow_ups)):
            columns = list(dict.fromkeys(key for row in rows for key in row))
            header = [OLD_NAMES.get(column, column) if old else column for column in columns]
            cells = [["'--" if row.get(c) is None else str(row[c]).lower() if isinstance(row[c], bool) else str(row[c])
                      for c in columns] for row in rows]  # fmt: skip
            texts[name] = "\n".join("\t".join(line) for line in [header, *cells]) + "\n"
        return texts

    def write_tsv(self, old: bool = False) -> list[Path]:
        paths = []
        for name, text in self._tables(old).items():
            paths.append(self.root / name)
            paths[-1].write_text(text)
        return paths

    def write_archive(self) -> Path:
        path = self.root / "clinical.cart.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, text in self._tables(old=False).items():
                info = tarfile.TarInfo(name)
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
        return path


def cart(root: Path, new_sheet: bool = True) -> Downloads:
    """A cart with one patient for each thing that can be missing."""
    made = Downloads(root, new_sheet)
    made.sample("TCGA-05-0001")
    made.case("TCGA-05-0001", "Dead", death=400, last=300)
    made.sample("TCGA-05-0002")  # two primary samples, averaged; the metastasis is not
    made.sample("TCGA-05-0002")
    made.sample("TCGA-05-0002", "Metastatic")
    made.case("TCGA-05-0002", last=None, follow_ups=(100, 900, 500), stage="Stage X")
    made.sample("TCGA-44-0003", "Recurrent Tumor")  # has nothing else
    made.case("TCGA-44-0003", last=50)
    made.sample("TCGA-44-0004", "Solid Tissue Normal")
    made.case("TCGA-44-0004", last=70)
    made.sample("TCGA-44-0005", text=None)
    made.case("TCGA-44-0005", "Dead", death=10)
    whole = star_text(77)
    made.sample("TCGA-44-0006", text=whole[: whole.rindex("\t")][:-6])  # cut inside a line
    made.case("TCGA-44-0006", last=10)
    made.sample("TCGA-44-0007", text="\n".join(whole.splitlines()[:-2]) + "\n")  # cut between lines
    made.case("TCGA-44-0007", last=10)
    broken = made.sample("TCGA-44-0008")
    broken.rename(broken.with_name(broken.name + ".partial"))
    made.case("TCGA-44-0008", last=10)
    made.sample("TCGA-44-0009")  # no clinical case
    made.case("TCGA-44-0010", last=10)  # no RNA
    made.sample("TCGA-44-0011")
    made.case("TCGA-44-0011", "Dead")  # nobody knows when
    made.sample("TCGA-44-0012")
    made.case("TCGA-44-0012", "Not Reported", last=8)
    made.sample("TCGA-44-0013")
    made.case("TCGA-44-0013", last=-3)
    made.sample("TCGA-44-0014")
    made.case("TCGA-44-0014")
    made.sample("TCGA-44-0015", listed=False)
    return made
