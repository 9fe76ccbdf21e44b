"""Extract features from slides: find tissue, lay nested 10x and 20x tiles, encode them and write the store.

An interrupted extraction resumes where it stopped. A slide that cannot be used is recorded in failures.csv next to the
store, and the others are extracted all the same; qc.html next to the store shows every slide with its tiles.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmml.commands.config.renamed_options import reject_old_name

if TYPE_CHECKING:
    from dmml.slides.extraction.estimate import Estimate
    from dmml.slides.extraction.result import ExtractionResult
    from dmml.slides.failures import Failure

_MAX_NOTES = 5
"""Number of slides whose notes are printed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add(
        "slides",
        metavar="SLIDES",
        nargs="+",
        help="slide files, and folders that are searched for slides, also as URLs such as s3://bucket/slides/; JPEG, PNG and BMP files in folders count as slides if "
        "their scale is given",
    )
    add("--out", required=True, metavar="F.zarr", help="feature store to create or add to: a folder or fsspec URL")
    add("--manifest", metavar="CSV", help="which slides (column slide_id), and their µm per pixel (column mpp)")
    add("--mpp", type=float, help="µm per pixel, used where neither the slide nor the manifest states it")
    add(
        "--magnifications",
        type=int,
        nargs="+",
        default=[10, 20],
        metavar="M",
        help="one, or a pair such as 10 20 (default)",
    )
    add("--dry-run", action="store_true", help="report the number of slides, tiles, gigabytes and hours; write nothing")
    encoding = parser.add_argument_group("encoder")
    encoding.add_argument(
        "--encoder",
        metavar="NAME",
        help="timm name, hf-hub:owner/model, or resnet50, uni, uni2-h, virchow2, gigapath, h-optimus-1, …, or "
        "module:Class of your own (default: tf_efficientnet_lite0)",
    )
    encoding.add_argument("--weights", metavar="PATH", help="local weights of the encoder: safetensors or a state dict")
    encoding.add_argument("--precision", default="32", metavar="P", help="32 (default), bf16 or 16")
    encoding.add_argument(
        "--backend",
        default="auto",
        metavar="B",
        help="library that runs the encoder: torch, onnxruntime (CPUs only), or auto (default), the faster one; a store is "
        "continued with its own",
    )
    encoding.add_argument("--compile", action="store_true", help="run the encoder through torch.compile")
    encoding.add_argument("--batch-size", type=int, metavar="N", help="tiles per batch (default: found by trial)")
    _add_tile_options(parser)
    _add_running_options(parser)


def _add_tile_options(parser: argparse.ArgumentParser) -> None:
    """Declare the size of tiles, how tissue is found and how its stains are normalised."""
    tissue = parser.add_argument_group("tiles and tissue")
    tissue.add_argument(
        "--tile-px",
        type=int,
        metavar="N",
        help="side of a tile in pixels of its magnification (default: 224); an encoder whose input has another size is given "
        "resized tiles",
    )
    tissue.add_argument(
        "--tissue",
        default="colour",
        metavar="METHOD",
        help="how tissue is found: colour (default), or module:function of your own",
    )
    tissue.add_argument(
        "--min-tissue",
        type=float,
        default=0.25,
        metavar="SHARE",
        help="smallest share of tissue of a tile that is kept (default: 0.25)",
    )
    tissue.add_argument(
        "--roi",
        metavar="PATH",
        help="GeoJSON file with the regions of the slide to extract, drawn in QuPath, or a folder with <slide>.geojson for "
        "each slide (default: whole slides)",
    )
    reject_old_name(parser, "--least-tissue", "--min-tissue")
    stains = parser.add_argument_group("stain normalisation (needs the extra: pip install 'dmml[stain]')")
    stains.add_argument(
        "--stain-normalization",
        metavar="METHOD",
        help="replace each slide's stains, fitted once per slide, by those of a target: macenko or vahadane (default: tiles "
        "as scanned)",
    )
    stains.add_argument(
        "--stain-target",
        metavar="IMAGE",
        help="image of stained tissue whose stains all slides receive (default: the reference stains of torchstain)",
    )


def _add_running_options(parser: argparse.ArgumentParser) -> None:
    """Declare which slides are extracted, by how many processes, and what happens to failures."""
    running = parser.add_argument_group("running")
    running.add_argument(
        "--readers",
        type=int,
        metavar="N",
        help="processes that read slides (default: one per four cores, and more while the encoder waits for pixels)",
    )
    running.add_argument(
        "--shard",
        metavar="I/N",
        help="extract only the I-th of N disjoint parts; ranks of torchrun and srun are detected without this option",
    )
    running.add_argument(
        "--storage-wait",
        type=float,
        default=10.0,
        metavar="MIN",
        help="minutes to wait if none of the slides can be reached, as on a network folder that is gone (default: 10)",
    )
    running.add_argument(
        "--staging",
        metavar="DIR",
        help="local folder to which slides behind URLs are downloaded ahead of the readers (default: in the system's "
        "temporary folder)",
    )
    running.add_argument(
        "--staging-gib",
        type=float,
        metavar="N",
        help="GiB of slides that are kept there at the same time (default: 100, or half of what is free)",
    )
    running.add_argument("--strict", action="store_true", help="end with an error if any slide failed")
    running.add_argument("--overwrite", action="store_true", help="extract slides again that are already in the store")


def run(args: argparse.Namespace) -> None:
    """Extract, then report which slides and files were used, skipped or ignored, and why."""
    from dmml.slides.companion_files import check_store_writable
    from dmml.slides.extraction.extract import extract

    if not args.dry_run:
        check_store_writable(args.out)
    result = extract(args.slides, args.out, **options_of(args))
    if result.estimate is not None:
        _report_dry_run(args.out, result, result.estimate)
    else:
        _report(args.out, result)


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `ExtractionOptions` as the command line states them."""
    from dmml.slides.extraction.options import ExtractionOptions

    option_names = {"compiled": "compile"}
    names = [field.name for field in fields(ExtractionOptions)]
    return {name: getattr(args, option_names.get(name, name)) for name in names}


def _report_dry_run(out: str, result: ExtractionResult, estimate: Estimate) -> None:
    print("\n".join([f"{out}: dry run, nothing is written", *estimate.lines()]))
    if result.skipped:
        print(f"{len(result.skipped)} more slides are already in the store")
    failures = [*result.failures, *estimate.failures]
    _report_failures(failures, f"{len(failures)} files would not be extracted:")
    _report_unused_files(result)


def _report(out: str, result: ExtractionResult) -> None:
    """Print the final summary, and what the user should know or do next."""
    from dmml.slides.staging.download import STATE as NOT_DOWNLOADED
    from dmml.slides.storage.lost_storage import STATE as STORAGE_LOST

    if result.shard is not None:
        print(f"part {result.shard.index + 1} of {result.shard.count} (by {result.shard.source})")
    speed = ""
    if result.tiles:
        resumed = f" ({result.resumed_tiles:,} of them kept from an interrupted run)" if result.resumed_tiles else ""
        per_second = (result.tiles - result.resumed_tiles) / result.seconds
        speed = f", {result.tiles:,} tiles{resumed} at {per_second:.0f} per second"
    print(f"{out}: {len(result.written)} slides written{speed}; {len(result.skipped)} were already there")
    if rewritten := [name for name in result.changed if name in set(result.written)]:
        print(
            f"{len(rewritten)} of them were extracted again, since their files have changed: {', '.join(rewritten[:5])}"
        )
    failed = {Path(failure.file).stem for failure in result.failures}
    if outdated := [name for name in result.changed if name in failed]:
        print(
            f"{len(outdated)} slides have changed but could not be extracted; the store still holds their earlier "
            f"features: {', '.join(outdated[:5])}"
        )
    if result.locked:
        print(f"{len(result.locked)} slides left to another process that is extracting them")
    for warning in result.warnings:
        print(f"warning: {warning}")
    _report_notes(result.notes)
    _report_failures(result.failures, f"{len(result.failures)} files not extracted, listed in {result.failures_file}:")
    if n_lost := sum(failure.state in (STORAGE_LOST, NOT_DOWNLOADED) for failure in result.failures):
        print(f"{n_lost} of them could not be reached: run the same command again once their storage answers")
    _report_unused_files(result)
    if result.qc:
        print(f"look at {result.qc} before training")


def _report_notes(notes: dict[str, list[str]]) -> None:
    """Print the notes on the first few slides; `qc.html` has all of them."""
    for slide in list(notes)[:_MAX_NOTES]:
        print(f"note: {slide}: {'; '.join(notes[slide])}")
    if len(notes) > _MAX_NOTES:
        print(f"note: {len(notes) - _MAX_NOTES} more slides have pages or levels that are not read, see qc.html")


def _report_failures(failures: Sequence[Failure], heading: str) -> None:
    """Print a line for each failure state, with the first slide in that state as an example."""
    if not failures:
        return
    print(heading)
    for state, n in Counter(failure.state for failure in failures).most_common():
        example = next(failure for failure in failures if failure.state == state)
        print(f"  {state:<16} {n:>5}  e.g. {example.reason}")


def _report_unused_files(result: ExtractionResult) -> None:
    """Print slides of the manifest without a file, images without a scale, and files that are not slides."""
    from dmml.slides.discovery.find import describe_ignored, describe_unscaled

    if result.missing:
        print(f"{len(result.missing)} slides of the manifest have no file, e.g. {result.missing[0]}")
    if result.unscaled:
        print(f"{describe_unscaled(result.unscaled)}, or in a manifest (column mpp)")
    if result.ignored:
        print(describe_ignored(result.ignored))
