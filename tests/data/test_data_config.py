"""The data module takes the arguments of a data section, and they are known without heavy imports."""

import re
import subprocess
import sys
from dataclasses import fields

import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule

from dmml.data.data_config import DataConfig, Loading
from dmml.data.module import MultimodalDataModule
from dmml.errors import InputError
from dmml.experiment.crossval.fold_data import FoldData


@pytest.mark.parametrize("kind", [MultimodalDataModule, FoldData])
def test_the_parser_knows_every_argument_of_the_data_module_with_its_default(kind):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    path = f"{kind.__module__}.{kind.__name__}"
    parsed = parser.parse_args([f"--data={path}", "--data.clinical=c.csv", "--data.features=f.zarr"]).data.init_args
    config = DataConfig("c.csv", features="f.zarr")
    expected = vars(config) | {"magnifications": list(config.magnifications)}
    assert {name: parsed[name] for name in expected} == expected
    with pytest.raises(Exception, match="batchsize"):
        parser.parse_args([f"--data={path}", "--data.clinical=c.csv", "--data.batchsize=2"])


def test_the_data_module_states_its_arguments_in_its_config():
    data = MultimodalDataModule("c.csv", features="f.zarr", batch_size=3, magnifications=[10])
    assert data.config == DataConfig("c.csv", features="f.zarr", batch_size=3, magnifications=[10])
    data.batch_size = 5
    assert data.config.batch_size == 5
    with pytest.raises(TypeError, match="batchsize"):
        MultimodalDataModule("c.csv", features="f.zarr", batchsize=3)


def test_every_argument_of_the_loading_is_explained_and_shared_by_cohorts():
    assert all(f"\n        {field.name}: " in Loading.__doc__ for field in fields(Loading))
    assert all(field.metadata["shared"] for field in fields(Loading))


def test_limits_of_tokens_survive_a_saved_config():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    path = f"{MultimodalDataModule.__module__}.{MultimodalDataModule.__name__}"
    words = [f"--data={path}", "--data.clinical=c.csv", "--data.features=f.zarr"]
    parsed = parser.parse_args([*words, "--data.max_tokens={10: 2500, 20: 300}"])
    again = parser.parse_string(parser.dump(parsed))
    assert again.data.init_args.max_tokens == {10: 2500, 20: 300}
    as_json = DataConfig("c.csv", features="f.zarr", max_tokens={"10": 2500, "20": 300})
    assert as_json.max_tokens == {10: 2500, 20: 300}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (0, "data.max_tokens: 0 is not a whole number of at least 1"),
        (True, "data.max_tokens: True is not a whole number"),
        ({}, "data.max_tokens: {} names no limit; give {10: 2500, 20: 2500}, one number"),
        ({5: 100}, "data.max_tokens: 5 is none of data.magnifications; give {10: 2500, 20: 2500}"),
        ({"10x": 100}, "data.max_tokens: '10x' is none of data.magnifications"),
        ({10: 100, 20: 0}, "data.max_tokens at 20x: 0 is not a whole number of at least 1"),
        ({10: 2.5}, "data.max_tokens at 10x: 2.5 is not a whole number"),
        ({10: None}, "data.max_tokens at 10x: None is not a whole number"),
    ],
)
def test_limits_of_tokens_that_no_draw_could_follow_are_refused(limits, message):
    with pytest.raises(InputError, match=re.escape(message)):
        DataConfig("c.csv", features="f.zarr", max_tokens=limits)


def test_the_arguments_are_known_without_torch():
    program = (
        "import sys, dmml.data.data_config; print([m for m in ('torch', 'lightning', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
