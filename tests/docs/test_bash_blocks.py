"""Every command of the documentation is run, or at least parsed, and what other programs are given exists.

A command of dmml is run as it is printed, in a folder in which its files exist. It is only parsed if the comment
directly above its block says what it needs, as in `<!-- needs a network -->`, or if it is one of `PARSED_ONLY`.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from doc_blocks import Block, blocks_of, dmml_arguments, pages
from documented_files import write_tiles

from dmml.__main__ import TOOLS, TRAINER, main
from dmml.experiment.export import run_model

pytestmark = pytest.mark.slow

PARSED_ONLY = {
    "fit": "trains for many epochs; tests/commands fits",
    "crossval": "fits many models; tests/experiment/crossval runs it",
    "export": "converts and verifies for minutes; tests/experiment/export runs it",
    "submit": "needs a cluster; tests/commands/submit runs it",
    "view": "serves until it is stopped; tests/viewer opens it",
    "cohort fetch": "needs a network; tests/cohort/fetch runs it against a server of its own",
}
"""Commands that are too expensive to run, or that do not end: why, and which tests run them"""
BASH = [page for page in pages() if blocks_of(page, "bash")]


def tool_of(arguments: list[str]) -> str:
    """Name of the command, which may have two words."""
    two = " ".join(arguments[:2])
    return two if two in TOOLS else arguments[0]


def is_run(block: Block, arguments: list[str]) -> bool:
    return not block.needs and tool_of(arguments) not in PARSED_ONLY


def parse(arguments: list[str], repository: Path, monkeypatch) -> None:
    """Let dmml's own parser read a command, and check that the configs that it names exist."""
    for option, value in pairwise(arguments):
        if option in ("--config", "--student") and not value.startswith("/"):
            assert Path(value).is_file(), f"{value} is named by no earlier step"
    tool = tool_of(arguments)
    if tool in TRAINER:
        words = [word for word in arguments if word != "--resume"]
        assert main([*words, "--print_config"]) == 0, arguments
        return
    parsed = []
    with monkeypatch.context() as patch:
        patch.setattr(import_module(TOOLS[tool][0]), "run", parsed.append)
        assert main(arguments) == 0, arguments
    if tool == "submit" and parsed[0].verb != "status":
        parse([parsed[0].verb, *parsed[0].arguments], repository, monkeypatch)


def check_other_program(words: list[str], repository: Path) -> None:
    """Check that what a command of another program names is in the repository."""
    program, *rest = words
    if program == "make":
        assert re.search(rf"^{rest[0]}:.*## ", (repository / "Makefile").read_text(), re.MULTILINE), words
    elif program == "python":
        assert (repository / "dmml/experiment" / rest[0]).is_file() or (repository / rest[0]).is_file(), words
        if rest[0] == "export/run_model.py":
            run_model._arguments(rest[1:])
    elif program == "pip":
        extra = re.fullmatch(r"dmml\[(\w+)\]", rest[1])[1]
        project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
        assert extra in project["optional-dependencies"], words
    elif program == "kubectl" and rest[0] == "wait":
        jobs = [yaml.safe_load(path.read_text()) for path in (repository / "deploy/kubernetes").glob("*.yaml")]
        assert rest[-1] in {f"job/{job['metadata']['name']}" for job in jobs}, words
    elif program == "nextflow":
        parameters = (repository / "deploy/nextflow/main.nf").read_text()
        names = [word.removeprefix("--") for word in rest if word.startswith("--")]
        assert [name for name in names if f"\nparams.{name} = " not in parameters] == [], words
    else:
        assert program in ("git", "cd", "source", "kubectl", "docker", "apptainer", "gdc-client"), words
    for word in rest:
        assert not word.startswith("deploy/") or (repository / word).exists(), words


def without_repeats(commands: list[list[str]]) -> list[list[str]]:
    """Leave out commands that differ from an earlier one of the block in numbers only, as those of a loop do."""
    return list({re.sub(r"\d+", "0", " ".join(words)): words for words in reversed(commands)}.values())[::-1]


def prepare(page: str, root: Path) -> None:
    """Bring the working directory into the state that a page assumes."""
    if page == "docs/reports.md":
        write_tiles(root)
    if page == "README.md":  # the reader makes these
        shutil.rmtree(root / "data" / "mine")


@pytest.mark.parametrize("page", BASH)
def test_commands_of_the_page_are_run_or_parsed(page, work_in, project_with_runs, repository, monkeypatch):
    root = work_in(project_with_runs)
    prepare(page, root)
    for block in blocks_of(page, "bash"):
        for words in without_repeats(block.commands(root)):
            arguments = dmml_arguments(words)
            if arguments is None:
                check_other_program(words, repository)
            elif is_run(block, arguments):
                assert main(arguments) == 0, f"{block.place}: {words}"
            else:
                parse(arguments, repository, monkeypatch)


def test_the_commands_that_are_only_parsed_exist():
    assert PARSED_ONLY.keys() <= {*TOOLS, *TRAINER}


@pytest.mark.parametrize(
    "command",
    [
        "extract slides --out f.zarr --no-such-option 1",
        "submit extract slides --out f.zarr --parts 2 --no-such-option 1",
        "submit fit --config configs/luad.yaml --data.no_such_key 1",
        "crossval --config configs/no_such_file.yaml",
        "fit --config configs/luad.yaml --trainer.no_such_key 1",
        "features no-such-verb f.zarr",
        "no-such-command",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(command, tmp_path, repository, monkeypatch):
    shutil.copytree(repository / "configs", tmp_path / "configs")
    with pytest.raises((AssertionError, SystemExit, KeyError)):
        parse(command.split(), repository, monkeypatch)


@pytest.mark.parametrize(
    "command",
    [
        "make no-such-target", "pip install dmml[no_such_extra]", "python benchmarks/no_such_script.py",
        "kubectl apply -f deploy/kubernetes/absent.yaml", "kubectl wait job/absent", "unknown-program x",
        "nextflow run deploy/nextflow --no_such_parameter 1", "python export/run_model.py f.zarr --no-such-option",
    ],
)  # fmt: skip
def test_an_absent_target_of_another_program_is_noticed(command, repository):
    with pytest.raises((AssertionError, SystemExit)):
        check_other_program(command.split(), repository)


def test_a_loop_and_a_continued_line_are_read_as_the_shell_does(tmp_path):
    text = "for k in 0 1; do\n  dmml fit --data.fold $k \\\n    --resume\ndone\ndmml report 'a b' # comment\n"
    commands = Block("page", 1, "bash", text, "").commands(tmp_path)
    assert commands[0] == ["dmml", "fit", "--data.fold", "0", "--resume"]
    assert commands[2] == ["dmml", "report", "a b"]
    assert without_repeats(commands) == [commands[0], commands[2]]
