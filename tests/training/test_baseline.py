"""Baselines' networks in the steps of a training: every network learns, is saved, and reads its inputs only."""

import copy

import pytest
import torch
from batches import DIM, GENES, make_batch
from cohorts import data_of
from lightning.pytorch import Trainer
from models import task_of

from dmml.callbacks.collection import CollectPredictions
from dmml.errors import InputError
from dmml.nn.baselines.registry import BASELINES
from dmml.tasks import Classification, Survival
from dmml.training.baseline import BaselineNetwork

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}


def build(name, kind="survival", **changes):
    arguments = {"n_features": DIM, "genes": GENES, "task": task_of(kind), "width": 16}
    return BaselineNetwork(network=name, **arguments | changes)


@pytest.mark.parametrize("kind", ["survival", "classification"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("transmil", "mcat"))) for name in BASELINES]
)
def test_every_network_can_learn_a_batch(name, kind):
    model, batch = build(name, kind, lr=3e-3).train(), make_batch((5, 3, 4, 6), (9, 4, 8, 12), kind=kind)
    optimizer = model.configure_optimizers()
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.task.loss(model(batch), batch.target).sum() / batch.target["observed"].sum()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0] - 0.1


def test_patients_without_an_outcome_do_not_change_the_loss():
    model, batch = build("rna_network").eval(), make_batch((5, 3, 4), (9, 4, 8))
    model.log = lambda *args, **kwargs: None
    other = copy.deepcopy(batch)
    batch.target["observed"][1] = other.target["observed"][1] = False
    other.target["time"][1] = 5.0
    assert model.training_step(batch, 0) == model.training_step(other, 0)
    logits = model(batch)
    by_hand = model.task.loss(logits, batch.target)[[0, 2]].mean()
    assert model.training_step(batch, 0).item() == pytest.approx(by_hand.item())


@pytest.mark.parametrize("name", ["late_fusion", "histology_mean"])
def test_a_fitted_baseline_predicts_the_same_from_its_checkpoint(cohort, name, tmp_path):
    model, data, collect = (
        BaselineNetwork(name, task=Survival(n_intervals=3), width=16),
        data_of(cohort),
        CollectPredictions(),
    )
    trainer = Trainer(max_epochs=1, callbacks=[collect], default_root_dir=tmp_path, **QUIET)
    trainer.fit(model, datamodule=data)
    assert model.task.edges is not None
    assert model.fitted["n_training"] == len(data.patients("train"))
    assert bool(model.fitted["gene_statistics"]) is (name == "late_fusion")
    trainer.test(model, datamodule=data, verbose=False)
    rows = {row["patient_id"]: row["risk"] for row in collect.rows}
    assert sorted(rows) == sorted(data.patients("test"))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = BaselineNetwork.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert (again.network_name, again.task.edges, again.genes) == (model.network_name, model.task.edges, model.genes)
    Trainer(callbacks=[collect], **QUIET).test(again, datamodule=data_of(cohort), verbose=False)
    assert {row["patient_id"]: row["risk"] for row in collect.rows} == pytest.approx(rows, abs=1e-6)


def test_classes_come_from_the_training_patients(cohort):
    model, data = (
        BaselineNetwork("rna_network", task=Classification(), width=8),
        data_of(cohort, outcome={"label": "grade"}),
    )
    Trainer(max_epochs=1, enable_checkpointing=False, **QUIET).fit(model, datamodule=data)
    assert model.task.classes == ["G2", "G3", "G4"]
    assert model.network.head.out_features == 3
    assert model.n_features == 0


def test_inputs_that_the_data_lack_are_refused_by_name(cohort):
    with pytest.raises(InputError, match="there is no baseline 'abmil'"):
        BaselineNetwork("abmil")
    with pytest.raises(InputError, match="rna_network reads RNA"):
        build("rna_network", genes={})
    with pytest.raises(InputError, match="histology_abmil reads slides"):
        build("histology_abmil", n_features=0)
    model = BaselineNetwork("early_concat", width=8)
    with pytest.raises(InputError, match="early_concat reads RNA"):
        Trainer(max_epochs=1, enable_checkpointing=False, **QUIET).fit(
            model, datamodule=data_of(cohort, expression=None)
        )
    with pytest.raises(InputError, match="dimensions are not known"):
        BaselineNetwork("rna_network").setup("test")


def test_networks_of_rna_or_of_tissue_do_not_read_the_other():
    batch = make_batch((5, 3), (9, 4))
    other = copy.deepcopy(batch)
    for bag in other.bags.values():
        bag.features.add_(3.0)
    rna, tissue = build("rna_network").eval(), build("histology_abmil").eval()
    torch.testing.assert_close(rna(batch), rna(other))
    assert not torch.allclose(tissue(batch), tissue(other))
    for values in other.expression.values():
        values.add_(3.0)
    assert not torch.allclose(rna(batch), rna(other))
