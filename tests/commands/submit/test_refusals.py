"""Bad input is refused in one line before anything is submitted, and nothing is left behind."""

from pathlib import Path

import pytest

from dmml.__main__ import main

CONFIG = """
model: {class_path: SubspaceTeacher}
data: {class_path: MultimodalDataModule, init_args: {clinical: none.csv}}
"""


@pytest.fixture(autouse=True)
def _without_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "a.svs").write_bytes(b"")
    (tmp_path / "config.yaml").write_text(CONFIG)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("extract slides --out f.zarr --parts 0", "--parts: 0 is too small"),
        ("extract slides --out f.zarr --parts 2 --time 60", "--cluster slurm: sbatch is not on PATH"),
        ("extract slides --out f.zarr --parts 2", "--time: SLURM needs a time limit"),
        ("extract absent --out f.zarr --parts 2 --cluster local", "absent: no such file or folder"),
        ("extract slides --out f.zarr --cluster local", "--parts is missing"),
        ("extract slides --out f.zarr --parts 2 --cluster local", "--parts: 2 are more than the 1 slides"),
        ("extract slides --out f.zarr --parts 1 --cluster local --shard 1/2", "--shard: --parts divides the slides"),
        ("extract slides --out f.zarr --parts 1 --cluster local --overwrite", "--overwrite: a part that is requeued"),
        ("extract slides --out f.zarr --parts 1 --cluster local --dry-run", "--dry-run: it needs no cluster"),
        ("extract slides --out f.zarr --parts 1 --cluster local --encodr x", "unrecognized arguments: --encodr x"),
        ("extract slides --out f.zarr --parts 1 --cluster local --gpus 1", "--gpus: 1 GPUs are needed at once"),
        ("fit --config config.yaml --cluster local", "missing: none.csv"),
        ("fit --config absent.yaml --cluster local", "absent.yaml: "),
        ("fit --config config.yaml --cluster local --parts 3", "--parts: 3 parts of one fit are impossible"),
        ("crossval --config config.yaml --cluster local", "missing: none.csv"),
        ("crossval --config config.yaml --cluster local --collect", "--collect: it follows by itself"),
        ("crossval --config config.yaml --cluster local --only-fold 0", "--only-fold: each part fits one fold"),
        ("crossval --config config.yaml --cluster local --jobs 2", "--jobs: each part fits one fold"),
        ("status absent", "absent: nothing was submitted there"),
        ("status", "dmml submit status: needs one run folder"),
        ("predict --config config.yaml", "argument COMMAND: invalid choice: 'predict'"),
    ],
)
def test_bad_input_is_refused_in_one_line(command, message, capsys, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert main(["submit", *command.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"dmml: error: {message}")
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_submitit_is_named_with_its_extra(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["submit", "fit", "--config", "config.yaml", "--cluster", "local"]) == 2
    assert "pip install 'dmml[cluster]'" in capsys.readouterr().err
    assert not Path("runs").exists()
