"""The command line accepts every shipped config."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dmml.__main__ import main

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_is_parsed(config, capsys):
    has_model = "model" in yaml.safe_load(config.read_text())
    assert main(["fit" if has_model else "test", "--config", str(config), "--print_config"]) == 0
    parsed = yaml.safe_load(capsys.readouterr().out)
    assert parsed["data"]["class_path"].endswith("MultimodalDataModule")
    assert (parsed.get("model") is not None) == has_model


def test_every_documented_journey_has_a_config():
    names = {path.stem for path in CONFIGS}
    assert {"demo", "demo_student", "demo_grade", "demo_held_out", "luad", "luad_student", "luad_held_out"} <= names
