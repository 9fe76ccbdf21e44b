"""`dmml doctor`: its counts agree with the tables, and it reports everything that blocks a run at once."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from dmml.commands import doctor
from dmml.errors import InputError
from dmml.store import FeatureStore


def examine(capsys, *argv) -> tuple[str, str]:
    """Output of the command, and the message of its refusal."""
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    refusal = ""
    try:
        doctor.run(parser.parse_args([str(word) for word in argv]))
    except InputError as error:
        refusal = str(error)
    return re.sub(r"\n {20}", " ", capsys.readouterr().out), refusal


def line(out: str, part: str, *words: str) -> str:
    """The line of a part with all the words."""
    lines = [line for line in out.splitlines() if line.startswith(part) and all(word in line for word in words)]
    assert lines, f"no line {part} with {words} in\n{out}"
    return lines[0]


def test_a_sound_cohort_passes(cohorts, capsys):
    out, refusal = examine(capsys, "-c", cohorts.config("d_well", "SubspaceTeacher", data={"split": {"folds": 3}}))
    folder = cohorts.root / "development"
    table = pd.read_csv(folder / "clinical.csv")
    patients = table.drop_duplicates("patient_id")
    rna = set(pd.read_parquet(folder / "expression.parquet", columns=["patient_id"])["patient_id"])
    slides = set(FeatureStore(folder / "features.zarr").slides())
    with_slides = set(table["patient_id"][table["slide_id"].isin(slides)])
    assert refusal == ""
    events = int(patients["os_event"].sum())
    assert f"{len(patients)} patients, {events} events (" in line(out, "outcome", "ok")
    for kind, group in {
        "slides and RNA": rna & with_slides,
        "RNA, no slides": rna - with_slides,
        "slides, no RNA": with_slides - rna,
    }.items():
        assert not group or f"{kind}: {len(group)} patients" in line(out, "join", kind)
    assert f"{len(slides)} slides at [10, 20], simulated, 16 features per tile" in line(out, "features", "ok")
    assert "torch" in line(out, "machine", "ok")
    folds = [row.split() for row in out.splitlines() if re.fullmatch(r"[012]( +\d+){6}", row)]
    assert len(folds) == 3
    assert sum(int(row[5]) for row in folds) == len(patients)
    assert sum(int(row[6]) for row in folds) == events
    assert all(int(row[1]) + int(row[3]) + int(row[5]) == len(patients) for row in folds)
    assert f"only {folds[0][2]} events" in line(
        out, "folds", "check", "fold 0, train"
    )  # thirty patients make small folds
    assert "nothing blocks a run" in out


def test_patients_that_a_split_leaves_out_are_reported(cohorts, capsys, tmp_path):
    ids = list(pd.read_csv(cohorts.root / "development" / "clinical.csv", dtype=str)["patient_id"].unique())
    rows = [(patient, i % 2) for i, patient in enumerate([*ids[:-4], "x1", "x2"])]
    pd.DataFrame(rows, columns=["patient_id", "fold"]).to_csv(tmp_path / "folds.csv", index=False)
    config = cohorts.config("d_split", "SubspaceTeacher", data={"split": str(tmp_path / "folds.csv")})
    out, _ = examine(capsys, "-c", config)
    assert f"4 patients of the clinical table are in no fold (not used): {ids[-4]}" in line(out, "split", "check", "4")
    assert line(out, "split", "check", "2 ids of the split belong to no patient of the clinical table: x")


def test_a_stage_that_was_not_assessed_is_unknown_and_no_level(cohorts, capsys, tmp_path):
    table = pd.read_csv(cohorts.root / "development" / "clinical.csv", dtype={"patient_id": str})
    table["pT"] = table["patient_id"].map(dict(zip(table["patient_id"].unique(), ["T1", "T2", "TX"] * 10, strict=True)))
    table.to_csv(tmp_path / "clinical.csv", index=False)
    data = {"clinical": str(tmp_path / "clinical.csv"), "covariates": ["pT"]}
    out, _ = examine(capsys, "-c", cohorts.config("d_stage", "SubspaceTeacher", data=data))
    assert "pT: 2 levels (T1 < T2), 10 unknown" in line(out, "covariate", "ok")


def test_everything_that_blocks_is_reported_at_once(cohorts, capsys, tmp_path):
    folder = cohorts.root / "development"
    table = pd.read_csv(folder / "clinical.csv", dtype={"patient_id": str})
    rna = pd.read_parquet(folder / "expression.parquet").set_index("patient_id") * 0.3
    rna.to_csv(tmp_path / "rna.csv")
    table["os_event"] = 0
    table.to_csv(tmp_path / "clinical.csv", index=False)
    data = {"clinical": str(tmp_path / "clinical.csv"), "expression": str(tmp_path / "rna.csv"), "batchsize": 3}
    data["max_tokens"] = {5: 100}
    config = cohorts.config(
        "d_ill", "SubspaceTeacher", data=data, trainer={"callbacks": [{"class_path": "GradientCordination"}]}
    )
    out, refusal = examine(capsys, "-c", config)
    assert "its scale cannot be detected" in line(out, "cohort", "BLOCKS")
    assert "all 30 patients are censored" in line(out, "outcome", "check")
    assert "fold 0, train: no event" in line(out, "folds", "BLOCKS")
    assert "GradientCoordination" in line(out, "config", "BLOCKS", "'GradientCordination'")
    assert "did you mean batch_size?" in line(out, "config", "BLOCKS", "batchsize")
    assert "5 is none of data.magnifications" in line(out, "config", "BLOCKS", "max_tokens")
    assert refusal.startswith("5 finding(s) block a run")
    assert "machine" not in out  # torch was not waited for


def test_missing_files_are_all_named(capsys, repository, monkeypatch):
    out, refusal = examine(capsys, "-c", repository / "configs" / "luad.yaml")
    for name in ("clinical.csv", "expression.parquet", "features.zarr"):
        line(out, name.split(".")[0], "BLOCKS", name)
    assert refusal.startswith("3 finding(s) block a run; the first: clinical: data/luad/clinical.csv does not exist")
    with pytest.raises(InputError, match=r"gone.yaml: no such config file"):
        doctor.run(argparse.Namespace(config=["gone.yaml"], ckpt_path=None))


def test_a_flipped_event_is_noticed_on_real_follow_up(shared_data, capsys, tmp_path):
    table = pd.read_csv(shared_data / "tcga_luad" / "clinical.csv", dtype={"patient_id": str})
    table["os_event"] = 1 - table["os_event"]
    table.to_csv(tmp_path / "flipped.csv", index=False)
    for path, flipped in ((shared_data / "tcga_luad" / "clinical.csv", False), (tmp_path / "flipped.csv", True)):
        section = f"clinical: {path}, outcome: {{time: os_days, event: os_event}}, features: {path}"
        (tmp_path / "c.yaml").write_text(f"data: {{{section}}}\n")
        out, _ = examine(capsys, "-c", tmp_path / "c.yaml")
        assert ("are 0 and 1 exchanged" in out) == flipped
        assert ("292 events (65%)" if flipped else "158 events (35%)") in out


def test_genes_of_the_checkpoint_that_the_cohort_lacks_are_reported(journey, capsys, tmp_path):
    held = journey.root / "held_out"
    rna = pd.read_parquet(held / "expression.parquet").set_index("patient_id")
    genes = sorted(rna.columns)
    fewer = rna.drop(columns=genes[::3])
    fewer.mul(1e6 / fewer.sum(axis=1), axis=0).to_csv(tmp_path / "few.csv")
    data = {"expression": {"path": str(tmp_path / "few.csv"), "scale": "tpm"}}
    config = journey.config("d_ckpt", cohort="held_out", data=data)
    out, refusal = examine(capsys, "-c", config, "--ckpt_path", journey.best("teacher"))
    assert refusal == ""
    assert "SubspaceTeacher, fitted on" in line(out, "checkpoint", "ok")
    from dmml.networks.checkpoint import read_checkpoint
    from dmml.networks.packing import unpack

    fitted = unpack(read_checkpoint(journey.best("teacher"))["hyper_parameters"]["fitted"])
    for s, kept in fitted["gene_statistics"].items():
        absent = [gene for gene in kept["genes"] if gene in set(genes[::3])]
        assert f"{len(absent)} imputed ({absent[0]}" in line(out, "checkpoint", "check", f"{s}:")
    z = (np.log2(rna + 1) - 3).round(3)
    z.to_csv(tmp_path / "z.csv")
    data = {"expression": {"path": str(tmp_path / "z.csv"), "scale": "zscore"}}
    out, refusal = examine(
        capsys, "-c", journey.config("d_z", cohort="held_out", data=data), "--ckpt_path", journey.best("teacher")
    )
    assert "standardise the cohort within itself" in refusal


def test_everything_that_blocks_is_detected_without_torch(cohorts, tmp_path):
    config = cohorts.config("d_light", "SubspaceTeacher", data={"clinical": "gone.csv"})
    code = (
        "import sys, argparse; from dmml.commands import doctor; from dmml.errors import InputError\n"
        "try: doctor.run(argparse.Namespace(config=[sys.argv[1]], ckpt_path=None))\n"
        "except InputError: print([m for m in ('torch', 'lightning', 'matplotlib') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(config)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
