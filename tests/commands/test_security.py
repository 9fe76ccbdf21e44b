"""Hostile inputs are refused or treated as text: no code runs, and nothing is written outside of its folder.

A hostile pickle as checkpoint is in `test_mistakes.py::test_a_checkpoint_is_never_unpickled`; markup in a patient id, in
`tests/evaluation/report/test_report.py`; tensors that would have to be unpickled, in the tests of encoders' weights
and of imported features.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from dmml.__main__ import main
from dmml.commands.config.preflight import check
from dmml.errors import InputError
from dmml.store import FeatureStore, SlideFeatures

ODD = ["../x", "../../x", "..", ".", "/tmp/x", "a/b", "a\\b", "a\0b", ".hidden", ""]


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


def files(folder: Path) -> dict[str, bytes]:
    """All that lies in a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    """One slide, in a folder that holds something else too."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "kept.txt").write_text("not a slide's")
    store = FeatureStore.create(tmp_path / "inner" / "f.zarr", {"name": "e", "dim": 4}, {10: 1.0})
    store.write("good", {10: bag()}, {})
    return store


def bag() -> SlideFeatures:
    return SlideFeatures(np.ones((3, 4), np.float16), np.zeros((3, 2), np.float32))


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("url", [False, True], ids=["folder", "url"])
def test_a_slide_id_does_not_lead_out_of_the_store(store, tmp_path, name, url):
    before = files(tmp_path)
    if url:
        store = FeatureStore(f"local://{store.path}", mode="r+")
    with pytest.raises(InputError, match="cannot be the id of a slide") as error:
        store.write(name, {10: bag()}, {})
    assert "\n" not in str(error.value)
    assert files(tmp_path) == before
    assert name not in store
    with pytest.raises(InputError, match="no slide"):
        store.read(name, 10)
    assert store.slides() == ["good"]


def test_a_slide_id_does_not_read_outside_of_the_store(store):
    """Another store's slide, by a path that leads to it."""
    other = FeatureStore.create(Path(store.path).parent / "other.zarr", {"name": "e", "dim": 4}, {10: 1.0})
    other.write("secret", {10: bag()}, {})
    assert Path(store.path, "slides/../../other.zarr/slides/secret/zarr.json").is_file(), "the path leads there"
    assert "../../other.zarr/slides/secret" not in store


def test_slides_whose_names_are_paths_are_not_extracted(refused, tmp_path):
    """The stem of `...tif` is `..`, which is the folder above."""
    pixels = np.random.default_rng(0).integers(60, 220, (600, 600, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "...tif", "TIFF")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept.txt").write_text("kept")
    message = refused("extract", "...tif", "--out", "out/f.zarr", "--mpp", "0.5")
    assert "'..', which cannot be the id of a slide" in message
    assert files(tmp_path / "out").pop("kept.txt") == b"kept"
    assert not list(tmp_path.glob("out/*.zarr/slides/*/*"))


def test_features_whose_names_are_paths_are_not_imported(refused, tmp_path):
    import h5py

    (tmp_path / "foreign").mkdir()
    with h5py.File(tmp_path / "foreign" / "...h5", "w") as file:
        file["features"] = np.ones((4, 8), np.float32)
        file["coords"] = np.array([[0, 0], [512, 0], [0, 512], [512, 512]])
    scale = ["--encoder", "resnet50", "--mpp", "0.25", "--level0-px", "512", "--patch-px", "256"]
    message = refused("features", "import", "foreign", "--out", "f.zarr", *scale)
    assert "'..', which cannot be the id of a slide" in message
    assert not [name for name in files(tmp_path) if not name.startswith("foreign/")]


def test_an_answer_does_not_replace_the_parent_folder(tmp_path):
    from dmml.experiment.predict_slide.input import check_input

    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "...tif", "TIFF")
    with pytest.raises(InputError, match=r"'\.\.', which cannot be"):
        check_input([tmp_path / "...tif"], tmp_path / "o", mpp=0.5, one_patient=False, overwrite=True)


@pytest.mark.parametrize("name", ["../../../escaped", "/tmp/dmml_escaped", "a/b"])
def test_results_stay_in_the_run_folder(refused, cohorts, name):
    """The cohort's name is the folder of its results."""
    config = cohorts.config("s_name", "SubspaceTeacher", data={"name": name})
    assert "data.name" in refused("fit", "--config", config)


@pytest.mark.slow
def test_ids_of_patients_and_slides_are_only_text(cohorts, journey, tmp_path, capsys):
    """A whole test of a cohort whose ids are paths, NUL and markup: what is written lies in the run folder."""
    world = tmp_path / "a" / "b" / "c"
    shutil.copytree(cohorts.root / "held_out", world / "held_out")
    shutil.copytree(journey.run("student"), world / "run")
    table = pd.read_csv(world / "held_out" / "clinical.csv", dtype=str)
    hostile = [
        "../x",
        "../../../escaped",
        f"{tmp_path}/absolute",
        "<script>alert(1)</script>",
        "a;touch x",
        "..",
        "%2e%2e",
    ]
    ids = sorted(table["patient_id"].unique())[: len(hostile)]
    renamed = dict(zip(ids, hostile, strict=True))
    slides = "slide_id" if "slide_id" in table else "patient_id"
    if slides == "patient_id":
        table["slide_id"] = table["patient_id"]
    table["patient_id"] = table["patient_id"].replace(renamed)
    extra = table.iloc[:3].copy()
    extra["slide_id"] = ["../../../zarr.json", "..", "../../held_out/features.zarr/slides"]
    pd.concat([table, extra]).to_csv(world / "held_out" / "clinical.csv", index=False)
    config = cohorts.config("s_ids", cohort="held_out")
    content = yaml.safe_load(config.read_text())
    content["data"]["init_args"] |= {
        "clinical": str(world / "held_out" / "clinical.csv"),
        "features": str(world / "held_out" / "features.zarr"),
        "slide_id": "slide_id",
        "expression": None,
    }
    config.write_text(yaml.safe_dump(content))
    outside = {name for name in files(tmp_path) if not name.startswith("a/b/c/run/")}
    assert main(["test", "--ckpt_path", str(world / "run/checkpoints/best.ckpt"), "--config", str(config)]) == 0
    written = files(tmp_path)
    assert {name for name in written if not name.startswith("a/b/c/run/")} == outside
    predictions = pd.read_csv(world / "run/test/held_out/predictions.csv")
    assert set(hostile) <= set(predictions["patient_id"]), "they were predicted, under the names they have"
    page = (world / "run/test/held_out/report.html").read_text()
    assert "<script>alert(1)" not in page
    names = {part for name in written for part in Path(name).parts}
    assert not names & {"escaped", "absolute"}
    capsys.readouterr()


TAGS = [
    "!!python/object/apply:os.mkdir [{mark}]",
    "!!python/object/new:os.mkdir [{mark}]",
    "!!python/name:os.mkdir",
    "!!python/module:os",
    "!<tag:yaml.org,2002:python/object/apply:os.mkdir> [{mark}]",
    "!mine {{a: 1}}",
]


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_in_yaml_runs_nothing(refused, cohorts, tmp_path, tag):
    mark = tmp_path / "exploded"
    hostile = tag.format(mark=mark)
    good = cohorts.config("s_tag", "SubspaceTeacher")
    (tmp_path / "bad.yaml").write_text(good.read_text() + f"seed_everything: {hostile}\n")
    message = refused("fit", "--config", "bad.yaml")
    assert "bad.yaml line" in message
    for option in ("--data", "--trainer"):
        (tmp_path / "part.yaml").write_text(f"class_path: {hostile}\n")
        assert "part.yaml" in refused("fit", "--config", good, option, "part.yaml")
    assert "--trainer.max_epochs" in refused("fit", "--config", good, "--trainer.max_epochs", hostile)
    assert not mark.exists()


ENDLESS = {
    "itself": "x: &a [*a]",
    "repeats": "a: &a [x]\n" + "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefgh")),
    "deep": f"x: {'[' * 3000}{']' * 3000}",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_anchors_of_yaml_do_not_fill_the_memory(refused, cohorts, tmp_path, kind):
    good = cohorts.config("s_endless", "SubspaceTeacher")
    (tmp_path / "bad.yaml").write_text(f"{good.read_text()}\n{ENDLESS[kind]}\n")
    assert "bad.yaml: " in refused("fit", "--config", "bad.yaml")


def test_ordinary_anchors_of_yaml_are_followed(cohorts, tmp_path):
    """A config may share a value."""
    text = cohorts.config("s_anchor", "SubspaceTeacher").read_text()
    (tmp_path / "c.yaml").write_text(text.replace("max_epochs: 1", "max_epochs: &n 7\n  log_every_n_steps: *n"))
    read = check(["fit", "--config", "c.yaml"]).config["trainer"]
    assert (read["max_epochs"], read["log_every_n_steps"]) == (7, 7)


def test_a_name_in_braces_is_a_variable_of_the_environment_or_refused(refused, cohorts, tmp_path, monkeypatch):
    good = cohorts.config("s_env", "SubspaceTeacher")
    for value in ("${oc.env:DMML_IS_NOT_SET}", "${exec:touch x}", "${oc.decode:'${x}'}"):
        (tmp_path / "bad.yaml").write_text(f"{good.read_text()}\nseed_everything: {value}\n")
        assert "${...}" in refused("fit", "--config", "bad.yaml")
    monkeypatch.setenv("DMML_EPOCHS", "3")
    (tmp_path / "good.yaml").write_text(good.read_text().replace("max_epochs: 1", "max_epochs: ${oc.env:DMML_EPOCHS}"))
    assert str(check(["fit", "--config", "good.yaml"]).config["trainer"]["max_epochs"]) == "3"


def test_a_class_path_that_names_another_callable_is_not_called(refused, cohorts, tmp_path):
    """Where a config names a model, a task or a callback; docs/scaling.md says what naming a class means."""
    mark = tmp_path / "exploded"
    text = cohorts.config("s_callable", "SubspaceTeacher").read_text()
    named = {"class_path": "os.mkdir", "init_args": {"path": str(mark)}}
    for section, name, place in (("model", None, None), ("model", "init_args", "task"), ("trainer", "callbacks", 0)):
        content = yaml.safe_load(text)
        if name is None:
            content[section] = named
        else:
            content[section][name][place] = named
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump(content))
        assert "os.mkdir does not correspond to a subclass" in refused("fit", "--config", "bad.yaml")
    assert not mark.exists()


def test_an_unsafe_yaml_reader_would_run_the_tags(tmp_path):
    """Otherwise the test above would prove nothing."""
    yaml.unsafe_load(TAGS[0].format(mark=tmp_path / "exploded"))
    assert (tmp_path / "exploded").is_dir()


@pytest.mark.slow
def test_no_run_is_resumed_from_a_checkpoint_that_contains_code(refused, cohorts, tmp_path):
    """`last.ckpt` of an unfinished run, and weights to start from, replaced by an attacker."""

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    config = cohorts.config("s_resume", "SubspaceTeacher")
    checkpoints = cohorts.run("s_resume") / "checkpoints"
    checkpoints.mkdir(parents=True)
    bomb = checkpoints / "last.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": Bomb()}, bomb)
    digest = check(["fit", "--config", str(config), "--overwrite"]).digest
    (checkpoints.parent / "provenance.json").write_text(json.dumps({"digest": digest, "finished": None}))
    for more in (["--resume"], ["--resume", "--ckpt_path", str(bomb)]):
        message = refused("fit", "--config", config, *more)
        assert "can be read safely" in message or "another configuration" in message
    assert "can be read safely" in refused("fit", "--config", config, "--resume")
    start = cohorts.config("s_init", "SubspaceTeacher", model={"init_from": str(bomb)})
    assert "can be read safely" in refused("fit", "--config", start)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_a_checkpoint_behind_a_url_is_refused(refused, cohorts, verb):
    """Lightning would download and unpickle it."""
    config = cohorts.config(f"s_url_{verb}", "SubspaceTeacher")
    message = refused(verb, "--config", config, "--ckpt_path", "https://host.example/evil.ckpt")
    assert "not from a URL" in message


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_no_command_unpickles_a_checkpoint(cohorts, tmp_path, verb, monkeypatch):
    """Lightning itself is called with `weights_only=True`, in case the earlier checks miss something."""
    from lightning.pytorch import Trainer

    assert main(["fit", "--config", str(cohorts.config("s_only", "SubspaceTeacher")), "--overwrite"]) == 0
    arguments = {}

    def run(self, *args, **keywords):
        arguments.update(keywords)
        raise InputError("seen enough")

    monkeypatch.setattr(Trainer, "_run", run)
    best = str(cohorts.run("s_only") / "checkpoints" / "best.ckpt")
    assert main([verb, "--config", str(cohorts.config("s_only_c", None)), "--ckpt_path", best]) == 2
    assert arguments["weights_only"] is True


def test_the_name_of_a_second_cohort_must_not_be_a_path(refused, cohorts):
    content = yaml.safe_load(cohorts.config("s_also", "SubspaceTeacher").read_text())
    first = content["data"]["init_args"]
    other = first | {"name": "x/../../../tmp/y", "clinical": str(cohorts.root / "held_out" / "clinical.csv")}
    content["data"]["init_args"]["also"] = [other]
    config = cohorts.root / "s_also.yaml"
    config.write_text(yaml.safe_dump(content))
    assert "give a name without separators of paths" in refused("fit", "--config", config)


def test_a_file_in_the_working_directory_does_not_replace_a_package(tmp_path, monkeypatch):
    (tmp_path / "yaml.py").write_text("raise SystemExit('someone else')\n")
    code = "from dmml.__main__ import main; main(['--version']); import yaml; print(yaml.__file__)"
    run = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert str(tmp_path) not in run.stdout


@pytest.mark.parametrize("coordinated", [True, False])
@pytest.mark.parametrize(
    "strategy",
    [
        "fsdp",
        "deepspeed_stage_3",
        {"class_path": "lightning.pytorch.strategies.FSDPStrategy"},
        {"class_path": "ModelParallelStrategy"},
    ],
)
def test_sharded_models_are_refused_with_the_reason(refused, cohorts, strategy, coordinated):
    trainer = {"strategy": strategy} | ({} if coordinated else {"callbacks": []})
    message = refused("fit", "--config", cohorts.config("s_fsdp", "SubspaceTeacher", trainer=trainer))
    assert "trainer.strategy" in message
    assert "strategy: ddp" in message
    assert not cohorts.run("s_fsdp").exists()


@pytest.mark.parametrize(
    ("verb", "message"), [("fit", "with --resume"), ("extract", "run the same command to continue")]
)
def test_ctrl_c_says_how_to_continue(capsys, monkeypatch, verb, message):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("dmml.__main__._dispatch", interrupted)
    assert main([verb, "--config", "x.yaml"]) == 130
    assert message in capsys.readouterr().err
