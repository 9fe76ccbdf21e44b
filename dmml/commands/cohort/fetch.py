"""Download a TCGA project's open files: diagnostic slides, RNA and clinical data, laid out for the commands that follow.

Without --slides, --rna and --clinical, all three are fetched. A second run downloads only what is missing, and a file
that was cut off is continued. Every file is compared with the size and the md5 that the GDC states. Files that
gdc-client downloaded into FOLDER/slides and FOLDER/rna are taken over.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from dmml.errors import InputError
from dmml.writable import check_writable

_KINDS = ("slides", "rna", "clinical")
_ALL = math.inf
"""Value of --slides without a number"""
_MAX_CONNECTIONS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("project", metavar="PROJECT", help="project of the GDC, such as TCGA-LUAD")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the cohort")
    parser.add_argument(
        "--slides",
        type=int,
        nargs="?",
        const=_ALL,
        metavar="N",
        help="fetch diagnostic slides: N of them, or all; a larger N later adds slides",
    )
    parser.add_argument("--rna", action="store_true", help="fetch gene expression (STAR - Counts)")
    parser.add_argument(
        "--clinical", action="store_true", help="fetch vital status, follow-up, diagnoses and demography"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="report files, gigabytes, hours and free space; download nothing"
    )
    parser.add_argument(
        "--rate", type=float, default=10.0, metavar="MB/S", help="rate for which hours are stated (default 10)"
    )
    parser.add_argument(
        "--update", action="store_true", help="follow a data release that has changed files of the folder"
    )
    source = parser.add_argument_group("servers")
    source.add_argument(
        "--source",
        default="gdc",
        choices=("gdc", "idc"),
        help="where slides come from: gdc (default; .svs), or idc, the Imaging Data Commons (DICOM; needs the extra idc)",
    )
    source.add_argument("--api", metavar="URL", help="address of the GDC's API, e.g. of a mirror")
    source.add_argument("--idc-storage", metavar="URL", help="address of the IDC's storage")
    patience = parser.add_argument_group("network")
    patience.add_argument(
        "--connections",
        type=int,
        default=4,
        metavar="N",
        help=f"at the same time, up to {_MAX_CONNECTIONS} (default 4)",
    )
    patience.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds without a byte until a request has failed (default 60)",
    )
    patience.add_argument(
        "--attempts", type=int, default=8, metavar="N", help="failures in a row until a file is given up (default 8)"
    )
    patience.add_argument(
        "--max-wait",
        type=float,
        default=60.0,
        metavar="S",
        help="longest pause between attempts where the server names none (default 60)",
    )


def run(args: argparse.Namespace) -> None:
    """Plan, download, and print the commands that follow."""
    _check_options(args)
    check_writable(args.out, "name another folder with --out")
    from dmml.cohort.fetch.fetch_cohort import FetchRequest, download, prepare
    from dmml.cohort.fetch.gdc_api import API
    from dmml.cohort.fetch.http_client import HttpSettings
    from dmml.cohort.fetch.idc import STORAGE

    requested = {"slides": args.slides is not None, "rna": args.rna, "clinical": args.clinical}
    request = FetchRequest(
        project=args.project,
        out=args.out,
        kinds=tuple(kind for kind in _KINDS if requested[kind]) or _KINDS,
        n_slides=None if args.slides == _ALL else args.slides,
        source=args.source,
        api=args.api or API,
        storage=args.idc_storage or STORAGE,
        update=args.update,
        http=HttpSettings(args.connections, args.timeout, args.attempts, args.max_wait),
    )
    prepared = prepare(request, args.dry_run)
    releases = ", ".join(prepared.manifest.releases.values())
    print(f"{args.project}{f' ({releases})' if releases else ''} to {args.out}")
    for line in prepared.plan.lines(args.rate):
        print(f"  {line}")
    if args.dry_run:
        return
    commands = download(prepared)
    print(f"{args.out}: complete. Next:")
    for command in commands:
        print(f"  {command}")


def _check_options(args: argparse.Namespace) -> None:
    """Refuse numbers that make no sense, and addresses that are none."""
    if args.slides not in (None, _ALL) and args.slides < 1:
        raise InputError(f"--slides {args.slides}: must be at least 1; leave the number out to fetch all slides")
    if not 1 <= args.connections <= _MAX_CONNECTIONS:
        raise InputError(f"--connections {args.connections}: must be 1 to {_MAX_CONNECTIONS}; more would be impolite")
    if args.attempts < 1:
        raise InputError(f"--attempts {args.attempts}: must be at least 1")
    for option, value in (("--rate", args.rate), ("--timeout", args.timeout), ("--max-wait", args.max_wait)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{option} {value:g}: must be above 0")
    for option, url in (("--api", args.api), ("--idc-storage", args.idc_storage)):
        if url is not None and not url.startswith(("https://", "http://")):
            raise InputError(f"{option} {url}: must begin with https:// (or http://)")
