"""Simulate two cohorts with known truth: rendered slides (or token features), RNA and outcomes.

Writes OUT/development and OUT/held_out, each with clinical.csv, truth.csv (factors of the patients), truth/ (tissue of
the slides as label images, with their key labels.json) and, by default, slides/ and rna/; with --features-only,
features.zarr and expression.parquet instead. The held-out cohort has other sites, another stain and
another RNA batch, but the same biology.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from dmml.errors import InputError
from dmml.simulate.output_folder import start_simulation
from dmml.simulate.settings import SimulationSettings
from dmml.simulate.worlds import WORLDS, world_named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "out", metavar="OUT", type=Path, help="folder for the cohorts; new, empty, or of the same simulation"
    )
    parser.add_argument("--patients", type=int, default=60, help="patients of the development cohort (default: 60)")
    parser.add_argument("--held-out", type=int, default=40, help="patients of the held-out cohort (default: 40)")
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed gives other patients of the same world (default: 0)"
    )
    parser.add_argument(
        "--features-only", action="store_true", help="token features and an expression table, no slides"
    )
    parser.add_argument(
        "--dim", type=int, default=64, help="width of the token features, with --features-only (default: 64)"
    )
    parser.add_argument(
        "--visibility",
        type=float,
        default=None,
        help="correlation of each factor with what a slide shows, above 0 up to 1 (default: 0.8 for features, 0.9 for slides)",
    )
    parser.add_argument(
        "--world",
        metavar="NAME",
        default=None,
        help="where the signal lies, with --features-only: "
        + "; ".join(f"{name}: {world.description}" for name, world in WORLDS.items()).replace("%", "%%")
        + ". In every world slides also differ in 20 meaningless directions, all patients have RNA, and follow-up ends "
        "after 1,500 days at most, in `site_shift` after 2,400 (default: the simulation without these)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a simulation with other arguments in OUT")


def run(args: argparse.Namespace) -> None:
    """Simulate the cohorts and print a summary of each."""
    _check_arguments(args)
    settings = SimulationSettings(
        args.out, args.patients, args.held_out, args.seed, args.features_only, args.dim, args.visibility, args.world
    )
    if not start_simulation(settings.out, settings.arguments(), args.overwrite):
        print(f"{args.out}: this simulation is already complete; nothing to do")
        return
    from dmml.simulate.simulation import simulate, summary

    for cohort, patients in simulate(settings).items():
        print(f"{args.out / cohort}: {summary(patients)}")


def _check_arguments(args: argparse.Namespace) -> None:
    """Check the arguments before anything heavy is imported."""
    for option, value, minimum in (
        ("--patients", args.patients, 1),
        ("--held-out", args.held_out, 1),
        ("--seed", args.seed, 0),
        ("--dim", args.dim, 8),
    ):
        if value < minimum:
            raise InputError(f"{option}: {value} is too small; the minimum is {minimum}")
    if args.visibility is not None and not 0 < args.visibility <= 1:
        raise InputError(
            f"--visibility: {args.visibility} is not a positive correlation; give a number above 0 and up to 1"
        )
    if args.world is not None:
        world_named(args.world)
        if not args.features_only:
            raise InputError(
                "--world: a world is simulated as token features, not as rendered slides; add --features-only"
            )
    if not args.features_only:
        for module in ("tifffile", "imagecodecs"):
            if importlib.util.find_spec(module) is None:
                raise InputError(
                    f"rendering slides needs {module}; install it with pip install 'dmml[demo]', or add --features-only"
                )
