"""Names of arguments that are read from the source of a class are those of its signature."""

import inspect
from importlib import import_module

import pytest

from dmml.commands.config.argument_names import argument_names
from dmml.commands.config.mistakes import TRAINER, check_arguments
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
