"""Every message about input names what is wrong and the way out, in one line of plain English."""

import re
import sys
from pathlib import Path

import pytest

WAY_OUT = re.compile(
    r";|\b(give|name|must|needs?|takes|use|install|choose|leave|did you mean|one of|instead of|only of|is for|not)\b"
)
"""A second clause that says what to do, or words that say what is accepted"""
MISSING = re.compile(
    r"no such|does not exist|cannot be read|cannot be imported|has no|can(not)? be used|is not a|there is no|refuses|the run has ended"
)
"""Words that name something that is missing or damaged; what to do about it goes without saying"""
SAID_ELSEWHERE = re.compile(
    r"^(…|\W|data|config|--manifest|--backend|--roi|line|covariates|of|slides|in|no patient for|none is lost|are)*$"
)
"""Messages that consist of values alone, among them the way out: functions beside the call make it"""
NAMED = re.compile(
    r"…|--\w|`[^`]+`|\w+\.(json|csv|yaml|ckpt)|\b[a-z]+_[a-z_]+\b|\bdata\.|\b[A-Z]\w+[A-Z]\w+"
    r"|\bdmml \w+|the run|RNA|outcome|fit|model|magnification|inputs|checkpoint"
)
"""A value, an option, a command, a file, a key, a class, or what the message is about"""
SHORT_ENOUGH = 420


@pytest.fixture(scope="module")
def messages(repository):
    sys.path.insert(0, str(repository / "docs" / "site"))
    try:
        from messages import collect_messages
    finally:
        sys.path.pop(0)
    collected = [message for message in collect_messages(repository / "dmml") if message.has_text]
    assert len(collected) > 500
    return collected


def offending(messages, is_wrong):
    return [f"{message.file}:{message.line}: {message.text}" for message in messages if is_wrong(message.text)]


def test_messages_are_one_line_of_reasonable_length(messages):
    assert offending(messages, lambda text: "\n" in text or len(text) > SHORT_ENOUGH) == []


def test_messages_name_the_thing(messages):
    assert offending(messages, lambda text: not NAMED.search(text)) == []


def test_messages_say_the_way_out(messages):
    def has_none(text):
        return not any(pattern.search(text) for pattern in (WAY_OUT, MISSING, SAID_ELSEWHERE))

    assert offending(messages, has_none) == []


def test_messages_do_not_end_like_paragraphs(messages):
    assert offending(messages, lambda text: text.endswith(".") and not text.endswith(("..", "e.g."))) == []


def test_a_message_in_the_source_is_collected_with_its_values(tmp_path):
    source = 'def f(path, n):\n    raise InputError(f"{path}: has {n} columns; give " + "two" + (" or" if n else ""))\n'
    (tmp_path / "m.py").write_text(source, encoding="utf-8")
    from messages import collect_messages

    [message] = collect_messages(tmp_path)
    assert message.text == "…: has … columns; give two or"
    assert message.line == 2
    assert message.file == Path(tmp_path.name) / "m.py"
