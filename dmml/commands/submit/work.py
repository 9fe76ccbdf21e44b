"""What `dmml submit` can run in parts: checks a command as the command itself does, and writes the command of each part."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.commands.console import Parser
from dmml.errors import InputError
from dmml.experiment.cluster.records import folder_inside, folder_next_to
from dmml.experiment.cluster.resources import Resources

if TYPE_CHECKING:
    from dmml.slides.extraction.job import ExtractionJob

Commands = tuple[dict[str, list[str]], list[str]]
"""{part: command}, and the command that joins the results, or []"""


@dataclass(frozen=True)
class Work:
    """A checked command.

    Attributes:
        folder: Folder of the submission.
        arguments: The verb and its arguments, as they are recorded.
        parts: Names of the parts.
        commands: Prepares what all parts need, and returns their commands. Called once per submission.
        overwrite: Whether the results of an earlier run are to be replaced.
        provenance: See `dmml.experiment.cluster.part.Part`.
    """

    folder: Path
    arguments: list[str]
    parts: list[str]
    commands: Callable[[], Commands]
    overwrite: bool = False
    provenance: str = ""


def extraction_work(arguments: list[str], parts: int | None, resources: Resources) -> Work:
    """Check an extraction; each part extracts a shard of the slides.

    Raises:
        InputError: As `dmml extract` does; or options do not go together with parts.
    """
    from dmml.commands.extract import add_arguments, options_of
    from dmml.slides.companion_files import check_store_writable
    from dmml.slides.discovery.find import describe_unscaled, find_slides
    from dmml.slides.extraction.job import prepare
    from dmml.slides.extraction.options import ExtractionOptions

    args = _parse("extract", add_arguments, arguments)
    _check_not_used(args, {"shard": "--parts divides the slides", "dry_run": "it needs no cluster; use dmml extract"})
    if args.overwrite:
        raise InputError(
            "--overwrite: a part that is requeued would begin anew; remove the store, or give another --out"
        )
    if parts is None:
        raise InputError(
            "--parts is missing; give the number of jobs among which the slides are divided, e.g. --parts 8"
        )
    _check_gpus("extract", resources)
    check_store_writable(args.out)
    options = {key: value for key, value in options_of(args).items() if key != "encoder" or value is not None}
    job = prepare(args.out, ExtractionOptions(**options))
    files = find_slides(args.slides, lambda path: job.mpp_of(path) is not None)
    slides = job.manifest.select(files.slides, files.unscaled).slides
    if not slides:
        raise InputError(f"none of the slides that the manifest names can be used: {describe_unscaled(files.unscaled)}")
    if parts > len(slides):
        raise InputError(f"--parts: {parts} are more than the {len(slides)} slides; give fewer")

    def commands() -> Commands:
        backend = _fetch_encoder(job, resources)
        # Named, because machines on which another library is faster would otherwise choose that one.
        words = arguments if args.backend == backend else [*arguments, "--backend", backend]
        shards = {f"part_{i}": _dmml("extract", *words, "--shard", f"{i}/{parts}") for i in range(1, parts + 1)}
        return shards, _dmml("extract", *words)

    names = [f"part_{i}" for i in range(1, parts + 1)]
    return Work(folder_next_to(args.out), ["extract", *arguments], names, commands)


def _fetch_encoder(job: ExtractionJob, resources: Resources) -> str:
    """Load the encoder once, so that its weights and its graph are in the caches; return the backend of all parts."""
    from dmml.slides.encoders.build import load_encoder
    from dmml.slides.encoders.encoder import ONNXRUNTIME, TORCH
    from dmml.slides.extraction.continued_backend import backend_to_load

    options = job.options
    name, weights = options.encoder_name, options.weights
    if resources.gpus and options.backend != ONNXRUNTIME:
        return load_encoder(name, weights, "cpu", backend=TORCH).backend
    backend = backend_to_load(job.store, options)
    return load_encoder(name, weights, "cpu", options.precision, options.compiled, backend).backend


def fit_work(arguments: list[str], parts: int | None, resources: Resources) -> Work:
    """Check a fit, which is one part.

    Raises:
        InputError: As `dmml fit` does; or it is to be divided, or to use several machines.
    """
    from dmml.commands.config.preflight import check
    from dmml.experiment.run_folder import RunFolder

    if parts not in (None, 1):
        raise InputError(
            f"--parts: {parts} parts of one fit are impossible; leave it out, or submit crossval for folds"
        )
    overwrite = "--overwrite" in arguments
    words = [word for word in arguments if word not in ("--overwrite", "--resume")]
    command = check(["fit", *words, "--overwrite" if overwrite else "--resume"])
    if command.wants_help:
        raise InputError("dmml submit fit: prints no help of `dmml fit`; run that command itself")
    if int(command.trainer.get("num_nodes") or 1) > 1:
        raise InputError(
            "trainer.num_nodes: dmml submit uses one machine per fit; write the batch script of docs/scaling.md for more"
        )

    def commands() -> Commands:
        if overwrite:
            RunFolder(command.run_folder).claim(command.digest, True, command.command)
        return {"part_1": _dmml("fit", *words, "--resume")}, []

    folder, provenance = folder_inside(command.run_folder), str(command.run_folder / "provenance.json")
    return Work(folder, ["fit", *words], ["part_1"], commands, overwrite, provenance)


def crossval_work(arguments: list[str], parts: int | None, resources: Resources) -> Work:
    """Check a cross-validation; each part fits one fold.

    Raises:
        InputError: As `dmml crossval` does; or options do not go together with parts.
    """
    from dmml.commands.crossval import add_arguments, make_plan
    from dmml.writable import check_writable

    args = _parse("crossval", add_arguments, arguments)
    used = {"only_fold": "each part fits one fold", "collect": "it follows by itself"}
    _check_not_used(args, used)
    if args.jobs > 1:
        raise InputError("--jobs: each part fits one fold; leave it out, and limit parts with --at-once")
    _check_gpus("crossval", resources)
    plan = make_plan(args)
    if parts not in (None, len(plan.folds)):
        raise InputError(f"--parts: a cross-validation has one part per fold, here {len(plan.folds)}; leave it out")
    check_writable(plan.out, "name another folder with --out")
    if (plan.out / "plan.json").is_file() and not args.overwrite:
        plan.claim()  # refuses a folder of another configuration or cohort, and writes nothing
    words = [word for word in arguments if word != "--overwrite"]

    def commands() -> Commands:
        plan.claim(args.overwrite)
        folds = {f"fold_{k}": _dmml("crossval", *words, "--only-fold", str(k)) for k in plan.folds}
        return folds, _dmml("crossval", *words, "--collect")

    names = [f"fold_{k}" for k in plan.folds]
    return Work(folder_inside(plan.out), ["crossval", *words], names, commands, args.overwrite)


def _parse(
    verb: str, add_arguments: Callable[[argparse.ArgumentParser], None], arguments: list[str]
) -> argparse.Namespace:
    parser = Parser(prog=f"dmml {verb}")
    add_arguments(parser)
    return parser.parse_args(arguments)


def _check_not_used(args: argparse.Namespace, reasons: dict[str, str]) -> None:
    for name, reason in reasons.items():
        value = getattr(args, name)
        if value is not None and value is not False:  # fold 0 equals False
            raise InputError(f"--{name.replace('_', '-')}: {reason}; leave it out")


def _check_gpus(verb: str, resources: Resources) -> None:
    if resources.gpus > 1:
        raise InputError(f"--gpus: each part of {verb} uses one GPU, not {resources.gpus}; give 1, and more parts")


def _dmml(*words: str) -> list[str]:
    """The command of a part, with the Python that runs now; the working directory is that of the submission."""
    return [os.path.abspath(sys.executable), "-m", "dmml", *words]
