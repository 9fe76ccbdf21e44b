"""Options of Lightning's Trainer that leave a fit without what it needs."""

from __future__ import annotations

import pytest

from dmml.__main__ import main
from dmml.cohort import section
from dmml.cohort.rna import expression

pytestmark = pytest.mark.slow


def test_a_fit_without_inner_validation_is_refused_before_anything_is_written(cohorts, capsys):
    config = cohorts.config("no_validation", "SubspaceTeacher")
    assert main(["fit", "--config", str(config), "--trainer.limit_val_batches", "0"]) == 2
    assert "trainer.limit_val_batches: 0 leaves no inner validation" in capsys.readouterr().err
    assert not cohorts.run("no_validation").exists()


def test_a_fit_of_no_epochs_names_no_checkpoint(cohorts, capsys):
    config = cohorts.config("no_epochs", "SubspaceTeacher")
    assert main(["fit", "--config", str(config), "--trainer.max_epochs", "0"]) == 0
    assert "finished after 0 epochs; no best checkpoint was written" in capsys.readouterr().out
    assert not list(cohorts.run("no_epochs").glob("checkpoints/best*"))


def test_the_tables_of_a_fit_are_read_once(cohorts, monkeypatch):
    read = []
    monkeypatch.setattr(
        section, "read_expression", lambda *args: read.append(args) or expression.read_expression(*args)
    )
    config = cohorts.config("read_once", "SubspaceTeacher")
    assert main(["fit", "--config", str(config), "--trainer.max_epochs", "0"]) == 0
    assert len(read) == 1
