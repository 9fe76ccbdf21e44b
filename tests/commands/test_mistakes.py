"""Mistakes of users: exit code 2 and one line that names the mistake and the way out, without a traceback."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dmml.__main__ import main
from dmml.cohort.rna.expression import read_expression


@pytest.fixture
def refused(capsys):
    """Runs a command line that must be refused; returns its one line on stderr."""

    def run(*argv) -> str:
        capsys.readouterr()
        assert main([str(word) for word in argv]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        assert len(lines) == 1, lines
        assert lines[0].startswith("dmml: error: ")
        return lines[0]

    return run


class _Bomb:
    """Unpickling this leaves a file behind."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def table_of_unknown_scale(path: Path) -> Path:
    """Numbers between 0 and 3: log10, ratios, anything."""
    values = np.random.default_rng(0).uniform(0, 3, (12, 30))
    genes = pd.read_csv(Path(__file__).parents[2] / "dmml/cohort/rna/genes/ensembl_gene_index.csv.gz", nrows=400)
    symbols = genes.select_dtypes(exclude="number").iloc[:, -1].drop_duplicates().head(30)
    table = pd.DataFrame(values, index=[f"SIM0-D{i:04d}" for i in range(1, 13)], columns=symbols)
    table.rename_axis("patient_id").to_csv(path)
    return path


def test_a_misspelt_command_gets_a_suggestion(refused):
    assert "did you mean `dmml extract`?" in refused("extrakt", "slides")
    assert "dmml --help" in refused("qqq")
    message = refused("cohort", "splitt")
    assert "expression" in message
    assert "split" in message
    assert "--ckpt_path" in refused("predict-slide", "a.svs", "--out", "o")


def test_a_missing_config_is_named_with_the_existing_ones(refused, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.yaml").write_text("data: {}\n")
    message = refused("fit", "--config", "configs/mnie.yaml")
    assert "configs/mnie.yaml" in message
    assert "configs/mine.yaml" in message


def test_invalid_yaml_is_named_with_its_line(refused, tmp_path):
    (tmp_path / "bad.yaml").write_text("model:\n  class_path: SubspaceTeacher\ndata: {a: [1, 2\ntrainer: 3\n")
    message = refused("fit", "--config", "bad.yaml")
    assert "bad.yaml line 4" in message


def test_a_fit_without_its_data_names_every_missing_file_and_the_documentation(refused, repository):
    message = refused("fit", "--config", repository / "configs" / "luad.yaml")
    for name in ("data/luad/clinical.csv", "data/luad/expression.parquet", "data/luad/features.zarr", "docs/tcga.md"):
        assert name in message
    assert (repository / "docs" / "tcga.md").is_file()


def test_a_missing_checkpoint_is_refused(refused, cohorts, shared_data):
    config = cohorts.config("m_ckpt", cohort="held_out")
    assert "nowhere/best.ckpt" in refused("test", "--ckpt_path", "nowhere/best.ckpt", "--config", config)
    assert "--ckpt_path" in refused("test", "--config", config)
    assert "5: no such checkpoint" in refused("predict", "--ckpt_path", "5", "--config", config)
    assert "not the word 'last'" in refused("test", "--ckpt_path", "last", "--config", config)
    slide = shared_data / "slides" / "cmu_small_region.svs"
    message = refused("predict-slide", slide, "--ckpt_path", "nowhere/best.ckpt", "--out", "o")
    assert "nowhere/best.ckpt" in message
    assert "dmml fit" in message
    teacher = cohorts.config("m_teacher", "SubspaceStudent", model={"teacher": "nowhere/teacher.ckpt"})
    message = refused("fit", "--config", teacher)
    assert "nowhere/teacher.ckpt" in message
    assert "model.teacher" in message
    teachers = cohorts.config("m_teachers", "SubspaceStudent", model={"teacher": ["nowhere/a.ckpt", "nowhere/b.ckpt"]})
    message = refused("fit", "--config", teachers)
    assert "nowhere/a.ckpt (model.teacher[0])" in message
    assert "nowhere/b.ckpt (model.teacher[1])" in message


def test_a_slide_without_a_scale_is_refused(refused, journey, shared_data, tmp_path):
    slide = shared_data / "slides" / "histo_500x300.jpg"
    for argv in (
        ("extract", slide, "--out", "f.zarr"),
        ("predict-slide", slide, "--ckpt_path", journey.best("student"), "--out", "o"),
    ):
        message = refused(*argv)
        assert "histo_500x300.jpg" in message
        assert "--mpp 0.5" in message
    assert not (tmp_path / "f.zarr").exists()
    assert not (tmp_path / "o").exists()
    message = refused("extract", slide, "--out", "f.zarr", "--mpp", "353")
    assert "--mpp 353" in message


def test_a_file_that_is_no_slide_is_refused(refused, journey, shared_data, tmp_path):
    (tmp_path / "x.svs").write_bytes(b"not a slide at all" * 100)
    for name in (tmp_path / "x.svs", shared_data / "slides" / "openslide_fixtures" / "unopenable.tiff"):
        message = refused("predict-slide", name, "--ckpt_path", journey.best("student"), "--out", "o")
        assert name.name in message
    assert "gone.svs: no such file" in refused(
        "predict-slide", "gone.svs", "--ckpt_path", journey.best("student"), "--out", "o"
    )


def test_an_rna_table_of_unknown_scale_is_refused(refused, cohorts, tmp_path):
    table = table_of_unknown_scale(tmp_path / "rna.csv")
    message = refused("cohort", "expression", table, "--out", "e.parquet")
    assert "rna.csv" in message
    assert "--scale tpm|counts|fpkm|log2|zscore" in message
    assert not (tmp_path / "e.parquet").exists()
    config = cohorts.config("m_scale", "SubspaceTeacher", data={"expression": str(table)})
    message = refused("fit", "--config", config)
    assert "scale" in message
    assert "rna.csv" in message


def test_a_patient_in_two_folds_is_refused(refused, cohorts, tmp_path):
    config, patient = config_with_patient_in_two_folds(cohorts, tmp_path)
    message = refused("fit", "--config", config)
    assert patient in message
    assert "split.csv" in message


def config_with_patient_in_two_folds(cohorts, folder: Path) -> tuple[Path, str]:
    """A CSV split that has its third patient in folds 2 and 0."""
    patients = sorted(pd.read_csv(cohorts.root / "development" / "clinical.csv")["patient_id"].unique())
    rows = [(patient, i % 3) for i, patient in enumerate(patients)] + [(patients[2], 0)]
    split = folder / "split.csv"
    pd.DataFrame(rows, columns=["patient_id", "fold"]).to_csv(split, index=False)
    return cohorts.config("m_split", "SubspaceTeacher", data={"split": str(split)}), patients[2]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"outcome": {"time": "os_dys", "event": "os_event", "unit": "days"}}, "os_dys"),
        ({"patient_id": "case"}, "case"),
        ({"covariates": ["age", "shoe_size"]}, "shoe_size"),
    ],
)
def test_a_missing_column_is_named_with_the_existing_ones(refused, cohorts, change, named):
    message = refused("fit", "--config", cohorts.config("m_column", "SubspaceTeacher", data=change))
    assert named in message
    assert "clinical.csv" in message
    assert "os_days" in message  # the columns that are there


def test_a_misspelt_class_gets_a_suggestion(refused, cohorts):
    config = cohorts.config(
        "m_class", "SubspaceTeacher", trainer={"callbacks": [{"class_path": "GradientCordination"}]}
    )
    message = refused("fit", "--config", config)
    assert "trainer.callbacks" in message
    assert "did you mean GradientCoordination?" in message
    config = cohorts.config("m_class", "SubspaceTeacher", trainer={"callbacks": [{"class_path": "Nonsense"}]})
    message = refused("fit", "--config", config)
    assert "'Nonsense'" in message
    assert "my_module.Nonsense" in message


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("model", {"widht": 8}, "did you mean width?"),
        ("data", {"featurs": "x"}, "did you mean features?"),
        ("trainer", {"max_epoch": 3}, "did you mean max_epochs?"),
        ("trainer", {"max_epochs": "many"}, "trainer.max_epochs: many is no int"),
        ("model", {"consistency": "expresion"}, "consistency must be one of"),
        (
            "model",
            {"task": {"class_path": "Survival", "init_args": {"edges_from": "quartiles"}}},
            "edges_from must be one of",
        ),
        ("model", {"task": {"class_path": "my_tasks.Mine"}}, "'my_tasks'"),
    ],
)
def test_a_misspelt_option_or_value_is_named(refused, cohorts, section, change, message):
    assert message in refused("fit", "--config", cohorts.config("m_option", "SubspaceTeacher", **{section: change}))


def test_a_checkpoint_is_never_unpickled(refused, cohorts, shared_data, tmp_path):
    mark = tmp_path / "exploded"
    (tmp_path / "bomb.ckpt").write_bytes(pickle.dumps({"state_dict": _Bomb(mark), "hyper_parameters": {}}))
    with zipfile.ZipFile(tmp_path / "archive.ckpt", "w") as archive:  # as torch.save would lay it out
        content = pickle.dumps({"state_dict": {}, "hyper_parameters": _Bomb(mark)}, protocol=2)
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    (tmp_path / "random.ckpt").write_bytes(np.random.default_rng(0).bytes(4096))
    held = cohorts.config("m_bomb", cohort="held_out")
    slide = shared_data / "slides" / "cmu_small_region.svs"
    for name in ("bomb.ckpt", "archive.ckpt", "random.ckpt"):
        student = cohorts.config("m_bomb_fit", "SubspaceStudent", model={"teacher": str(tmp_path / name)})
        for argv in (
            ("test", "--ckpt_path", name, "--config", held),
            ("predict-slide", slide, "--ckpt_path", name, "--out", "o"),
            ("fit", "--config", student),
        ):
            message = refused(*argv)
            assert name in message
            assert "dmml fit" in message
    assert not mark.exists()
    os.mkdir(mark.with_name("control"))  # the bomb works where a file is unpickled
    pickle.loads((tmp_path / "bomb.ckpt").read_bytes())
    assert mark.exists()


@pytest.mark.slow
def test_features_of_another_encoder_are_refused(refused, journey, tmp_path):
    store = tmp_path / "other.zarr"
    shutil.copytree(journey.root / "held_out" / "features.zarr", store)
    attributes = json.loads((store / "zarr.json").read_text())
    attributes["attributes"]["encoder"]["name"] = "another_network"
    (store / "zarr.json").write_text(json.dumps(attributes))
    config = journey.config("m_encoder", cohort="held_out", data={"features": str(store)})
    message = refused("test", "--ckpt_path", journey.best("student"), "--config", config)
    assert "another_network" in message
    assert "simulated" in message
    assert "extract" in message


def test_an_encoder_of_a_checkpoint_that_dmml_cannot_build_is_named(refused, journey, shared_data):
    slide = shared_data / "slides" / "cmu_small_region.svs"
    message = refused("predict-slide", slide, "--ckpt_path", journey.best("student"), "--out", "o")
    assert "simulated" in message
    assert "--weights" in message


@pytest.mark.slow
def test_rna_on_another_scale_is_refused(refused, journey, tmp_path):
    table = read_expression(str(journey.root / "held_out" / "expression.parquet")).table
    values = (table - table.mean()) / table.std().replace(0, 1)
    values.rename_axis("patient_id").to_csv(tmp_path / "z.csv")
    section = {"expression": {"path": str(tmp_path / "z.csv"), "scale": "zscore"}}
    config = journey.config("m_rna", cohort="held_out", data=section)
    message = refused("test", "--ckpt_path", journey.best("teacher"), "--config", config)
    assert "zscore" in message
    assert "tpm" in message


def test_a_student_is_not_fitted_to_a_cohort_without_slides(refused, cohorts):
    message = refused("fit", "--config", cohorts.config("m_slides", "SubspaceStudent", data={"features": None}))
    assert "data.features" in message
    assert "dmml extract" in message


@pytest.mark.slow
def test_mistakes_are_reported_without_importing_torch(cohorts, journey, shared_data, tmp_path):
    split, patient = config_with_patient_in_two_folds(cohorts, tmp_path)
    jpg = str(shared_data / "slides" / "histo_500x300.jpg")
    table = str(table_of_unknown_scale(tmp_path / "rna.csv"))
    mistakes = [
        (["extrakt"], "did you mean"),
        (["fit", "--config", "gone.yaml"], "gone.yaml"),
        (["extract", "gone.svs", "--out", "f.zarr"], "gone.svs"),
        (["extract", jpg, "--out", "f.zarr"], "--mpp"),
        (["predict-slide", jpg, "--ckpt_path", journey.best("student"), "--out", "o"], "--mpp"),
        (["predict-slide", jpg, "--mpp", "0.5", "--ckpt_path", "gone.ckpt", "--out", "o"], "gone.ckpt"),
        (["cohort", "expression", table, "--out", "e.parquet"], "--scale"),
        (["fit", "--config", str(split)], patient),
    ]
    program = (
        "import contextlib, io, json, sys, time\n"
        "from dmml.__main__ import main\n"
        "stderr, start = io.StringIO(), time.perf_counter()\n"
        "with contextlib.redirect_stderr(stderr):\n"
        "    code = main(sys.argv[1:])\n"
        "heavy = [m for m in ('torch', 'timm', 'lightning', 'matplotlib') if m in sys.modules]\n"
        "print(json.dumps([code, stderr.getvalue(), heavy, time.perf_counter() - start]))\n"
    )
    for argv, expected in mistakes:
        done = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True, check=True)
        code, message, heavy, seconds = json.loads(done.stdout.splitlines()[-1])
        assert code == 2, argv
        assert expected in message
        assert message.count("\n") == 1
        assert heavy == [], argv
        assert seconds < 5, argv  # 1 s on an idle machine; what makes it slow is an import, which the line above finds
