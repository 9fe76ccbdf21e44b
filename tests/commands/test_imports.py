"""Commands import only what they use: torch, Lightning and plotting libraries take seconds each."""

import json
import subprocess
import sys

import numpy as np
import pytest

from dmml.cohort.rna.expression import read_expression

HEAVY = (
    "torch",
    "torch._dynamo",
    "lightning",
    "torchmetrics",
    "timm",
    "torchvision",
    "pandas",
    "matplotlib",
    "scipy.stats",
    "zarr",
)
SCRIPT = """
import json, sys
from dmml.__main__ import main

file, heavy, commands = sys.argv[1], *map(json.loads, sys.argv[2:])
answers = {}
for name, argv in commands.items():
    answers[name] = [main(argv), [package for package in heavy if package in sys.modules]]
with open(file, "w") as out:
    json.dump(answers, out)
"""


def changed_expression(journey, path, change, scale):
    """The held-out cohort's RNA after a change, as the data section names it."""
    table = read_expression(journey.root / "held_out" / "expression.parquet").table
    change(table).to_csv(path, index_label="patient_id")
    return {"expression": {"path": str(path), "scale": scale}}


def run_all(folder, commands):
    """Run commands in one process, one after the other; return {command: (exit code, heavy packages imported so far)}."""
    file = folder / "answers.json"
    words = [json.dumps(HEAVY), json.dumps({name: [str(word) for word in argv] for name, argv in commands.items()})]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(file), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {name: (code, set(packages)) for name, (code, packages) in json.loads(file.read_text()).items()}


@pytest.fixture(scope="module")
def answers(journey, tmp_path_factory):
    """Each command and refusal, lightest first, because what a process has imported stays imported."""
    folder = tmp_path_factory.mktemp("imports")
    (folder / "text.ckpt").write_text("no checkpoint")
    store = journey.root / "development" / "features.zarr"
    misspelt = journey.config("i_misspelt", "SubspaceTeacher", model={"widht": 8})
    trainer = journey.config("i_trainer", "SubspaceTeacher", trainer={"max_epoch": 8})
    log2 = changed_expression(journey, folder / "log2.csv", lambda table: np.log2(table + 1), "log2")
    quarter = changed_expression(journey, folder / "quarter.csv", lambda table: table.iloc[:, ::4], "tpm")
    scale = journey.config("i_scale", cohort="held_out", data=log2)
    genes = journey.config("i_genes", cohort="held_out", data=quarter)
    tested = ["test", "--ckpt_path", journey.best("teacher"), "--config"]
    commands = {
        "unknown command": ["extrakt"],
        "missing config": ["fit", "--config", "nowhere.yaml"],
        "missing run": ["report", folder / "nowhere"],
        "misspelt argument": ["fit", "--config", misspelt],
        "misspelt trainer": ["fit", "--config", trainer],
        "no checkpoint": ["test", "--ckpt_path", folder / "text.ckpt", "--config", journey.config("i_text")],
        "missing slide": ["predict-slide", "gone.svs", "--ckpt_path", journey.best("student"), "--out", folder / "o"],
        "missing folder": ["extract", folder / "nowhere", "--out", folder / "f.zarr"],
        "list": ["features", "list", store],
        "wrong scale": [*tested, scale],
        "missing genes": [*tested, genes],
        "doctor": ["doctor", "--config", journey.config("i_doctor")],
    }
    return run_all(folder, commands)


REFUSALS = (
    "unknown command", "missing config", "missing run", "misspelt argument", "misspelt trainer", "no checkpoint",
    "missing slide", "missing folder",
)  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_that_needs_no_cohort_imports_nothing_heavy(answers, name):
    assert answers[name] == (2, set())


def test_a_feature_store_is_listed_without_torch_and_pandas(answers):
    assert answers["list"] == (0, set())


def test_a_cohort_is_examined_without_lightning(answers):
    """Only torch tells which GPUs there are."""
    code, packages = answers["doctor"]
    assert code == 0
    assert packages <= {"pandas", "torch", "zarr"}


@pytest.mark.parametrize("name", ["wrong scale", "missing genes"])
def test_rna_that_a_model_cannot_read_is_refused_without_torch(answers, name):
    code, packages = answers[name]
    assert code == 2
    assert packages <= {"pandas"}
