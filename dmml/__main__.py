"""The `dmml` command line: finds the command and imports only what it needs. Uses the standard library only."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from dmml._version import __version__
from dmml.commands.console import HELP, Parser, show_log, split_options
from dmml.errors import InputError

TRAINER = {
    "fit": "train a teacher or a student: dmml fit --config configs/luad.yaml",
    "validate": "evaluate a checkpoint on the inner validation patients",
    "test": "test a checkpoint on a cohort: dmml test --ckpt_path P --config COHORT",
    "predict": "predict with a checkpoint; the patients need no outcome",
}
TOOLS = {
    "demo": (
        "dmml.commands.demo",
        "run everything on simulated data, up to the report of a histology-only model, in minutes",
    ),
    "simulate": ("dmml.commands.simulate", "make a cohort of slides and RNA with known truth"),
    "cohort template": (
        "dmml.commands.cohort.template",
        "begin a cohort: example tables, a split, and configs that run",
    ),
    "cohort fetch": (
        "dmml.commands.cohort.fetch",
        "download a TCGA project: slides, RNA and clinical data; a rerun continues",
    ),
    "cohort expression": ("dmml.commands.cohort.expression", "turn RNA files into one table of patients by genes"),
    "cohort split": ("dmml.commands.cohort.split", "make patient-level folds, stratified or site-preserved"),
    "cohort gdc": (
        "dmml.commands.cohort.gdc",
        "turn the GDC's downloads into a cohort, and list who is left out and why",
    ),
    "doctor": (
        "dmml.commands.doctor",
        "check before an expensive run: which tables match, and what would stop it",
    ),
    "extract": ("dmml.commands.extract", "turn slides into features; a rerun continues where it stopped"),
    "features": ("dmml.commands.features", "list, verify or import a feature store"),
    "crossval": (
        "dmml.commands.crossval",
        "compare teacher, student and baselines on the same folds, with paired statistics",
    ),
    "predict-slide": (
        "dmml.commands.predict_slide",
        "predict from one raw slide, with maps of what each tile contributes",
    ),
    "export": (
        "dmml.commands.export",
        "write a student as ONNX and torch.export, with a runner, a model card and a TRIPOD+AI table",
    ),
    "submit": (
        "dmml.commands.submit.submit",
        "run extract, fit or crossval as jobs of SLURM, or in parts on one machine; `submit status RUN` shows them",
    ),
    "view": ("dmml.commands.view", "show slides with overlays and tile values in the browser"),
    "report": ("dmml.commands.report", "make one HTML file of one or several runs"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments after `dmml`; None takes those of the process.

    Returns:
        0 on success, 2 if the input was wrong, 130 if the command was interrupted.
    """
    argv, level = split_options(sys.argv[1:] if argv is None else argv)
    # A console script does not see modules in the working directory, where users keep classes of their own.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # behind the packages, so that a data folder cannot shadow one of them
    try:
        with show_log(level):
            return _dispatch(argv)
    except InputError as error:
        print(f"dmml: error: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:  # e.g. the disk filled up, or a permission was withdrawn during the run
        if (line := import_module("dmml.writable").write_failure(error)) is None:
            raise
        print(f"dmml: error: {_one_line(line)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        option = " with --resume" if argv[:1] == ["fit"] else ""
        print(f"dmml: interrupted; run the same command{option} to continue where it stopped", file=sys.stderr)
        return 130


def _one_line(text: str) -> str:
    """Escape characters that names in a message may contain, such as line breaks and terminal control codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        print(f"dmml {__version__}")
        return 0
    if argv[0] in ("test", "predict"):
        crossval_models = import_module("dmml.commands.crossval_models")
        if (folder := crossval_models.named_crossval(argv)) is not None:
            return int(crossval_models.run(argv, folder, _dispatch))
    if argv[0] in TRAINER:
        # The whole input is checked before Lightning is imported, which takes seconds.
        command = import_module("dmml.commands.config.preflight").check(argv)
        return import_module("dmml.cli").run(command)
    name, rest = _find_tool(argv)
    module = import_module(TOOLS[name][0])
    parser = Parser(prog=f"dmml {name}", description=TOOLS[name][1], epilog=HELP, allow_abbrev=name != "submit")
    module.add_arguments(parser)
    if name == "submit":  # whatever is no option of the cluster belongs to the command that is submitted
        args, others = parser.parse_known_args(rest)
        args.arguments = others
    else:
        args = parser.parse_args(rest)
    if name == "demo":
        module.run(args, dispatch=main)
    else:
        module.run(args)
    return 0


def _find_tool(argv: list[str]) -> tuple[str, list[str]]:
    for words in (2, 1):
        name = " ".join(argv[:words])
        if name in TOOLS:
            return name, argv[words:]
    nested = [name for name in TOOLS if name.startswith(f"{argv[0]} ")]
    if nested:
        raise InputError(f"`dmml {argv[0]}` needs one of: {', '.join(name.split(' ', 1)[1] for name in nested)}")
    near = difflib.get_close_matches(argv[0], [*TRAINER, *TOOLS], n=1)
    hint = f"did you mean `dmml {near[0]}`?" if near else "`dmml --help` lists the commands"
    raise InputError(f"there is no command {argv[0]!r}; {hint}")


def _help() -> str:
    lines = [
        f"dmml {__version__}: learns from slides and RNA together, predicts from slides alone",
        "",
        "usage: dmml COMMAND ...    (dmml COMMAND --help explains its options)",
        "",
        "train and test (PyTorch Lightning)",
        *(f"  {name:<18} {text}" for name, text in TRAINER.items()),
        "",
        "prepare, check and compare",
        *(f"  {name:<18} {text}" for name, (_, text) in TOOLS.items()),
        "",
        f"every command: {HELP}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
