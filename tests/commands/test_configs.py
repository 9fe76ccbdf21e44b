"""The command line accepts every shipped config."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dmml.__main__ import main

FOLDER = Path(__file__).resolve().parents[2] / "configs"
OVERLAYS = {FOLDER / "debug.yaml", FOLDER / "fast.yaml"}
"""Configs that are given after another one"""
CONFIGS = sorted(set(FOLDER.rglob("*.yaml")) - OVERLAYS)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_is_parsed(config, capsys):
    has_model = "model" in yaml.safe_load(config.read_text())
    assert main(["fit" if has_model else "test", "--config", str(config), "--print_config"]) == 0
    parsed = yaml.safe_load(capsys.readouterr().out)
    assert parsed["data"]["class_path"].endswith("MultimodalDataModule")
    assert (parsed.get("model") is not None) == has_model


@pytest.mark.parametrize("overlay", sorted(OVERLAYS), ids=lambda path: path.stem)
def test_a_config_after_another_one_changes_its_own_keys_alone(overlay, capsys):
    configs = [FOLDER / "demo.yaml", overlay]
    assert main(["fit", *(word for path in configs for word in ("--config", str(path))), "--print_config"]) == 0
    parsed = yaml.safe_load(capsys.readouterr().out)
    first, second = (yaml.safe_load(path.read_text()) for path in configs)
    expected = first["trainer"] | second["trainer"]
    assert {key: parsed["trainer"][key] for key in expected} == expected
    for section in ("model", "data"):
        arguments = first[section]["init_args"] | second.get(section, {}).get("init_args", {})
        del arguments["task" if section == "model" else "outcome"]  # classes are written with their defaults
        assert {key: parsed[section]["init_args"][key] for key in arguments} == arguments


def test_the_check_before_the_run_reads_such_configs_too(tmp_path, capsys):
    overlay = tmp_path / "other.yaml"
    overlay.write_text("data: {init_args: {clinical: no_such_table.csv}}")
    assert main(["fit", "--config", str(FOLDER / "demo.yaml"), "--config", str(overlay)]) == 2
    assert "no_such_table.csv" in capsys.readouterr().err


def test_every_documented_journey_has_a_config():
    names = {path.stem for path in CONFIGS}
    assert {"demo", "demo_student", "demo_grade", "demo_held_out", "luad", "luad_student", "luad_held_out"} <= names
