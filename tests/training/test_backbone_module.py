"""Models on a backbone: their parts add up, a checkpoint holds all of it, and a fit reads no held-out patient."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy
import torch
from batches import pad_batch, shuffle_batch
from cohorts import data_of, quiet_trainer, section_of

import dmml
from dmml.data.module import MultimodalDataModule
from dmml.errors import InputError
from dmml.tasks import Classification, Survival, Task
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher

pytestmark = pytest.mark.slow

GRADES = {"outcome": {"label": "grade"}}


def trained(model, data, folder, epochs=1):
    """The module after a fit, and its checkpoint."""
    trainer = quiet_trainer(folder, max_epochs=epochs)
    trainer.fit(model, data)
    path = str(Path(folder) / f"{type(model).__name__}.ckpt")
    trainer.save_checkpoint(path)
    return model.eval(), path


@pytest.fixture(scope="module")
def fits(cohort, tmp_path_factory):
    """A survival teacher and its student: (module, checkpoint) of each."""
    root = tmp_path_factory.mktemp("fits")
    teacher = trained(SubspaceTeacher(width=16, lr=5e-3), data_of(cohort), root, epochs=2)
    student = trained(SubspaceStudent(width=16, lr=5e-3, teacher=teacher[1]), data_of(cohort), root, epochs=2)
    return {"teacher": teacher, "student": student}


def loaded(path, kind=SubspaceTeacher):
    return kind.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()


def outer_batch(model, data, folder):
    """One batch of all test patients, as the model's data module collates it."""
    data.batch_size = 30
    quiet_trainer(folder, max_epochs=1).predict(model, data)
    return next(iter(data.test_dataloader()))


def check_parts(output, task, available, share=None):
    """Parts of the logits and of the combination."""
    for m, logits in output.logits_by_magnification.items():
        parts = output.subspace_logits[m, "tumor"] + output.subspace_logits[m, "tme"] + output.tissue_logits[m]
        torch.testing.assert_close(parts, logits, atol=1e-5, rtol=1e-5)
        if share == 0:
            torch.testing.assert_close(output.backbone_logits, logits, atol=1e-5, rtol=1e-5)
    combined = task.combine(torch.stack(list(output.logits_by_magnification.values())), available)
    torch.testing.assert_close(combined, output.logits)


@torch.no_grad()
@pytest.mark.parametrize("specific", [True, False])
@pytest.mark.parametrize("kind", [SubspaceTeacher, SubspaceStudent])
@pytest.mark.parametrize("task", [Survival, Classification])
def test_the_parts_add_up_to_the_logits_at_every_share(cohort, tmp_path, task, kind, specific):
    task_object = task() if task is Survival else Classification(classes=["G2", "G3", "G4"])
    data = data_of(cohort, **(GRADES if task is Classification else {}))
    model, _ = trained(kind(width=16, lr=5e-3, task=task_object, tissue_specific=specific), data, tmp_path)
    batch = outer_batch(model, data, tmp_path)
    available = model._available(batch)
    outputs = {}
    for share in (0.0, 0.5, 1.0):
        model.deep_share.fill_(share)
        outputs[share] = model(batch)
        check_parts(outputs[share], model.task, available, share)
    assert not torch.allclose(outputs[1.0].logits, outputs[0.0].logits)
    for m in model.magnifications:
        low, half, high = (outputs[share].logits_by_magnification[m] for share in (0.0, 0.5, 1.0))
        torch.testing.assert_close(half, (low + high) / 2, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["teacher", "student"])
def test_a_fitted_module_and_its_checkpoint_predict_the_same(fits, cohort, tmp_path, name):
    model, path = fits[name]
    again = loaded(path, type(model))
    assert again.backbone.layout == model.backbone.layout
    states = model.state_dict(), again.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    batch = outer_batch(again, data_of(cohort), tmp_path)
    assert torch.equal(model(batch).logits, again(batch).logits)
    assert not torch.equal(model(batch).logits, type(model).forward(_whole(again), batch).logits)


def _whole(model):
    """The model with the whole deep part, which a fit of two epochs on four patients does not choose."""
    model.deep_share.fill_(1.0 if model.deep_share < 1 else 0.0)
    return model


@torch.no_grad()
@pytest.mark.parametrize("name", ["teacher", "student"])
def test_padding_token_order_and_masked_values_change_no_output(fits, cohort, tmp_path, name):
    model = loaded(fits[name][1], type(fits[name][0]))
    model.deep_share.fill_(0.5)
    batch = outer_batch(model, data_of(cohort), tmp_path)
    expected = model(batch).logits
    for other in (pad_batch(batch, 9, float("nan")), pad_batch(batch, 5, float("inf")), shuffle_batch(batch)[0]):
        torch.testing.assert_close(model(other).logits, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_without_a_deep_part_a_student_predicts_as_its_teacher_does_without_rna(fits, cohort, tmp_path):
    teacher, student = loaded(fits["teacher"][1]), loaded(fits["student"][1], SubspaceStudent)
    for model in (teacher, student):
        model.deep_share.zero_()
    batch = outer_batch(student, data_of(cohort), tmp_path)
    blind = replace(batch, has_expression=torch.zeros_like(batch.has_expression))
    assert torch.equal(student(batch).logits, teacher(blind).logits)
    has_rna = batch.has_expression
    assert not torch.allclose(teacher(batch).logits[has_rna], student(batch).logits[has_rna])


@torch.no_grad()
def test_a_model_without_a_backbone_has_none_of_its_parts(cohort, tmp_path):
    for kind in (SubspaceTeacher, SubspaceStudent):
        model, path = trained(kind(width=16, backbone=None), data_of(cohort), tmp_path)
        assert not [name for name in model.state_dict() if "backbone" in name or "share" in name]
        output = model(outer_batch(loaded(path, kind), data_of(cohort), tmp_path))
        assert output.backbone_logits is None
        assert output.backbone_programs == {}


def test_a_teacher_of_other_magnifications_is_cross_fitted_as_well(fits, cohort, tmp_path):
    """It is evaluated on inner validation patients, whose outcomes its backbone was fitted to."""
    student = SubspaceStudent(width=16, teacher=fits["teacher"][1], magnifications=[20])
    seen = []
    on_fit_end = student.on_fit_end
    student.on_fit_end = lambda: (seen.append(student._teacher[0]._cross_fitted), on_fit_end())
    data = data_of(cohort)
    quiet_trainer(tmp_path, max_epochs=1).fit(student, data)
    assert seen[0].has_all([*data.patients("train"), *data.patients("val")])
    assert student._teacher[0]._cross_fitted is None


def test_a_fit_without_a_data_module_says_that_it_has_no_backbone():
    options = {
        "n_features": 4,
        "genes": {"tumor": ["A"], "tme": ["B"]},
        "task": Survival(edges=[1.0, 2.0, 3.0], end=4.0),
    }
    with pytest.warns(UserWarning, match="the model learns without a backbone"):
        SubspaceTeacher(**options).setup("fit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SubspaceTeacher(**options, backbone=None).setup("fit")


def test_teacher_and_student_need_not_both_have_a_backbone(fits, cohort, tmp_path):
    _, path = trained(SubspaceTeacher(width=16, backbone=None), data_of(cohort), tmp_path)
    student, _ = trained(SubspaceStudent(width=16, teacher=path), data_of(cohort), tmp_path)
    assert student.has_backbone
    assert not any(name.startswith("rna") for name in student.backbone.readouts)
    student, _ = trained(
        SubspaceStudent(width=16, teacher=fits["teacher"][1], backbone=None), data_of(cohort), tmp_path
    )
    assert student.backbone is None


def test_initial_weights_do_not_include_the_backbone_of_other_patients(fits, cohort, tmp_path):
    source = loaded(fits["teacher"][1])
    source.deep_share.fill_(0.75)
    kept = torch.load(fits["teacher"][1], weights_only=True)
    kept["state_dict"]["deep_share"].fill_(0.75)
    kept["hyper_parameters"]["fitted"].pop("patients")  # its patients are known to this fit, which another test refuses
    path = tmp_path / "source.ckpt"
    torch.save(kept, path)
    fresh, tuned = SubspaceTeacher(width=16), SubspaceTeacher(width=16, init_from=str(path))
    for model in (fresh, tuned):
        trainer = quiet_trainer(tmp_path, max_epochs=0)
        trainer.fit(model, data_of(cohort, fold=1))
    a, b = fresh.backbone.state_dict(), tuned.backbone.state_dict()
    assert a.keys() == b.keys()
    # The edges of time are the source's, and with them what turns a hazard into logits.
    fitted = [name for name in a if name not in ("calibration_bias", "calibration_weight")]
    assert all(torch.equal(a[name], b[name]) for name in fitted)
    assert tuned.deep_share == 1  # none is chosen before a validation
    source_state = source.backbone.state_dict()
    assert not torch.equal(source_state["statistics.10x.centres"], b["statistics.10x.centres"])
    assert torch.equal(tuned.heads["10x"].linear.weight, source.heads["10x"].linear.weight)


def test_a_loaded_model_that_is_fitted_again_keeps_what_its_heads_have_learned(fits, cohort, tmp_path):
    model = loaded(fits["teacher"][1])
    before = {name: value.clone() for name, value in model.heads.state_dict().items()}
    quiet_trainer(tmp_path, max_epochs=0).fit(model, data_of(cohort))
    assert before["10x.linear.weight"].any()
    assert all(torch.equal(value, model.heads.state_dict()[name]) for name, value in before.items())


@torch.no_grad()
def test_a_prediction_after_an_interrupted_fit_does_not_use_remembered_values(fits, cohort, tmp_path):
    model, data = loaded(fits["teacher"][1]), data_of(cohort)
    data.setup("fit")
    model.fit_backbone(data)
    batch = next(iter(training_batches(model, data, tmp_path)))
    answer = model(batch).logits
    model.trainer.state.fn = "fit"
    assert not torch.equal(model(batch).logits, answer)
    model.on_fit_end()
    assert torch.equal(model(batch).logits, answer)


def training_batches(model, data, folder):
    """Batches of training patients, after a prediction of the outer test patients."""
    quiet_trainer(folder, max_epochs=1).predict(model, data)
    data.setup("fit")
    return data.train_patients_in_order()


def test_a_fit_reads_neither_features_nor_outcomes_of_outer_test_patients(cohort, tmp_path):
    class Guarded(MultimodalDataModule):
        def setup(self, stage):
            super().setup(stage)
            read, forbidden = self.reader.read, set(self.patients("outer_test"))
            assert forbidden

            def guarded(patient):
                assert patient not in forbidden
                return read(patient)

            self.reader.read = guarded

        def outcome(self, patients):
            assert not set(patients) & set(self.patients("outer_test")) or self.trainer.state.fn != "fit"
            return super().outcome(patients)

    data = data_of(cohort, kind=Guarded)
    model, _ = trained(SubspaceTeacher(width=16), data, tmp_path)
    assert model.has_backbone
    with pytest.raises(AssertionError):
        data.reader.read(data.patients("outer_test")[0])


def test_a_task_without_a_linear_likelihood_is_refused_and_can_be_fitted_without_a_backbone(cohort, tmp_path):
    class PlainTask(Survival):
        def linear_likelihood(self, target):
            return Task.linear_likelihood(self, target)

    with pytest.raises(InputError, match="backbone: null in the model section"):
        trained(SubspaceTeacher(width=16, task=PlainTask()), data_of(cohort), tmp_path)
    trained(SubspaceTeacher(width=16, task=PlainTask(), backbone=None), data_of(cohort), tmp_path)


def small_cohort(cohort, folder, n, events=None, grades=None):
    """A section of the first n patients, with so many events."""
    section = section_of(cohort)
    table = pd.read_csv(section["clinical"], dtype={"patient_id": str})
    ids = table.patient_id.drop_duplicates()[:n]
    table = table[table.patient_id.isin(ids)]
    if events is not None:
        table["os_event"] = table.patient_id.isin(ids[:events]).astype(int)
    if grades is not None:
        table["grade"] = table.patient_id.map(dict(zip(ids, grades, strict=True)))
    table.to_csv(folder / "clinical.csv", index=False)
    return section | {"clinical": str(folder / "clinical.csv"), "split": None, "batch_size": 4}


TINY = ("few patients", "three events", "no RNA", "one of a class", "censored validation")
TINY_FITS = [(name, kind) for name in TINY for kind in (SubspaceTeacher, SubspaceStudent)]


@pytest.mark.parametrize(("name", "kind"), [*TINY_FITS, ("no slides", SubspaceTeacher)])
def test_tiny_cohorts_neither_crash_nor_warn(cohort, tmp_path, name, kind):
    n = 8 if name == "few patients" else 10
    grades = ["G2", "G3"] * 4 + ["G2", "G4"] if name == "one of a class" else None
    section = small_cohort(cohort, tmp_path, n, 3 if name == "three events" else None, grades)
    task = Survival(n_intervals=2)
    if name == "one of a class":
        section["outcome"], task = {"label": "grade"}, Classification(classes=["G2", "G3", "G4"])
    if name == "no RNA":
        section |= {"expression": None, "gene_sets": None}
    if name == "no slides":
        section["features"] = None
    if name == "censored validation":
        table = pd.read_csv(section["clinical"], dtype={"patient_id": str})
        ids = list(table.patient_id.drop_duplicates())
        table.loc[table.patient_id.isin(ids[-3:]), "os_event"] = 0
        table.loc[table.patient_id.isin(ids[:4]), "os_event"] = 1
        table.to_csv(section["clinical"], index=False)
        folder = tmp_path / "splits"
        folder.mkdir()
        parts = {"train": ids[:6], "val": ids[-3:], "test": ids[6:7]}
        pd.DataFrame({key: pd.Series(members) for key, members in parts.items()}).to_csv(folder / "splits_0.csv")
        section["split"] = str(folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, _ = trained(kind(width=16, task=task), MultimodalDataModule(**section), tmp_path)
    folders = [str(Path(module.__file__).parent) for module in (dmml, np, scipy)]
    assert [str(w.message) for w in caught if w.filename.startswith(tuple(folders))] == []
    state = {name: value for name, value in model.state_dict().items() if not name.endswith("clip")}
    assert all(value.isfinite().all() for value in state.values() if value.is_floating_point())
    with torch.no_grad():
        data = MultimodalDataModule(**section)
        logits = model(outer_batch(model, data, tmp_path)).logits
    assert logits.isfinite().all()
    assert np.abs(logits.numpy()).max() < 30


@torch.no_grad()
@pytest.mark.parametrize("name", ["teacher", "student"])
def test_programs_in_a_fit_are_predicted_without_the_patients_own_rna(fits, cohort, tmp_path, name):
    """With fitted values, less would be left for the deep part to learn than for new patients."""
    model = loaded(fits[name][1], type(fits[name][0]))
    model.teacher_path = fits["teacher"][1]
    data = data_of(cohort)
    data.setup("fit")
    if name == "student":
        model._teacher = (loaded(fits["teacher"][1]),)
    after = model.backbone.state_dict()
    model.fit_backbone(data)
    assert all(torch.equal(value, model.backbone.state_dict()[key]) for key, value in after.items())
    ids = [*data.patients("train"), *data.patients("val")]
    _, remembered = model._cross_fitted.rows(ids, torch.zeros(len(ids), dtype=torch.bool))
    assert {key: values.shape[1] for key, values in remembered.items()} == {
        (m, s): model.scores.sizes[s] for m in (10, 20) for s in ("tumor", "tme")
    }
    for key, values in remembered.items():
        assert values.std() > 0, key
    model.on_fit_end()
    quiet_trainer(tmp_path, max_epochs=1).predict(model, data)  # gives the data module its model
    data.setup("fit")
    batch = next(iter(data.train_patients_in_order()))
    fitted_values = model(batch).backbone_programs
    measured = model.scores(batch.expression, batch.has_expression)
    rows = [ids.index(patient) for patient in batch.patient_id]
    for (m, s), values in fitted_values.items():
        has_both = batch.has_expression & batch.bags[m].mask.any(1)
        errors = [(x - measured[s])[has_both].square().mean() for x in (values, remembered[m, s][rows])]
        assert errors[0] < errors[1], (m, s)
