"""Names of arguments that are read from the source of a class are those of its signature."""

import inspect
from importlib import import_module

import pytest

from dmml.commands.config.argument_names import argument_names, number_arguments
from dmml.commands.config.mistakes import TRAINER, check_arguments, check_data_arguments
from dmml.errors import InputError
from dmml.experiment.fit_defaults import SHORT_NAMES


@pytest.mark.parametrize("name", sorted(SHORT_NAMES.keys() - {"MultimodalDataModule"}))
def test_the_source_of_a_class_names_the_arguments_of_its_signature(name):
    kind = getattr(import_module(SHORT_NAMES[name]), name)
    assert argument_names(f"{SHORT_NAMES[name]}.{name}") == set(inspect.signature(kind).parameters)


def test_the_source_of_the_trainer_names_its_arguments():
    module, _, name = TRAINER.rpartition(".")
    assert argument_names(TRAINER) == set(inspect.signature(getattr(import_module(module), name)).parameters)


@pytest.mark.parametrize("path", ["gone.module.A", "dmml.tasks.Gone", "json.JSONDecoder.x", "dmml.gone.A", "A", ""])
def test_a_class_whose_source_does_not_tell_has_no_known_arguments(path):
    assert argument_names(path) == set()


def test_a_class_that_passes_arguments_to_another_library_is_left_to_the_parser(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_parts.py").write_text(
        "from json import JSONEncoder\n\n\nclass A(JSONEncoder):\n    def __init__(self, a, **other):\n        pass\n\n\n"
        "class B:\n    def __init__(self, b, *, c=1):\n        pass\n\n\nclass C(B):\n    pass\n"
    )
    assert argument_names("own_parts.A") == set()
    assert argument_names("own_parts.C") == {"b", "c"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model": {"class_path": "SubspaceTeacher", "init_args": {"widht": 3}}},
            "config, model: SubspaceTeacher takes no 'widht'; did you mean width?",
        ),
        (
            {"model": {"class_path": "dmml.SubspaceStudent", "init_args": {"task": {"class_path": "Survival", "init_args": {"edge": 1}}}}},
            "config, model.task: Survival takes no 'edge'; did you mean edges?",
        ),
        (
            {"trainer": {"callbacks": [{"class_path": "NanGuard", "init_args": {"evry": 2}}]}},
            "config, trainer.callbacks.0: NanGuard takes no 'evry'; did you mean every?",
        ),
        ({"trainer": {"max_epoch": 3}}, "config: there is no option 'trainer.max_epoch'; did you mean max_epochs?"),
        ({"trainer": {"max_epochs": "many"}}, "config, trainer.max_epochs: many is no int; correct the value"),
        ({"trainer": {"gradient_clip_val": [1]}}, "config, trainer.gradient_clip_val: [1] is no float or int; correct the value"),
        (
            {"model": {"class_path": "SubspaceTeacher", "init_args": {"width": "wide"}}},
            "config, model.width: wide is no int; correct the value",
        ),
        (
            {"model": {"class_path": "SubspaceTeacher", "init_args": {"width": 12.5}}},
            "config, model.width: 12.5 is no int; correct the value",
        ),
        (
            {"model": {"class_path": "SubspaceStudent", "init_args": {"task": {"class_path": "Survival", "init_args": {"n_intervals": {}}}}}},
            "config, model.task.n_intervals: {} is no int; correct the value",
        ),
    ],
)  # fmt: skip
def test_a_misspelt_argument_is_refused_with_the_nearest_one(config, message):
    with pytest.raises(InputError) as refused:
        check_arguments(config)
    assert str(refused.value) == message


def test_classes_of_the_users_own_and_the_data_module_are_not_judged():
    check_arguments({"model": {"class_path": "my.Model", "init_args": {"anything": 1}}})
    check_arguments({"trainer": {"callbacks+": "NanGuard", "max_epochs": 3}})
    check_arguments({"data": {"class_path": "MultimodalDataModule", "init_args": {"anything": 1}}, "trainer": None})


@pytest.mark.parametrize("value", [3, 3.0, "3", None, "null", "${oc.env:WIDTH}"])
def test_a_value_that_may_be_a_number_is_left_to_the_parser(value):
    check_arguments({"model": {"class_path": "SubspaceTeacher", "init_args": {"width": value}}})
    check_data_arguments({"batch_size": value, "cache_gib": value})


@pytest.mark.parametrize(("section", "message"), [
    ({"batch_size": "all"}, "config, data.batch_size: all is no int; correct the value"),
    ({"cache_gib": "2 GiB"}, "config, data.cache_gib: 2 GiB is no float; correct the value"),
    ({"num_workers": [2]}, "config, data.num_workers: [2] is no int; correct the value"),
])  # fmt: skip
def test_a_wrong_value_in_the_data_section_is_refused(section, message):
    with pytest.raises(InputError) as refused:
        check_data_arguments(section)
    assert str(refused.value) == message


def test_an_argument_that_takes_anything_else_is_left_to_the_parser():
    numbers = number_arguments(TRAINER)
    assert numbers["max_epochs"] == {"int", "None"}
    assert numbers["gradient_clip_val"] == {"int", "float", "None"}
    assert not {"devices", "precision", "callbacks"} & set(numbers)
    check_arguments({"trainer": {"devices": "auto", "precision": "bf16-mixed", "callbacks": []}})
    check_data_arguments({"max_tokens": {10: 3}, "split": "folds.csv", "magnifications": [10, 20]})
