"""Options on the command line are laid over the config, however deep."""

from __future__ import annotations

from dmml.commands.config_reading import apply_options


def test_nested_options_reach_sections_with_and_without_init_args():
    config = {"model": {"class_path": "X", "init_args": {"task": {"class_path": "Y"}}}, "trainer": {"max_epochs": 1}}
    words = ["--trainer.logger.save_dir", "here", "--model.task.n_intervals=3", "--model.init_args.width", "8"]
    apply_options(config, ["fit", *words])
    assert config == {
        "model": {"class_path": "X", "init_args": {"task": {"class_path": "Y", "n_intervals": 3}, "width": 8}},
        "trainer": {"max_epochs": 1, "logger": {"save_dir": "here"}},
    }
