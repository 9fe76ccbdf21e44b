"""With any logger, the run folder holds the config, the table of metrics and the report's training curves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from dmml.__main__ import main

pytestmark = pytest.mark.slow

LOGGER = '''
from lightning.pytorch.loggers.logger import Logger


class Notebook(Logger):
    """A logger of the user's own, which keeps what it is given in a folder of its own."""

    def __init__(self, save_dir: str = "notes", account: str = "mine"):
        super().__init__()
        self._save_dir, self.account = save_dir, account

    @property
    def experiment(self):
        if self.account == "none":
            raise RuntimeError("no account")
        return self

    @property
    def name(self):
        return "notebook"

    @property
    def version(self):
        return 7

    @property
    def save_dir(self):
        return self._save_dir

    def log_metrics(self, metrics, step=None):
        from pathlib import Path

        Path(self._save_dir).mkdir(exist_ok=True)
        with Path(self._save_dir, "seen.txt").open("a") as file:
            file.write(f"{step} {sorted(metrics)}\\n")

    def log_hyperparams(self, *args, **kwargs):
        pass
'''


@pytest.fixture
def my_logger(tmp_path, monkeypatch):
    """A module of the user's in the working directory."""
    (tmp_path / "my_logger.py").write_text(LOGGER)
    monkeypatch.delitem(sys.modules, "my_logger", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))


CSV = {"class_path": "CSVLogger", "init_args": {"save_dir": "logs"}}
USER_LOGGER = {"class_path": "my_logger.Notebook"}
LOGGERS = {
    "csv": (CSV, ["logs/lightning_logs/version_0/metrics.csv"]),
    "csv in the run": ({"class_path": "CSVLogger", "init_args": {"save_dir": "run", "name": "", "version": ""}}, []),
    "none": (False, []),
    "own": (USER_LOGGER, ["notes/seen.txt"]),
    "several": ([USER_LOGGER, CSV], ["notes/seen.txt", "logs/lightning_logs/version_0/metrics.csv"]),
    "default": (None, []),
}


def fit(folds, logger, *more: str, **trainer) -> int:
    content = yaml.safe_load((folds.root / "fold1.yaml").read_text())
    content["trainer"] |= {"default_root_dir": "run", "max_epochs": 2, "logger": logger} | trainer
    Path("c.yaml").write_text(yaml.safe_dump(content))
    return main(["fit", "--config", "c.yaml", *more])


@pytest.mark.parametrize("name", LOGGERS)
def test_the_run_folder_is_complete_with_any_logger(folds, my_logger, name):
    logger, written = LOGGERS[name]
    assert fit(folds, logger) == 0
    assert yaml.safe_load(Path("run/config.yaml").read_text())["model"]["class_path"].endswith("SubspaceTeacher")
    lines = Path("run/metrics.csv").read_text().splitlines()
    assert {"epoch", "step", "train/loss", "val/loss"} <= set(lines[0].split(","))
    assert len(lines) >= 3
    assert {path.name for path in Path("run/checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    for path in written:
        assert Path(path).read_text()
    assert bool(list(Path("run").glob("events.out.tfevents.*"))) == (name == "default")
    stray = {path.name for path in Path().iterdir()} - {"run", "c.yaml", "my_logger.py", "__pycache__"}
    assert stray == {Path(path).parts[0] for path in written}
    from dmml.evaluation.plots.training import training_series

    assert len(training_series(Path("run/metrics.csv"))["val/loss"]) == 2


def test_a_checkpoint_callback_of_the_config_saves_in_the_run_folder(folds, my_logger):
    callback = {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val/loss", "filename": "best"}}
    assert fit(folds, [CSV], callbacks=[callback]) == 0
    assert Path("run/checkpoints/best.ckpt").is_file()
    assert not list(Path("logs").rglob("*.ckpt"))


def test_a_resumed_run_continues_its_metrics_table_alongside_another_logger(folds, my_logger):
    assert fit(folds, CSV, "--trainer.max_epochs", "1") == 0
    whole = Path("run/metrics.csv").read_text().splitlines()
    provenance = Path("run/provenance.json")
    provenance.write_text(provenance.read_text().replace('"finished": "', '"finished": "" , "was": "'))
    assert fit(folds, CSV, "--trainer.max_epochs", "1", "--resume") == 0
    assert Path("run/metrics.csv").read_text().splitlines() == whole


def test_a_logger_that_cannot_start_is_reported_in_one_line_and_claims_no_run(folds, my_logger, capsys):
    logger = {"class_path": "my_logger.Notebook", "init_args": {"account": "none"}}
    assert fit(folds, logger) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dmml: error")]
    assert "trainer.logger: Notebook cannot start (no account)" in line
    assert not Path("run").exists()
    assert fit(folds, USER_LOGGER) == 0


def test_a_test_does_not_start_the_loggers_of_its_config(folds, my_logger, capsys):
    logger = {"class_path": "my_logger.Notebook", "init_args": {"account": "none"}}
    content = yaml.safe_load((folds.root / "fold1.yaml").read_text())
    content["trainer"] |= {"logger": logger}
    Path("c.yaml").write_text(yaml.safe_dump(content))
    assert main(["validate", "--config", "c.yaml", "--ckpt_path", folds.best("fold1")]) == 0
    assert {path.name for path in Path().iterdir()} <= {"c.yaml", "my_logger.py", "__pycache__"}
