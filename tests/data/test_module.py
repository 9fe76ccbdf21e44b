"""The data module: the patients of each part, the statistics that are used, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from cohorts import DIM, data_of

from dmml.cohort.clinical.follow_up import censoring_curve
from dmml.data.fitting import content_hashes, fit_task, follow_up
from dmml.errors import InputError
from dmml.tasks import Classification, Survival


class Model:
    """The part of a model that a data module uses."""

    def __init__(self, data=None, task=None):
        self.task, self.fitted, self.n_features = task or Survival(edges=[300.0, 700, 1300], end=2000.0), {}, DIM
        if data is not None:
            programs = data.programs()
            self.genes = {s: sorted({g for genes in sets.values() for g in genes}) for s, sets in programs.items()}
            self.fitted = data.fitted(self.genes)


class Trained:
    """The part of a trainer that a data module uses."""

    def __init__(self, model):
        self.lightning_module = model


@pytest.fixture(scope="module")
def fitted(cohort):
    data = data_of(cohort)
    data.setup("fit")
    return data, Model(data)


def test_patients_are_divided_with_and_without_a_split(cohort, fitted):
    data, _ = fitted
    everybody = set(pd.read_csv(cohort / "development" / "clinical.csv").patient_id)
    parts = {part: set(data.patients(part)) for part in ("train", "val", "test")}
    assert set.union(*parts.values()) == everybody
    assert sum(map(len, parts.values())) == len(everybody)
    assert set(data.patients("outer_test")) == parts["test"]
    held = data_of(cohort, "held_out")
    held.setup("test")
    assert len(held.patients("test")) == 8
    assert held.patients("train") == held.patients("outer_test") == []
    carved = data_of(cohort, split=None)
    carved.setup("fit")
    assert set(carved.patients("train")) | set(carved.patients("val")) == everybody
    folds = []
    for fold in range(3):
        other = data_of(cohort, fold=fold)
        other.setup("fit")
        folds += other.patients("test")
    assert sorted(folds) == sorted(everybody)


def test_a_tested_cohort_is_standardised_with_the_models_gene_statistics(cohort, fitted):
    _, model = fitted
    held = data_of(cohort, "held_out")
    held.setup("test")
    held.trainer = Trained(model)
    batch = next(iter(held.test_dataloader()))
    kept = model.fitted["gene_statistics"]["tumor"]
    raw = pd.read_parquet(cohort / "held_out" / "expression.parquet").set_index("patient_id")
    for i, patient in enumerate(batch.patient_id):
        row = batch.expression["tumor"][i].numpy()
        assert bool(batch.has_expression[i]) == (patient in raw.index)
        if patient not in raw.index:
            assert not row.any()
            continue
        z = (np.log2(raw.loc[patient, kept["genes"]].to_numpy(float) + 1) - kept["mean"]) / kept["std"]
        np.testing.assert_allclose(row, np.clip(z, -3, 3), atol=1e-4)
    doubled = Model()
    doubled.fitted = {
        "gene_statistics": {
            s: dict(v, std=[2 * x for x in v["std"]]) for s, v in model.fitted["gene_statistics"].items()
        }
    }
    held.trainer = Trained(doubled)
    other = next(iter(held.test_dataloader()))
    assert not torch.allclose(other.expression["tumor"], batch.expression["tumor"])


def test_training_statistics_standardise_the_training_patients(fitted):
    data, model = fitted
    data.trainer = Trained(model)
    values = torch.cat([b.expression["tme"][b.has_expression] for b in data.train_dataloader()])
    assert values.mean(0).abs().median() < 0.15
    assert 0.7 < values.std(0).median() < 1.3
    assert values.abs().max() <= 3


def test_loaders_return_the_targets_of_their_patients(cohort, fitted):
    data, model = fitted
    data.trainer = Trained(model)
    batches = list(data.train_dataloader())
    assert sum(len(b.patient_id) for b in batches) == len(data.patients("train"))
    table = pd.read_csv(cohort / "development" / "clinical.csv").drop_duplicates("patient_id").set_index("patient_id")
    for b in batches:
        assert b.target["time"].tolist() == table.os_days[b.patient_id].tolist()
        assert b.target["event"].tolist() == table.os_event[b.patient_id].tolist()
        assert set(b.bags) == {10, 20}
        assert b.parent.shape == b.bags[20].mask.shape
    assert all(b.target == {} for b in data.predict_dataloader())
    assert [p for b in data.test_dataloader() for p in b.patient_id] == data.patients("test")
    grade = data_of(cohort, outcome={"label": "grade"})
    grade.setup("fit")
    grade.trainer = Trained(Model(grade, Classification(classes=["G2", "G3", "G4"])))
    b = next(iter(grade.val_dataloader()))
    assert [["G2", "G3", "G4"][i] for i in b.target["label"]] == table.grade[b.patient_id].tolist()
    grade.trainer = Trained(Model(grade, Classification(classes=["G2", "G3"])))
    with pytest.raises(InputError, match="G4"):
        list(grade.train_dataloader())


def test_a_stage_uses_its_own_patients_only(cohort):
    rna = data_of(cohort, features=None)
    rna.setup("fit")
    rna.trainer = Trained(Model(rna))
    batch = next(iter(rna.train_dataloader()))
    assert batch.bags == {}
    assert rna.n_features == 0
    tissue = data_of(cohort, expression=None)
    tissue.setup("fit")
    tissue.trainer = Trained(Model(tissue))
    batch = next(iter(tissue.train_dataloader()))
    assert batch.expression == {}
    assert not batch.has_expression.any()
    single = data_of(cohort, magnifications=(20,))
    single.setup("fit")
    single.trainer = Trained(Model(single))
    assert set(next(iter(single.train_dataloader())).bags) == {20}
    with pytest.raises(InputError, match="neither"):
        data_of(cohort, features=None, expression=None)
    with pytest.raises(InputError, match=r"holds tiles at \[10, 20\]"):
        data_of(cohort, magnifications=(5,)).setup("fit")


def test_a_cohort_of_another_encoder_is_refused(cohort, fitted):
    _, model = fitted
    held = data_of(cohort, "held_out")
    held.setup("test")
    held.check(model)
    other = Model()
    other.fitted = model.fitted | {"encoder": model.fitted["encoder"] | {"name": "uni"}}
    with pytest.raises(InputError, match="the encoder's name is simulated"):
        held.check(other)
    other.n_features = 9
    with pytest.raises(InputError, match="16 features per tile"):
        held.check(other)


def test_a_day_falls_into_the_same_interval_in_training_and_in_testing():
    days = np.arange(1, 40) * 30.4375 + 0.1  # months are days with many decimals, and models are given float32
    outcome = {"time": days, "event": np.arange(39) % 2}
    rounded = Survival().encode(outcome)["time"].numpy().astype(float)
    fitted, used = (censoring_curve(*follow_up(each)) for each in (outcome, outcome | {"time": rounded}))
    np.testing.assert_array_equal(fitted.before(rounded), used.before(rounded))
    np.testing.assert_array_equal(fitted.at(rounded), used.at(rounded))


def test_follow_up_is_that_of_patients_whose_outcome_is_known():
    time, event = follow_up({"time": np.array([1.0, np.nan, 3]), "event": np.array([0.0, 1, np.nan])})
    assert (time.tolist(), event.tolist()) == ([1], [0])
    assert follow_up({"label": np.array(["a"])}) == (None, None)


def test_hashes_change_with_a_table_and_a_store(tmp_path):
    table, store = tmp_path / "clinical.csv", tmp_path / "f.zarr"
    (store / "slides" / "a").mkdir(parents=True)
    table.write_text("patient_id\n")
    (store / "slides" / "a" / "c0").write_bytes(b"1234")
    section, parts = {"clinical": str(table), "features": str(store)}, {"train": ["P0"]}
    before = content_hashes(section, parts)
    assert set(before) == {"clinical", "features", "partition"}
    assert before == content_hashes(section, parts)
    (store / "slides" / "b").write_bytes(b"1")
    assert {name for name, value in content_hashes(section, parts).items() if value != before[name]} == {"features"}


def test_batches_are_pinned_with_all_their_tensors(fitted):
    data, model = fitted
    data.trainer = Trained(model)
    batch = next(iter(data.train_dataloader()))
    assert hasattr(batch, "pin_memory")
    if torch.cuda.is_available():
        assert batch.pin_memory().bags[10].features.is_pinned()


@pytest.mark.parametrize("url", [False, True], ids=["folder", "object store"])
def test_processes_that_read_ahead_return_the_same_batches(cohort, fitted, url):
    """Two epochs, with tokens drawn anew in each; a store behind a URL is opened in every process."""
    features = str(cohort / "development" / "features.zarr")
    batches_of_modules = []
    for workers in (0, 2):
        more = {"num_workers": workers, "max_tokens": {10: 20, 20: 40}, "token_budget": 2000, "pack": 2}
        data = data_of(cohort, features=f"local://{features}" if url else features, **more)
        data.setup("fit")
        data.trainer = Trained(fitted[1])
        loader = data.train_dataloader()
        epochs = []
        for epoch in (0, 1):
            loader.sampler.set_epoch(epoch)
            epochs.append([(b.patient_id, b.bags[20].features, b.bags[10].position) for b in loader])
        batches_of_modules.append(epochs)
    for alone, ahead in zip(*batches_of_modules, strict=True):
        assert [b[0] for b in alone] == [b[0] for b in ahead]
        assert all(
            torch.equal(x, y) for a, b in zip(alone, ahead, strict=True) for x, y in zip(a[1:], b[1:], strict=True)
        )
    assert [b[0] for b in batches_of_modules[0][0]] != [b[0] for b in batches_of_modules[0][1]]


def test_a_fit_warns_once_of_an_interval_without_an_event(cohort, caplog):
    data = data_of(cohort)
    data.setup("fit")
    table = data.cohort.clinical.patients
    table.loc[table["time"] < table["time"].quantile(0.4), "event"] = 0
    for edges_from in ("all", "all", "events"):
        fit_task(Survival(n_intervals=4, edges_from=edges_from), data)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith("development: no training patient has the event in 1 of the 4 intervals")
