"""No block of the documentation is passed over: each has a language whose test reads it, or holds no code."""

from __future__ import annotations

import re

import pytest
from doc_blocks import FENCE, REPOSITORY, blocks_of, dmml_arguments, pages

LANGUAGES = {"bash", "python", "yaml"}
COMMAND = re.compile(r"^\s*(\$ |dmml |python |import |from \w+ import |\w+: \S)", re.MULTILINE)


@pytest.mark.parametrize("page", pages())
def test_every_block_is_read_by_a_test(page):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    assert len(re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)) == 2 * len(FENCE.findall(text)), (
        "a fence is indented"
    )
    for block in blocks_of(page):
        if block.language not in LANGUAGES:
            assert not block.language, f"{block.place}: no test reads {block.language}"
            assert not COMMAND.search(block.text), f"{block.place}: name the language of this code"


@pytest.mark.parametrize("page", pages())
def test_every_command_of_a_block_is_recognised(page, tmp_path):
    for block in blocks_of(page, "bash"):
        commands = block.commands(tmp_path)
        assert commands, f"{block.place}: no command"
        lines = [line for line in block.text.splitlines() if re.search(r"(^|\s)dmml [a-z]", line)]
        assert sum(dmml_arguments(words) is not None for words in commands) >= len(lines), block.place


@pytest.mark.parametrize("page", pages())
def test_a_comment_about_needs_stands_directly_above_a_block(page):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    assert text.count("<!-- needs ") == sum(bool(block.needs) for block in blocks_of(page))
