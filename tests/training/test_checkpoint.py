"""Models made in plain Python: fit, checkpoints that load safely, and a student under its teacher."""

import copy
from functools import partial

import pytest
import torch
from batches import DIM, GENES, make_batch
from cohorts import data_of
from lightning.pytorch import Trainer
from models import ALL_PARTS, build

from dmml.callbacks.coordination import GradientCoordination
from dmml.errors import InputError
from dmml.networks.checkpoint_content import FORMAT, FORMAT_KEY
from dmml.nn.aggregator import TokenAggregator
from dmml.nn.fusion import GatedPoolFusion
from dmml.tasks import Classification, Survival
from dmml.training.student import SubspaceStudent
from dmml.training.teacher import SubspaceTeacher

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


def survival():
    return Survival(edges=[300.0, 700, 1300], end=2000.0)


def fit(model, data, path, epochs=1):
    trainer = Trainer(max_epochs=epochs, enable_checkpointing=False, **QUIET)
    trainer.fit(model, data)
    trainer.save_checkpoint(path)
    return path


def by_hand(model, path):
    """A checkpoint as a plain script writes one."""
    kept = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": "2.6.0",
        FORMAT_KEY: FORMAT,
    }
    torch.save(kept, path)
    return str(path)


@pytest.fixture(scope="module")
def teacher_path(cohort, tmp_path_factory):
    """A teacher fitted on fold 0 with everything taken from the data."""
    torch.manual_seed(0)
    return str(fit(SubspaceTeacher(width=16), data_of(cohort), tmp_path_factory.mktemp("teacher") / "t.ckpt"))


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (SubspaceTeacher, {"genes": GENES, "fusion": GatedPoolFusion}),
        (SubspaceTeacher, {"genes": {}}),
        (SubspaceTeacher, {"genes": GENES, "task": Classification(classes=["a", "b"])}),
        (SubspaceStudent, {}),
        (SubspaceStudent, {"genes": GENES, "n_merged": 1}),
        (SubspaceStudent, {"genes": GENES, "aggregator": partial(TokenAggregator, tissue_attention=True)}),
    ],
)
def test_a_plain_model_is_saved_and_loaded_without_unpickling(model, changes, tmp_path):
    made = model(**{"n_features": DIM, "task": survival(), "width": 16} | changes).eval()
    path = by_hand(made, tmp_path / "m.ckpt")
    torch.load(path, weights_only=True)
    read = model.load_from_checkpoint(path, weights_only=True).eval()
    batch = make_batch()
    assert torch.equal(read(batch).logits, made(batch).logits)
    assert read.task.init_args() == made.task.init_args()


def test_a_checkpoint_holds_all_of_a_fitted_model(teacher_path, cohort):
    kept = torch.load(teacher_path, weights_only=True)["hyper_parameters"]
    assert kept["n_features"] == 16
    assert set(kept["genes"]) == {"tumor", "tme"}
    assert set(kept["fitted"]["gene_statistics"]["tme"]["genes"]) == set(kept["genes"]["tme"])
    assert len(kept["task"]["init_args"]["edges"]) == 3
    assert kept["task"]["init_args"]["end"] > kept["task"]["init_args"]["edges"][-1]
    assert kept["fitted"]["encoder"]["name"] == "simulated"
    assert kept["fitted"]["hashes"]["partition"]
    text = repr(kept["fitted"]["patients"])
    data = data_of(cohort)
    data.setup("fit")
    assert not any(patient in text for patient in data.patients("train")), "ids are kept hashed"
    teacher = SubspaceTeacher.load_from_checkpoint(teacher_path, weights_only=True)
    trainer = Trainer(**QUIET)
    first = trainer.predict(teacher, data_of(cohort, "held_out"))
    again = Trainer(**QUIET).predict(
        SubspaceTeacher.load_from_checkpoint(teacher_path, weights_only=True), data_of(cohort, "held_out")
    )
    assert torch.equal(first[0]["predictions"]["risk"], again[0]["predictions"]["risk"])


def test_a_fit_does_not_change_the_arguments_of_the_callers_task(cohort, tmp_path):
    task = Survival()
    fit(SubspaceTeacher(width=16, task=task), data_of(cohort), tmp_path / "t.ckpt")
    assert task.edges is None


def test_classification_takes_its_classes_from_training_labels(cohort, tmp_path):
    data = data_of(cohort, outcome={"label": "grade"})
    path = fit(SubspaceTeacher(width=16, task=Classification()), data, tmp_path / "c.ckpt")
    assert SubspaceTeacher.load_from_checkpoint(path, weights_only=True).task.classes == ["G2", "G3", "G4"]


def test_models_of_rna_alone_and_of_slides_alone_can_be_fitted(cohort, tmp_path):
    rna = SubspaceTeacher.load_from_checkpoint(
        fit(SubspaceTeacher(width=16), data_of(cohort, features=None), tmp_path / "r.ckpt"), weights_only=True
    )
    assert rna.n_features == 0
    tissue = SubspaceTeacher.load_from_checkpoint(
        fit(SubspaceTeacher(width=16), data_of(cohort, expression=None), tmp_path / "s.ckpt"), weights_only=True
    )
    assert not any(tissue.genes.values())


def test_coordination_in_the_shared_scope_is_refused_for_a_model_without_tissue(cohort):
    shared = GradientCoordination(scope="shared")
    with pytest.raises(InputError, match="reads none; use scope: classifier"):
        Trainer(max_epochs=1, enable_checkpointing=False, callbacks=[shared], **QUIET).fit(
            SubspaceTeacher(width=16), data_of(cohort, features=None)
        )


# ---- the student under its teacher ------------------------------------------------------------------------------------


def plain_pair(tmp_path, **changes):
    teacher = build("teacher")
    arguments = ALL_PARTS["student"] | {"teacher": by_hand(teacher, tmp_path / "t.ckpt")} | changes
    return teacher, SubspaceStudent(n_features=DIM, task=survival(), width=16, **arguments)


def test_a_student_learns_from_a_plain_checkpoint_without_a_trainer(tmp_path):
    teacher, student = plain_pair(tmp_path)
    with pytest.raises(RuntimeError, match=r'setup\("fit"\)'):
        student.losses(make_batch())
    student.setup("fit")
    batch = make_batch(has_rna=[True, False, True, True])
    terms = student.eval().losses(batch)
    assert {"distill_prediction", "distill_features", "distill_programs"} <= set(terms.parts)
    weights = {"task": 1, "consistency": student.consistency_weight, "programs": student.program_weight}
    weights |= {"decorrelation": student.decorrelation_weight, "distill_prediction": student.prediction_weight}
    weights |= {"distill_features": student.feature_weight, "distill_programs": student.teacher_program_weight}
    torch.testing.assert_close(terms.total, sum(weights[name] * value for name, value in terms.parts.items()))
    student_output, teacher_output = student(batch), teacher(batch)
    pairs = [(student_output.logits, teacher_output.logits)] + [
        (student_output.logits_by_magnification[m], teacher_output.logits_by_magnification[m]) for m in (10, 20)
    ]
    expected = torch.stack([student.task.divergence(a, b, student.temperature).mean() for a, b in pairs]).mean()
    torch.testing.assert_close(terms.parts["distill_prediction"], expected)
    assert student.genes == GENES
    student.setup("fit")  # a second fit must do


def test_the_teacher_is_frozen_in_evaluation_mode_and_is_no_part_of_the_student(tmp_path):
    _, student = plain_pair(tmp_path)
    student.setup("fit")
    student.train()
    batch = make_batch()
    (inner,) = student._teacher
    assert not inner.training
    before = copy.deepcopy(inner.state_dict())
    student.losses(batch).total.backward()
    assert all(p.grad is None and not p.requires_grad for p in inner.parameters())
    optimizer = student.configure_optimizers()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in inner.state_dict().items())
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert optimised == {id(p) for p in student.parameters()}
    assert not optimised & {id(p) for p in inner.parameters()}
    assert not any("teacher" in key or "fusion" in key or "expression" in key for key in student.state_dict())
    path = by_hand(student, tmp_path / "s.ckpt")
    (tmp_path / "t.ckpt").unlink()
    read = SubspaceStudent.load_from_checkpoint(path, weights_only=True).eval()
    assert torch.equal(read(batch).logits, student.eval()(batch).logits), "the teacher's file is not needed again"


def test_removing_distillation_changes_the_gradient(tmp_path):
    gradients = []
    for weights in ({}, {"prediction_weight": 0.0}, {"feature_weight": 0.0}, {"teacher_program_weight": 0.0}):
        torch.manual_seed(0)
        _, student = plain_pair(tmp_path, **weights)
        student.setup("fit")
        torch.manual_seed(1)
        student.eval().losses(make_batch()).total.backward()
        gradients.append(student.projection["10x"].linear.weight.grad.clone())
    assert all(not torch.allclose(gradients[0], other) for other in gradients[1:])


def test_a_student_uses_the_programs_of_its_teacher_and_refuses_other_genes(tmp_path):
    programs = {"tumor": {"A": ["T0", "T1"]}, "tme": {"B": ["E0"]}}
    teacher = SubspaceTeacher(n_features=DIM, genes=GENES, task=survival(), width=16, programs=programs)
    path = by_hand(teacher, tmp_path / "t.ckpt")
    student = SubspaceStudent(n_features=DIM, genes=GENES, task=survival(), width=16, teacher=path)
    student.setup("fit")
    assert student(make_batch()).programs[10, "tumor"].shape == (4, 1)
    student.losses(make_batch())
    other = {"tumor": ["T0", "X"], "tme": ["E0"]}
    with pytest.raises(InputError, match="genes or programs differ"):
        SubspaceStudent(n_features=DIM, genes=other, task=survival(), width=16, teacher=path).setup("fit")


def test_teachers_that_do_not_match_the_student_are_refused(tmp_path):
    _, student = plain_pair(tmp_path)
    other = SubspaceStudent(n_features=DIM, task=survival(), width=16, teacher=by_hand(student, tmp_path / "s.ckpt"))
    with pytest.raises(InputError, match="needs a SubspaceTeacher"):
        other.setup("fit")
    path = student.teacher_path
    with pytest.raises(InputError, match="task"):
        SubspaceStudent(n_features=DIM, task=Survival(edges=[1.0, 2, 3]), width=16, teacher=path).setup("fit")
    with pytest.raises(InputError, match="task"):
        SubspaceStudent(n_features=DIM, task=Classification(classes=["a", "b"]), width=16, teacher=path).setup("fit")
    with pytest.raises(InputError, match="no such checkpoint"):
        SubspaceStudent(n_features=DIM, task=survival(), teacher="nowhere.ckpt").setup("fit")
    (tmp_path / "x.ckpt").write_text("rubbish")
    with pytest.raises(InputError, match="not a checkpoint"):
        SubspaceStudent(n_features=DIM, task=survival(), teacher=str(tmp_path / "x.ckpt")).setup("fit")
    inherits = SubspaceStudent(n_features=DIM, task=Survival(), width=16, teacher=path)
    inherits.setup("fit")
    assert inherits.task.edges == [300.0, 700.0, 1300.0]
    assert inherits.task.end == 2000.0


def test_a_student_can_be_fitted_with_a_teacher_of_the_same_split(teacher_path, cohort, tmp_path):
    student = SubspaceStudent(width=16, teacher=teacher_path)
    path = fit(student, data_of(cohort), tmp_path / "s.ckpt")
    kept = torch.load(path, weights_only=True)
    teacher = torch.load(teacher_path, weights_only=True)["hyper_parameters"]
    assert kept["hyper_parameters"]["genes"] == teacher["genes"]
    assert kept["hyper_parameters"]["task"]["init_args"]["edges"] == teacher["task"]["init_args"]["edges"]
    assert kept["hyper_parameters"]["fitted"]["gene_statistics"] == teacher["fitted"]["gene_statistics"]
    assert not any("teacher" in key for key in kept["state_dict"])


@pytest.mark.parametrize("changes", [{"fold": 1}, {"split": {"folds": 3, "seed": 5}}, {"split": None}])
def test_a_teacher_that_saw_the_students_validation_or_test_patients_is_refused(teacher_path, cohort, changes):
    with pytest.raises(InputError, match=r"this model was fitted on .* validation or test patients"):
        Trainer(max_epochs=1, enable_checkpointing=False, **QUIET).fit(
            SubspaceStudent(width=16, teacher=teacher_path), data_of(cohort, **changes)
        )


def test_fine_tuning_starts_from_the_weights_and_gene_lists_of_the_checkpoint(teacher_path, cohort, tmp_path):
    path = fit(
        SubspaceTeacher(width=16, init_from=teacher_path, lr=0.0, weight_decay=0.0),
        data_of(cohort),
        tmp_path / "f.ckpt",
    )
    start, end = (torch.load(x, weights_only=True) for x in (teacher_path, path))
    assert start["hyper_parameters"]["genes"] == end["hyper_parameters"]["genes"]
    assert all(torch.equal(value, end["state_dict"][name]) for name, value in start["state_dict"].items())


def test_fine_tuning_on_a_fold_whose_test_patients_the_weights_know_is_refused(teacher_path, cohort, tmp_path):
    with pytest.raises(InputError, match="same split and fold"):
        fit(SubspaceTeacher(width=16, init_from=teacher_path), data_of(cohort, fold=1), tmp_path / "f.ckpt")


def test_patients_of_an_ancestor_are_not_forgotten(teacher_path, cohort, tmp_path):
    """The teacher saw fold 1's test patients; tuning it on fold 1's own training patients does not undo that."""
    kept = torch.load(teacher_path, weights_only=True)
    patients = kept["hyper_parameters"]["fitted"].pop("patients")
    bare = tmp_path / "bare.ckpt"
    torch.save(kept, bare)
    with pytest.warns(UserWarning, match="does not record the patients it was fitted to"):
        tuned = fit(SubspaceTeacher(width=16, init_from=str(bare)), data_of(cohort, fold=1), tmp_path / "tuned.ckpt")
    student = SubspaceStudent(width=16, teacher=str(tuned))
    taught = fit(student, data_of(cohort, fold=1), tmp_path / "taught.ckpt")
    assert set(torch.load(taught, weights_only=True)["hyper_parameters"]["fitted"]["patients"]["before"]) == {"0"}
    kept = torch.load(tuned, weights_only=True)
    kept["hyper_parameters"]["fitted"]["patients"]["before"] = {"0": patients}
    torch.save(kept, tuned)
    for start in ({"teacher": str(tuned)}, {"init_from": str(tuned)}):
        with pytest.raises(InputError, match="was fitted on"):
            fit(SubspaceStudent(width=16, **start), data_of(cohort, fold=1), tmp_path / "no.ckpt")


def test_the_hashes_of_ancestors_grow_with_each_generation(teacher_path, cohort, tmp_path):
    second = fit(SubspaceTeacher(width=16, init_from=teacher_path), data_of(cohort), tmp_path / "2.ckpt")
    third = fit(SubspaceStudent(width=16, teacher=str(second)), data_of(cohort), tmp_path / "3.ckpt")
    hashes = [
        torch.load(path, weights_only=True)["hyper_parameters"]["fitted"]["patients"]
        for path in (teacher_path, second, third)
    ]
    assert "before" not in hashes[0]
    assert hashes[1]["before"] == {"0": hashes[0]}
    assert hashes[2]["before"] == {"0": hashes[0], "1": {part: hashes[1][part] for part in ("train", "val")}}


@pytest.mark.slow
@pytest.mark.parametrize("rna", [True, False])
def test_a_student_that_was_trained_before_uses_the_gene_lists_and_edges_of_its_teacher(
    teacher_path, cohort, tmp_path, rna
):
    """Trained without a teacher, on RNA of its own or none, with edges of its own; then taught."""
    lone = {"genes": None} if rna else {"genes": {}}
    task = Survival(edges=[100.0, 200, 300], end=2000.0)
    before = fit(SubspaceStudent(width=16, task=task, **lone), data_of(cohort), tmp_path / "before.ckpt")
    student = SubspaceStudent(
        width=16, task=Survival(), teacher=teacher_path, init_from=str(before), lr=0.0, weight_decay=0.0
    )
    after = fit(student, data_of(cohort), tmp_path / "after.ckpt")
    teacher, start, end = (torch.load(path, weights_only=True) for path in (teacher_path, before, after))
    for name in ("genes", "programs"):
        assert end["hyper_parameters"][name] == teacher["hyper_parameters"][name]
    edges = [kept["hyper_parameters"]["task"]["init_args"]["edges"] for kept in (teacher, start, end)]
    assert edges[2] == edges[0] != edges[1]
    projection = [name for name in start["state_dict"] if name.startswith("projection")]
    assert projection
    assert all(torch.equal(start["state_dict"][name], end["state_dict"][name]) for name in projection)


def test_the_partial_likelihood_is_refused_under_a_token_budget_that_leaves_a_batch_few_patients(cohort, tmp_path):
    task = {"likelihood": "cox", "n_intervals": 3}
    fit(SubspaceTeacher(width=16, task=Survival(**task)), data_of(cohort, batch_size=24), tmp_path / "a.ckpt")
    few = data_of(cohort, batch_size=24, token_budget=10)
    with pytest.raises(InputError, match=r"one of 1 patients holds 0\.\d .*data\.token_budget"):
        fit(SubspaceTeacher(width=16, task=Survival(**task)), few, tmp_path / "b.ckpt")


def test_a_model_that_was_not_fitted_states_what_it_needs():
    with pytest.raises(InputError, match="dimensions are not known"):
        SubspaceTeacher().setup("fit")
