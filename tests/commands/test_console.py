"""`-q` and `-v` decide which messages of the log a command shows, and where."""

import logging

import pytest

from dmml.__main__ import main
from dmml.commands.console import show_log, split_options

LOGGER = logging.getLogger("dmml.slides.extraction")


@pytest.mark.parametrize(
    ("option", "printed_text"),
    [(None, "found 3 slides\n"), ("-q", ""), ("--quiet", ""), ("-v", "level 2\nfound 3 slides\n")],
)
def test_options_choose_the_messages(capsys, option, printed_text):
    argv, level = split_options([*(["extract", option] if option else ["extract"]), "slides"])
    assert argv == ["extract", "slides"]
    with show_log(level):
        LOGGER.debug("level 2")
        LOGGER.info("found %d slides", 3)
        LOGGER.warning("a.svs: no scale")
    printed = capsys.readouterr()
    assert printed.out == printed_text
    assert printed.err == "warning: a.svs: no scale\n"


def test_outside_a_command_nothing_is_printed(capsys):
    with show_log():
        pass
    LOGGER.info("found 3 slides")
    assert capsys.readouterr() == ("", "")


def test_a_command_within_another_shows_the_messages_of_the_outer_level(capsys):
    for level, text in ((logging.INFO, "found 3 slides\n"), (logging.WARNING, "")):
        with show_log(level):
            with show_log(logging.INFO):
                LOGGER.info("found %d slides", 3)
            assert capsys.readouterr().out == text
    assert logging.getLogger("dmml").handlers == []


@pytest.mark.parametrize("command", [["extract"], ["crossval"]])
def test_the_help_explains_quiet_and_verbose(capsys, command):
    assert main(["--help"]) == 0
    assert "-q, --quiet" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    assert "-q, --quiet" in capsys.readouterr().out


def test_every_command_takes_quiet_and_verbose(capsys):
    assert main(["features", "list", "nowhere.zarr", "-q"]) == 2
    assert "unrecognized" not in capsys.readouterr().err
