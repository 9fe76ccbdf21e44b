"""Options on the command line are laid over the config, however deep."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmml.__main__ import main
from dmml.commands.config.reading import apply_options


def test_nested_options_reach_sections_with_and_without_init_args():
    config = {"model": {"class_path": "X", "init_args": {"task": {"class_path": "Y"}}}, "trainer": {"max_epochs": 1}}
    words = ["--trainer.logger.save_dir", "here", "--model.task.n_intervals=3", "--model.init_args.width", "8"]
    apply_options(config, ["fit", *words])
    assert config == {
        "model": {"class_path": "X", "init_args": {"task": {"class_path": "Y", "n_intervals": 3}, "width": 8}},
        "trainer": {"max_epochs": 1, "logger": {"save_dir": "here"}},
    }


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [made]", "!!python/name:os.mkdir", "!mine {a: 1}"])
@pytest.mark.parametrize("way", ["--config", "--data", "--data.name"])
def test_a_yaml_tag_is_refused_in_one_line(way, tag, capsys):
    Path("part.yaml").write_text(f"data:\n  clinical: {tag}\n" if way == "--config" else f"clinical: {tag}\n")
    Path("whole.yaml").write_text("model: {class_path: SubspaceTeacher}\n")
    arguments = [way, tag] if way == "--data.name" else [way, "part.yaml"]
    assert main(["fit", "--config", "whole.yaml", *arguments]) == 2
    message = capsys.readouterr().err.strip()
    assert message.count("\n") == 0
    assert "no valid YAML" in message
    assert ("--data.name" if way == "--data.name" else "part.yaml") in message
    assert not Path("made").exists()


def test_missing_files_are_named_in_a_config_that_names_no_class_of_the_data(capsys):
    text = "# How to get the data: docs/mine.md\nmodel: {class_path: SubspaceTeacher}\ndata: {clinical: c.csv, expression: e.csv}\n"
    Path("c.yaml").write_text(text)
    assert main(["fit", "--config", "c.yaml"]) == 2
    message = capsys.readouterr().err
    assert (
        message
        == "dmml: error: missing: c.csv (data.clinical), e.csv (data.expression); docs/mine.md says how to get them\n"
    )


def test_a_limit_of_tokens_at_a_magnification_that_is_not_read_is_refused_in_one_line(capsys):
    Path("c.yaml").write_text("model: {class_path: SubspaceTeacher}\ndata: {clinical: c.csv, features: f.zarr}\n")
    assert main(["fit", "--config", "c.yaml", "--data.max_tokens", "{5: 100}"]) == 2
    message = "dmml: error: data.max_tokens: 5 is none of data.magnifications; give {10: 2500, 20: 2500}\n"
    assert capsys.readouterr().err == message
