"""List a feature store (list), check it slide by slide (verify), or import features of other tools into it (import).

`import` reads tile features of TRIDENT, CLAM, STAMP and slide2vec, and vectors of whole slides: tables, arrays, slide embeddings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from dmml.errors import InputError

if TYPE_CHECKING:
    from dmml.slides.verify import SlideCheck
    from dmml.store import FeatureStore

_MAX_LINES = 10
"""Maximum number of warnings and of failures that are printed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="{list,verify,import}")
    for verb, text in (("list", "table of the slides in a store"), ("verify", "check a store, slide by slide")):
        verbs.add_parser(verb, help=text).add_argument("store", metavar="F.zarr", help="feature store, folder or URL")
    importer = verbs.add_parser(
        "import", help="write tiles of TRIDENT, CLAM, STAMP or slide2vec, or vectors of slides, into a store"
    )
    importer.add_argument(
        "inputs",
        metavar="FEATURES",
        nargs="+",
        help="of tiles: .h5 and .pt files, folders of them, a TRIDENT job folder, or that of a slide2vec run; of slides: a table (CSV, TSV, Parquet, "
        "XLSX), .npz, .npy, .h5 or .pt",
    )
    importer.add_argument("--out", required=True, metavar="F.zarr", help="feature store to create or add to")
    importer.add_argument(
        "--encoder",
        metavar="NAME",
        help="encoder that made the features (default: the one that the files or TRIDENT's folder name)",
    )
    importer.add_argument(
        "--coords",
        metavar="DIR",
        help="folder of files with the coordinates (HDF5, or slide2vec's), for features without them",
    )
    importer.add_argument("--mpp", type=float, help="true µm per pixel of the slides' finest level")
    importer.add_argument(
        "--magnification",
        type=int,
        metavar="M",
        help="of tiles, where the files do not state it; of vectors (default 20)",
    )
    importer.add_argument(
        "--patch-px",
        type=int,
        metavar="N",
        help="side of a tile in pixels of its magnification, where the files do not state it",
    )
    importer.add_argument(
        "--level0-px",
        type=float,
        metavar="N",
        help="side of a tile in pixels of the finest level, where the files do not state it",
    )
    of_slides = importer.add_argument_group("vectors of slides")
    of_slides.add_argument("--vectors", action="store_true", help="the arrays are vectors of slides, not tiles")
    of_slides.add_argument("--id", metavar="COLUMN", help="column of the slide's or patient's id (default slide_id, …)")
    of_slides.add_argument("--columns", nargs="+", metavar="GLOB", default=[], help="columns to read, e.g. '*_HE'")
    of_slides.add_argument("--drop", nargs="+", metavar="GLOB", default=[], help="columns to leave out")
    of_slides.add_argument(
        "--missing", nargs="+", metavar="VALUE", default=[], help="values that mean that nothing was measured, e.g. -1"
    )
    of_slides.add_argument("--instances", type=int, metavar="N", help="a row holds N instances side by side")
    of_slides.add_argument("--ids", metavar="FILE", type=Path, help="ids of the rows of an array, one per line")


def run(args: argparse.Namespace) -> None:
    """List, verify or import."""
    if args.verb == "import":
        return _import(args)
    from dmml.store import FeatureStore

    store = FeatureStore(args.store)
    return _list(store) if args.verb == "list" else _verify(store)


_VECTOR_OPTIONS = ("vectors", "id", "columns", "drop", "missing", "instances", "ids")
_TILE_OPTIONS = ("coords", "mpp", "patch_px", "level0_px")


def _import(args: argparse.Namespace) -> None:
    from dmml.slides.companion_files import check_store_writable
    from dmml.slides.vectors.import_vectors import holds_vectors

    check_store_writable(args.out)
    if any(getattr(args, option) for option in _VECTOR_OPTIONS) or holds_vectors(args.inputs):
        return _import_vectors(args)
    return _import_tiles(args)


def _import_vectors(args: argparse.Namespace) -> None:
    from dmml.slides.vectors.import_vectors import DEFAULT_MAGNIFICATION, import_vectors
    from dmml.slides.vectors.read_table import TableOptions

    if option := next((option for option in _TILE_OPTIONS if getattr(args, option) is not None), None):
        raise InputError(f"--{option.replace('_', '-')}: is for tiles, and these are vectors of slides; leave it out")
    magnification = args.magnification or DEFAULT_MAGNIFICATION
    options = TableOptions(args.id, args.columns, args.drop, args.missing)
    out = args.out.removeprefix("file://")
    result = import_vectors(args.inputs, out, options, args.encoder, args.ids, args.instances, magnification)
    vectors = "one vector each"
    if result.max_per_slide > 1:
        vectors = f"{result.vectors} vectors, up to {result.max_per_slide} each"
    missing = f", {result.missing:,} values missing" if result.missing else ""
    print(
        f"{args.out}: {len(result.written)} slides or patients written, {len(result.unchanged)} were already there; "
        f"{vectors}, {result.dim} features in {result.dtype}{missing}"
    )
    for note in result.notes:
        print(note)
    print(
        f"train on it with `features: {args.out}` and `magnifications: [{magnification}]` in the data section of a config"
    )


def _import_tiles(args: argparse.Namespace) -> None:
    from dmml.slides.importing.import_features import import_features

    result = import_features(
        args.inputs,
        args.out,
        encoder=args.encoder,
        coords=args.coords,
        magnification=args.magnification,
        patch_px=args.patch_px,
        level0_px=args.level0_px,
        mpp=args.mpp,
    )
    scales = " and ".join(f"{m}x" for m in result.magnifications)
    form = f"{scales}, nested" if len(result.magnifications) == 2 else f"{scales} only"
    print(
        f"{args.out}: {len(result.written)} slides written, {len(result.skipped)} were already there; {form}, "
        f"tiles of {result.tile_px} px, {result.dim} features"
    )
    if result.not_nested:
        print(f"one magnification only: {result.not_nested}")
    for warning in result.warnings[:_MAX_LINES]:
        print(f"warning: {warning}")
    if len(result.warnings) > _MAX_LINES:
        print(
            f"warning: {len(result.warnings) - _MAX_LINES} more files have warnings; `dmml features verify {args.out}` lists "
            "them"
        )
    if result.failures:
        print(f"{len(result.failures)} files not imported, listed in {result.failures_file}:")
        for failure in result.failures[:_MAX_LINES]:
            print(f"  {failure.state}: {failure.reason}")
    scales = ", ".join(map(str, result.magnifications))
    print(f"train on it with `features: {args.out}` and `magnifications: [{scales}]` in the data section of a config")


def _list(store: FeatureStore) -> None:
    from dmml.store.encoder_identity import STAINS, describe_stains

    scales = sorted(store.attributes["magnifications"])
    header = ["slide", *(f"{m}x" for m in scales), "µm/px", "mpp from", "source"]
    rows = []
    for slide, attributes, counts in store.summaries(scales):
        mpp = f"{attributes['mpp']:.4g}" if "mpp" in attributes else "?"
        origin = [str(attributes.get(name, "?")) for name in ("mpp_source", "source")]
        rows.append([slide, *map(str, counts), mpp, *origin])
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [row[i].rjust(widths[i]) for i in range(1, len(scales) + 2)]
        cells += [row[i].ljust(widths[i]) for i in range(len(scales) + 2, len(row))]
        print("  ".join(cells).rstrip())
    encoder = store.attributes["encoder"]
    unit = "vectors" if store.holds_vectors else "tiles"
    totals = ", ".join(f"{sum(int(row[1 + i]) for row in rows):,} {unit} at {m}x" for i, m in enumerate(scales))
    stains = f"; tiles {describe_stains(encoder)}" if encoder.get(STAINS) else ""
    print(f"{len(rows)} slides, {totals}; {encoder['name']}, {store.n_features} features{stains}")


def _verify(store: FeatureStore) -> None:
    from dmml.progress_bars import progress_bar
    from dmml.slides.verify import verify

    bad: dict[str, SlideCheck] = {}
    n = n_with_doubts = 0
    slides = store.names()
    for check in progress_bar(verify(store, slides), "verifying", len(slides)):
        n += 1
        if check.wrong:
            bad[check.slide] = check
            print(f"{check.slide}: {'; '.join(check.wrong)}")
        if check.doubts:
            n_with_doubts += 1
            print(f"warning: {check.slide}: {'; '.join(check.doubts)}")
    if bad:
        names = ", ".join(list(bad)[:5]) + (", …" if len(bad) > 5 else "")
        raise InputError(f"{store.path}: {len(bad)} of {n} slides {_what_to_do(bad.values(), names)}")
    if not n:
        raise InputError(f"{store.path}: holds no complete slide; run `dmml extract` again")
    print(f"{store.path}: {n} slides, all sound{f', {n_with_doubts} with warnings' if n_with_doubts else ''}")


def _what_to_do(checks: Iterable[SlideCheck], names: str) -> str:
    if any(check.problems or check.unlikely for check in checks):
        return (
            f"are damaged ({names}); check the files that they came from, then extract them again with `dmml extract … "
            "--overwrite`, or import them again"
        )
    return (
        f"have tiles that overlap or an impossible scale ({names}); import them again with the true --mpp and "
        "--level0-px, or cut their tiles without overlap"
    )
