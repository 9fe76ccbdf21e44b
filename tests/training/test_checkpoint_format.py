"""Every checkpoint has a format number, and one of another format is refused by that number."""

import pytest
import torch
from batches import DIM
from cohorts import data_of, quiet_trainer

from dmml.errors import InputError
from dmml.networks.checkpoint import read_checkpoint
from dmml.networks.checkpoint_content import FORMAT, FORMAT_KEY
from dmml.tasks import Survival
from dmml.training.baseline import BaselineNetwork
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher

EARLIER = r"t\.ckpt: this checkpoint was written by an earlier dmml \(format 1\).*; fit the model again"


@pytest.fixture(scope="module")
def checkpoint(cohort, tmp_path_factory):
    """Content of a teacher's checkpoint."""
    folder = tmp_path_factory.mktemp("format")
    trainer = quiet_trainer(folder, max_epochs=1)
    trainer.fit(SubspaceTeacher(width=16), data_of(cohort))
    trainer.save_checkpoint(folder / "t.ckpt")
    return torch.load(folder / "t.ckpt", weights_only=True)


@pytest.fixture
def earlier(checkpoint, tmp_path):
    """Path of the same checkpoint as an earlier dmml wrote it, without a format number."""
    path = tmp_path / "t.ckpt"
    torch.save({key: value for key, value in checkpoint.items() if key != FORMAT_KEY}, path)
    return str(path)


def test_a_checkpoint_has_the_current_format_number(checkpoint):
    assert checkpoint[FORMAT_KEY] == FORMAT


def test_a_checkpoint_of_an_earlier_dmml_is_refused(earlier):
    with pytest.raises(InputError, match=EARLIER):
        read_checkpoint(earlier)


def test_a_checkpoint_of_a_later_dmml_is_refused(checkpoint, tmp_path):
    torch.save(checkpoint | {FORMAT_KEY: FORMAT + 1}, tmp_path / "t.ckpt")
    with pytest.raises(InputError, match=rf"written by a later dmml \(format {FORMAT + 1}\).*; update dmml"):
        read_checkpoint(tmp_path / "t.ckpt")


def test_loading_and_resuming_in_python_refuse_an_earlier_checkpoint(earlier, cohort, tmp_path):
    message = r"this checkpoint was written by an earlier dmml \(format 1\)"
    with pytest.raises(InputError, match=message):
        SubspaceTeacher.load_from_checkpoint(earlier, weights_only=True)
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    with pytest.raises(InputError, match=message):
        trainer.fit(SubspaceTeacher(width=16), data_of(cohort), ckpt_path=earlier, weights_only=True)


@pytest.mark.parametrize("argument", ["teacher", "init_from"])
def test_neither_distillation_nor_fine_tuning_starts_from_an_earlier_checkpoint(earlier, cohort, tmp_path, argument):
    with pytest.raises(InputError, match=EARLIER):
        quiet_trainer(tmp_path, max_epochs=1).fit(SubspaceStudent(width=16, **{argument: earlier}), data_of(cohort))


def test_the_checkpoint_of_a_baseline_has_a_format_number(tmp_path):
    network = BaselineNetwork(
        "histology_mean", n_features=DIM, genes={}, task=Survival(edges=[300.0, 700, 1300], end=2000.0)
    )
    trainer = quiet_trainer(tmp_path)
    trainer.strategy.connect(network)
    trainer.save_checkpoint(tmp_path / "b.ckpt")
    assert read_checkpoint(tmp_path / "b.ckpt")[FORMAT_KEY] == FORMAT
