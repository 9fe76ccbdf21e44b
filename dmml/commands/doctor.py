"""Check installation, machine and inputs before a long run: which tables match, what is missing, which folds are too small.

Without a config or a checkpoint, only the installation and the machine are checked.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from dmml.errors import InputError
from dmml.writable import check_writable

if TYPE_CHECKING:
    from dmml.experiment.doctor.examination import Examination, Finding

_WIDTH = 108
_MARKS = {"ok": "ok", "check": "check", "blocks": "BLOCKS"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--config",
        "-c",
        action="append",
        metavar="C.yaml",
        help="config of a fit or a test; may be given several times, and later files override earlier ones",
    )
    parser.add_argument("--ckpt_path", metavar="P", help="checkpoint that is to be tested on the cohort")


def run(args: argparse.Namespace) -> None:
    """Examine the inputs and print the findings.

    Raises:
        InputError: Something would stop a run.
    """
    from dmml.commands.config.reading import init_args
    from dmml.commands.config.unquoted_values import check_quotes
    from dmml.experiment.doctor.doctor import examine
    from dmml.experiment.doctor.examination import Examination

    config = _read_config(args.config)
    examination = Examination()
    if not config and not args.ckpt_path:
        from dmml.experiment.doctor.installation import examine_installation

        examine_installation(examination)
    if config:
        examination.attempt("config", lambda: check_quotes(_section(config), init_args(config.get("model"))))
    if config and not examination.blocking:  # otherwise, a name that is not text would be reported as a missing column
        examination = examine(_section(config), training=not args.ckpt_path)
    _examine_config(examination, config)
    if args.ckpt_path:
        _examine_checkpoint(examination, args.ckpt_path, _section(config) if config else {})
    if not args.ckpt_path and all(finding.part == "folds" for finding in examination.blocking):
        _examine_fit(examination, config)
    if not examination.blocking:
        _examine_machine(examination, config)
    print("\n".join(_lines(examination.findings)))
    if examination.folds is not None:
        print("\n" + examination.folds.to_string())
    if examination.blocking:
        first = examination.blocking[0]
        raise InputError(f"{len(examination.blocking)} finding(s) block a run; the first: {first.part}: {first.text}")
    n_to_check = sum(finding.state == "check" for finding in examination.findings)
    if not config and not args.ckpt_path:
        print("\nthe installation works; name a config with --config to check its data, too")
        return
    print(f"\nnothing blocks a run{f'; {n_to_check} finding(s) to check' if n_to_check else ''}")


def _read_config(paths: list[str] | None) -> dict[str, Any]:
    """Read the config to examine; empty if none was named."""
    if not paths:
        return {}
    from dmml.commands.config.reading import read_config

    config = read_config(["fit", *(word for path in paths for word in ("--config", path))])
    if not isinstance(config.get("data"), dict):
        raise InputError(f"{paths[0]} has no `data:` section to examine; see configs/demo.yaml")
    return config


def _section(config: dict[str, Any]) -> dict[str, Any]:
    from dmml.commands.config.reading import init_args

    return init_args(config["data"])


def _examine_config(examination: Examination, config: dict[str, Any]) -> None:
    """Add the findings on the model section, and on misspelt names anywhere in the config."""
    from dmml.commands.config.file_checks import check_checkpoint
    from dmml.commands.config.mistakes import check_class_names, check_data_arguments
    from dmml.commands.config.preflight import check_limits, check_student_has_slides
    from dmml.commands.config.reading import init_args
    from dmml.training.checkpointing.named_checkpoints import named_checkpoints

    examination.attempt("config", lambda: check_data_arguments(_section(config)) if config else None)
    examination.attempt("config", lambda: check_limits(_section(config)) if config else None)
    examination.attempt("config", lambda: check_class_names(config))
    model = init_args(config.get("model"))
    examination.attempt("model", lambda: check_student_has_slides(config))
    for path in named_checkpoints(model).values():
        examination.attempt("model", partial(check_checkpoint, path))


def _examine_checkpoint(examination: Examination, path: str, section: dict[str, Any]) -> None:
    from dmml.commands.config.file_checks import check_checkpoint

    before = len(examination.blocking)
    examination.attempt("checkpoint", lambda: check_checkpoint(path))
    if len(examination.blocking) == before:
        from dmml.experiment.doctor.checkpoint import examine_checkpoint

        examine_checkpoint(examination, path, examination.cohort, section)


def _examine_fit(examination: Examination, config: dict[str, Any]) -> None:
    """Find what a fit would refuse about the data by running its first steps, for which Lightning is imported.

    Called only if nothing but the folds blocks a run. These steps then decide about the folds, too, since a part
    without patients stops some models, but not others.
    """
    data_class = str((config.get("data") or {}).get("class_path", "MultimodalDataModule")).rsplit(".", 1)[-1]
    cohort = examination.cohort
    if isinstance(config.get("model"), dict) and data_class == "MultimodalDataModule" and cohort is not None:
        from dmml.experiment.doctor.fit import examine_fit

        examination.unblock("folds")
        examine_fit(examination, cohort, config["model"], _section(config))


def _examine_machine(examination: Examination, config: dict[str, Any]) -> None:
    from dmml.experiment.doctor.machine import describe_machine

    folder = (config.get("trainer") or {}).get("default_root_dir") or "runs"
    examination.add("machine", describe_machine(folder))
    if config.get("model"):  # the config is for a fit
        examination.attempt(
            "machine", lambda: check_writable(folder, "name another folder under trainer.default_root_dir")
        )


def _lines(findings: Iterable[Finding]) -> list[str]:
    """Return aligned lines. Blocking findings come last, where they are noticed."""
    ordered = sorted(findings, key=lambda finding: finding.state == "blocks")
    lines = []
    for finding in ordered:
        first, *more = textwrap.wrap(finding.text, _WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
        lines.append(f"{finding.part:<11} {_MARKS[finding.state]:<7} {first}")
        lines += [f"{'':<19} {line}" for line in more]
    return lines
