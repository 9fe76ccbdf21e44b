"""Every YAML of the documentation is a config, or a part of one, that dmml's own parser accepts."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from doc_blocks import Block, blocks_of, pages

from dmml.__main__ import main
from dmml.commands.config.reading import read_config

pytestmark = pytest.mark.slow

YAML = [block for page in pages() for block in blocks_of(page, "yaml")]
SECTIONS = {"seed_everything", "model", "data", "trainer"}
VALID = {
    "model": {"class_path": "SubspaceTeacher", "init_args": {"task": {"class_path": "Survival"}}},
    "data": {"class_path": "MultimodalDataModule", "init_args": {"clinical": "clinical.csv"}},
    "trainer": {"max_epochs": 1},
}


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which PyYAML would silently take the last."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key stands twice: {keys}"
        return super().construct_mapping(node, deep)


def whole_config(block: Block) -> dict:
    """A config of which the block is a part: of its sections or, if it names none of them, of the model's arguments."""
    content = yaml.load(block.text, StrictLoader)
    part = content if content.keys() <= SECTIONS else {"model": {"init_args": content}}
    for name, sections in (("valid.yaml", VALID), ("part.yaml", part)):
        Path(name).write_text(yaml.safe_dump(sections))
    return read_config(["fit", "--config", "valid.yaml", "--config", "part.yaml"])


def accepts(config: dict, capsys) -> bool:
    """Whether `dmml fit` takes the config; nothing is read or written."""
    Path("config.yaml").write_text(yaml.safe_dump(config))
    code = main(["fit", "--config", "config.yaml", "--print_config"])
    capsys.readouterr()
    return code == 0


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.place)
def test_the_yaml_is_a_part_of_a_config(block, own_modules, capsys):
    assert accepts(whole_config(block), capsys)


def keys_of(content: object, path: tuple = ()) -> list[tuple]:
    """Paths of all keys in a mapping, at any depth."""
    if isinstance(content, dict):
        return [inner for key, value in content.items() for inner in ((*path, key), *keys_of(value, (*path, key)))]
    return []


@pytest.mark.parametrize("block", YAML[:1], ids=lambda block: block.place)
def test_a_renamed_key_is_noticed(block, own_modules, capsys):
    config = whole_config(block)
    for *outer, key in keys_of(config)[-3:]:
        renamed = copy.deepcopy(config)
        inner = renamed
        for name in outer:
            inner = inner[name]
        inner[f"{key}_renamed"] = inner.pop(key)
        assert not accepts(renamed, capsys), f"{'.'.join(map(str, outer))}.{key}"
