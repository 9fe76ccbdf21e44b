"""Turn slides into features: find tissue, lay nested 10x and 20x tiles, encode them, write the store.

Goes on where it stopped. A slide that cannot be used is recorded in failures.csv beside the store and the rest goes
on; qc.html beside the store shows every slide with its tiles.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "slides", metavar="SLIDES", nargs="+", help="slide files, and folders that are searched for slides"
    )
    parser.add_argument("--out", required=True, metavar="F.zarr", help="feature store to write or go on with")
    parser.add_argument(
        "--encoder", metavar="NAME", help="timm name, or hf-hub:owner/model (default: tf_efficientnet_lite0)"
    )
    parser.add_argument("--weights", metavar="PATH", help="local weights of the encoder: safetensors or a state dict")
    parser.add_argument("--mpp", type=float, help="µm per pixel, used only for slides that do not tell theirs")
    parser.add_argument(
        "--magnifications",
        type=int,
        nargs="+",
        default=[10, 20],
        metavar="M",
        help="one, or a pair such as 10 20 (default)",
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="tiles a call of the encoder (default: by machine)")
    parser.add_argument("--strict", action="store_true", help="end with an error when any slide failed")
    parser.add_argument("--overwrite", action="store_true", help="extract slides again that are in the store")


def run(args: argparse.Namespace) -> None:
    """Extract, and say what was used, passed over, ignored and why."""
    from dmml.slides.extract import FAILURES, extract
    from dmml.slides.failures import beside
    from dmml.slides.survey import describe_ignored

    result = extract(
        args.slides,
        args.out,
        encoder=args.encoder,
        weights=args.weights,
        magnifications=args.magnifications,
        mpp=args.mpp,
        batch_size=args.batch_size,
        strict=args.strict,
        overwrite=args.overwrite,
    )
    speed = f", {result.tiles:,} tiles at {result.tiles / result.seconds:.0f} a second" if result.seconds else ""
    print(f"{args.out}: {len(result.written)} slides written{speed}; {len(result.passed_over)} were there already")
    if result.failures:
        print(f"{len(result.failures)} files not extracted, listed in {beside(args.out, FAILURES)}:")
        for failure in result.failures[:10]:
            print(f"  {failure.state}: {failure.reason}")
        if len(result.failures) > 10:
            print(f"  … and {len(result.failures) - 10} more")
    if result.ignored:
        print(describe_ignored(result.ignored))
    print(f"look at {result.qc} before training")
