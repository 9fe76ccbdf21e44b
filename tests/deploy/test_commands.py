"""Every command line in the files of deploy/ is one that dmml's parser accepts, and indices cover all parts and folds."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module

import pytest
import yaml

from dmml.__main__ import TOOLS, main
from dmml.slides.discovery.shards import shard_of

RECORDER = """#!{python} -S
import json, sys
print(json.dumps(sys.argv[1:]))
"""


@pytest.fixture
def parse(monkeypatch):
    """Return a function that gives the command's name and what dmml's parser makes of its words, without running it."""
    parsed = []
    for name, (module, _) in TOOLS.items():
        if name in ("extract", "crossval", "features"):
            monkeypatch.setattr(import_module(module), "run", parsed.append)

    def arguments(words):
        parsed.clear()
        assert main(words) == 0, words
        return parsed[0] if parsed else None

    return arguments


def jobs(repository):
    return {path.stem: yaml.safe_load(path.read_text()) for path in (repository / "deploy/kubernetes").glob("*.yaml")}


def container(job):
    (only,) = job["spec"]["template"]["spec"]["containers"]
    return only


def words_of_index(job, index, folder):
    """Run the shell line of a Job as the index would, with a `dmml` that prints its arguments."""
    recorder = folder / "dmml"
    recorder.write_text(RECORDER.format(python=sys.executable))
    recorder.chmod(0o755)
    environment = {entry["name"]: entry["value"] for entry in container(job)["env"]} if "env" in container(job) else {}
    environment |= {"PATH": f"{folder}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": str(index)}
    command = [*container(job)["command"], *container(job)["args"]]
    assert command[:2] == ["/bin/sh", "-c"]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)


def processes(repository):
    """{process of the pipeline: its script}."""
    text = (repository / "deploy/nextflow/main.nf").read_text()
    return dict(re.findall(r'process (\w+) \{.*?script:\s+"""\s*(.*?)\s*"""', text, re.DOTALL))


def fill_in(script, values):
    return re.sub(r"\$\{([\w.]+)\}", lambda name: str(values[name[1]]), script)


def test_kubernetes_extracts_every_part_once(repository, tmp_path, parse):
    job = jobs(repository)["extract"]
    assert job["spec"]["completionMode"] == "Indexed"
    n = job["spec"]["completions"]
    shards = [shard_of(parse(words_of_index(job, i, tmp_path)[:]).shard, {}) for i in range(n)]
    assert [(shard.index, shard.count) for shard in shards] == [(i, n) for i in range(n)]


def test_kubernetes_fits_every_fold_once_and_collects_from_the_same_folder(repository, tmp_path, parse):
    job = jobs(repository)["crossval"]
    folds = [parse(words_of_index(job, i, tmp_path)) for i in range(job["spec"]["completions"])]
    assert [fold.only_fold for fold in folds] == [0, 1, 2, 3, 4]
    program, *words = container(jobs(repository)["collect"])["command"]
    collected = parse(words)
    assert program == "dmml"
    assert collected.collect
    assert {str(fold.out) for fold in folds} == {str(collected.out)}
    assert folds[0].config == collected.config


def test_nextflow_runs_commands_that_exist(repository, parse):
    scripts = processes(repository)
    assert list(scripts) == ["EXTRACT", "VERIFY", "FOLD", "COLLECT"]
    values = {f"params.{name}": f"/data/{name}" for name in ("slides", "features", "config", "crossval")}
    values |= {"params.shards": 4, "shard": 4, "fold": 0}
    program = {}
    for name, script in scripts.items():
        first, *words = shlex.split(fill_in(script, values))
        assert first == "dmml"
        program[name] = parse(words)
    assert program["EXTRACT"].shard == "4/4"
    assert program["EXTRACT"].out == program["VERIFY"].store == "/data/features"
    assert program["FOLD"].only_fold == 0
    assert program["COLLECT"].collect
    assert program["FOLD"].out == program["COLLECT"].out


@pytest.mark.parametrize("file", ["Dockerfile", "dmml.def"])
def test_commands_in_texts_exist(repository, parse, file):
    text = (repository / "deploy" / file).read_text().replace("\\\n", " ").replace("\n#", "\n")
    lines = re.findall(r"(?:^|\s)(?:dmml|dmml[\w-]*\.sif) ((?:extract|crossval|features|--version) ?[^`\n]*)", text)
    quoted = re.findall(r'CMD \["dmml", "(--help)"\]', text)
    expected = {"Dockerfile": 1, "dmml.def": 2}
    assert len(lines) + len(quoted) >= expected[file]
    for line in [*lines, *quoted]:
        parse(shlex.split(line))
