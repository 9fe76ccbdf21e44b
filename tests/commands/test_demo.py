"""The demo runs each step once and in order, and repeats no finished step."""

from __future__ import annotations

import argparse
import json
import logging

import pytest

from dmml.commands import demo
from dmml.errors import InputError


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return parser.parse_args([])


def finish(argv: list[str]) -> None:
    """Write the file by which the demo recognises a finished step."""
    if argv[0] == "fit":
        folder = demo.STUDENT if "student" in argv[2] else demo.TEACHER
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "best.ckpt").touch()
        (folder / "provenance.json").write_text(json.dumps({"finished": "now"}))
    elif argv[0] == "test":
        folder = (demo.STUDENT if "student" in argv[2] else demo.TEACHER) / "test" / "held_out"
        folder.mkdir(parents=True)
        (folder / "report.html").touch()
        (folder / "metrics.json").touch()
    elif argv[0] == "report":
        demo.REPORT.touch()


def test_steps_run_in_order_and_a_finished_step_is_not_run_again():
    ran: list[list[str]] = []

    def dispatch(argv):
        ran.append(list(argv))
        finish(ran[-1])
        return 0

    demo.run(arguments(), dispatch)
    verbs = [argv[0] for argv in ran]
    assert verbs == ["simulate", "extract", "cohort", "extract", "cohort", "fit", "fit", "test", "test", "report"]
    ran.clear()
    demo.run(arguments(), dispatch)
    assert not {"fit", "test", "report"} & {argv[0] for argv in ran}


def test_an_installed_package_writes_the_configs_and_keeps_those_of_the_user():
    demo.CONFIGS.mkdir()
    (demo.CONFIGS / "demo.yaml").write_text("changed")
    with pytest.raises(InputError):
        demo.run(arguments(), lambda argv: 1)
    assert (demo.CONFIGS / "demo.yaml").read_text() == "changed"
    assert {step.argv[2] for step in demo.steps(arguments()) if step.argv[0] == "fit"} <= {
        str(path) for path in demo.CONFIGS.iterdir()
    }


def test_a_step_that_fails_stops_the_demo_and_is_named():
    with pytest.raises(InputError, match="extract"):
        demo.run(arguments(), lambda argv: int(argv[0] == "extract"))


@pytest.mark.parametrize("exit_code", [130, 143])
def test_a_demo_that_is_interrupted_is_not_called_a_failure(exit_code):
    with pytest.raises(SystemExit) as stopped:
        demo.run(arguments(), lambda argv: exit_code if argv[0] == "extract" else 0)
    assert stopped.value.code == exit_code


def test_the_output_of_steps_goes_to_the_log_unless_details_are_wanted(capsys, caplog):
    def dispatch(argv):
        print("many lines")
        return 0

    with caplog.at_level(logging.INFO, "dmml"):
        demo.run(arguments(), dispatch)
    assert "many lines" not in capsys.readouterr().out
    assert demo.LOG.read_text().count("many lines") == 10
    assert f"dmml view {demo.STUDENT}" in caplog.messages[-1]
    with caplog.at_level(logging.DEBUG, "dmml"):
        demo.run(arguments(), dispatch)
    assert "many lines" in capsys.readouterr().out
