"""Extract features from slides: find tissue, lay nested 10x and 20x tiles, encode them and write the store.

An interrupted extraction resumes where it stopped. A slide that cannot be used is recorded in failures.csv beside the
store, and the others are extracted all the same; qc.html beside the store shows every slide with its tiles.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from pathlib import Path

_NAMED = 5
"""Number of slides whose notes are printed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add(
        "slides",
        metavar="SLIDES",
        nargs="+",
        help="slide files, and folders that are searched for slides; JPEG, PNG and BMP files in them are slides if their scale is given",
    )
    add("--out", required=True, metavar="F.zarr", help="feature store to write or go on with: a folder or fsspec URL")
    add("--manifest", metavar="CSV", help="which slides (column slide_id), and their µm per pixel (column mpp)")
    add("--mpp", type=float, help="µm per pixel where neither the slide nor the manifest tells")
    scales = {"type": int, "nargs": "+", "default": [10, 20], "metavar": "M"}
    add("--magnifications", help="one, or a pair such as 10 20 (default)", **scales)
    add("--dry-run", action="store_true", help="say how many slides, tiles, gigabytes and hours, and write nothing")
    encoding = parser.add_argument_group("encoder")
    encoding.add_argument(
        "--encoder",
        metavar="NAME",
        help="timm name, hf-hub:owner/model, or resnet50, uni, uni2-h, virchow2, gigapath, h-optimus-1, … "
        "(default: tf_efficientnet_lite0)",
    )
    encoding.add_argument("--weights", metavar="PATH", help="its local weights: safetensors or a state dict")
    encoding.add_argument("--precision", default="32", metavar="P", help="32 (default), bf16 or 16")
    encoding.add_argument("--compile", action="store_true", help="run it through torch.compile")
    encoding.add_argument("--batch-size", type=int, metavar="N", help="tiles a call (default: found by trial)")
    tissue = parser.add_argument_group("tissue")
    tissue.add_argument(
        "--tissue", default="colour", metavar="WAY", help="colour (default), or module:function of your own"
    )
    tissue.add_argument(
        "--least-tissue", type=float, default=0.25, metavar="SHARE", help="of a tile that is kept (default: 0.25)"
    )
    running = parser.add_argument_group("running")
    running.add_argument("--readers", type=int, metavar="N", help="processes that read slides (default: by machine)")
    running.add_argument(
        "--shard",
        metavar="I/N",
        help="only the I-th of N disjoint parts; torchrun and srun ranks are found by themselves",
    )
    running.add_argument("--strict", action="store_true", help="end with an error when any slide failed")
    running.add_argument("--overwrite", action="store_true", help="extract slides again that are in the store")


def run(args: argparse.Namespace) -> None:
    """Extract, then report which slides and files were used, skipped or ignored, and why."""
    from dmml.slides.extraction.companions import check_store_writable
    from dmml.slides.extraction.extract import extract

    if not args.dry_run:
        check_store_writable(args.out)
    result = extract(
        args.slides,
        args.out,
        encoder=args.encoder,
        weights=args.weights,
        magnifications=args.magnifications,
        mpp=args.mpp,
        manifest=args.manifest,
        batch_size=args.batch_size,
        precision=args.precision,
        compiled=args.compile,
        least_tissue=args.least_tissue,
        tissue=args.tissue,
        readers=_default_readers() if args.readers is None else args.readers,
        shard=args.shard,
        strict=args.strict,
        overwrite=args.overwrite,
        dry_run=args.dry_run,
    )
    if result.estimate is not None:
        print("\n".join([f"{args.out}: dry run, nothing is written", *result.estimate.lines()]))
        if result.passed_over:
            print(f"{len(result.passed_over)} more slides are there already")
        failures = [*result.failures, *result.estimate.failures]
        _tell_failures(failures, f"{len(failures)} files would not be extracted:")
        _tell_unmatched(result)
        return
    _tell(args.out, result)


def _tell(out: str, result) -> None:
    """Print the final summary, and what the user should know or do next."""
    if result.shard is not None:
        print(f"part {result.shard.index + 1} of {result.shard.count} (by {result.shard.source})")
    speed = ""
    if result.tiles:
        kept = f" ({result.known:,} of them kept from a run that was cut off)" if result.known else ""
        speed = f", {result.tiles:,} tiles{kept} at {(result.tiles - result.known) / result.seconds:.0f} a second"
    print(f"{out}: {len(result.written)} slides written{speed}; {len(result.passed_over)} were there already")
    if again := [name for name in result.changed if name in set(result.written)]:
        print(f"{len(again)} of them again, since their files have changed: {', '.join(again[:5])}")
    failed = {Path(failure.file).stem for failure in result.failures}
    if stale := [name for name in result.changed if name in failed]:
        print(
            f"{len(stale)} slides have changed but could not be extracted; the store holds what they were: "
            f"{', '.join(stale[:5])}"
        )
    if result.elsewhere:
        print(f"{len(result.elsewhere)} slides left to another process that is at them")
    for warning in result.warnings:
        print(f"warning: {warning}")
    _tell_notes(result.notes)
    _tell_failures(result.failures, f"{len(result.failures)} files not extracted, listed in {result.failures_file}:")
    _tell_unmatched(result)
    if result.qc:
        print(f"look at {result.qc} before training")


def _tell_notes(notes: dict[str, list[str]]) -> None:
    """Print the notes on the first few slides; `qc.html` has all of them."""
    for slide in list(notes)[:_NAMED]:
        print(f"note: {slide}: {'; '.join(notes[slide])}")
    if len(notes) > _NAMED:
        print(f"note: {len(notes) - _NAMED} more slides have pages or levels that are not read, see qc.html")


def _tell_failures(failures: list, heading: str) -> None:
    """Print a line for each failure state, with the first slide in that state as an example."""
    if not failures:
        return
    print(heading)
    for state, n in Counter(failure.state for failure in failures).most_common():
        example = next(failure for failure in failures if failure.state == state)
        print(f"  {state:<16} {n:>5}  e.g. {example.reason}")


def _tell_unmatched(result) -> None:
    """Print slides of the manifest without a file, images without a scale, and files that are not slides."""
    from dmml.slides.discovery.find import describe_ignored, describe_unscaled

    if result.missing:
        print(f"{len(result.missing)} slides of the manifest have no file, e.g. {result.missing[0]}")
    if result.unscaled:
        print(f"{describe_unscaled(result.unscaled)}, or in a manifest (column mpp)")
    if result.ignored:
        print(describe_ignored(result.ignored))


def _default_readers() -> int:
    """Return one reading process per four cores, at most eight, since a GPU waits for pixels sooner than a CPU does."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // 4))
