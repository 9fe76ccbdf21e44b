"""List a feature store (list), check it slide by slide (verify), or import features of other tools into it (import).

`import` reads tile features of TRIDENT, CLAM and STAMP, and vectors of whole slides: tables, arrays, slide embeddings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dmml.errors import InputError

_SHOWN = 10
"""Maximum number of warnings and of failures that are printed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="{list,verify,import}")
    for verb, text in (("list", "table of the slides in a store"), ("verify", "check a store, slide by slide")):
        verbs.add_parser(verb, help=text).add_argument("store", metavar="F.zarr", help="feature store, folder or URL")
    taken = verbs.add_parser("import", help="tiles of TRIDENT, CLAM or STAMP, or vectors of slides, into a store")
    taken.add_argument(
        "inputs",
        metavar="FEATURES",
        nargs="+",
        help="of tiles: .h5 and .pt files, folders of them, or a TRIDENT job folder; of slides: a table (CSV, TSV, Parquet, "
        "XLSX), .npz, .npy, .h5 or .pt",
    )
    taken.add_argument("--out", required=True, metavar="F.zarr", help="feature store to write or go on with")
    taken.add_argument(
        "--encoder",
        metavar="NAME",
        help="encoder that made them (default: the one that the files or TRIDENT's folder name)",
    )
    taken.add_argument("--coords", metavar="DIR", help="HDF5 files with coordinates, where features stand alone")
    taken.add_argument("--mpp", type=float, help="true µm per pixel of the slides' finest level")
    taken.add_argument(
        "--magnification", type=int, metavar="M", help="of tiles, where the files do not tell; of vectors (default 20)"
    )
    taken.add_argument("--patch-px", type=int, metavar="N", help="side of a tile at its magnification, likewise")
    taken.add_argument("--level0-px", type=float, metavar="N", help="side of a tile in finest pixels, likewise")
    of_slides = taken.add_argument_group("vectors of slides")
    of_slides.add_argument("--vectors", action="store_true", help="the arrays are vectors of slides, not tiles")
    of_slides.add_argument("--id", metavar="COLUMN", help="column of the slide's or patient's id (default slide_id, …)")
    of_slides.add_argument("--columns", nargs="+", metavar="GLOB", default=[], help="columns to take, e.g. '*_HE'")
    of_slides.add_argument("--drop", nargs="+", metavar="GLOB", default=[], help="columns to leave out")
    of_slides.add_argument(
        "--missing", nargs="+", metavar="VALUE", default=[], help="values that mean: not measured, e.g. -1"
    )
    of_slides.add_argument("--instances", type=int, metavar="N", help="a row holds N instances side by side")
    of_slides.add_argument("--ids", metavar="FILE", type=Path, help="ids of the rows of an array, one per line")


def run(args: argparse.Namespace) -> None:
    """Run the chosen verb."""
    if args.verb == "import":
        return _import(args)
    from dmml.store import FeatureStore

    store = FeatureStore(args.store)
    return _list(store) if args.verb == "list" else _verify(store)


_VECTOR_OPTIONS = ("vectors", "id", "columns", "drop", "missing", "instances", "ids")
_TILE_OPTIONS = ("coords", "mpp", "patch_px", "level0_px")


def _import(args: argparse.Namespace) -> None:
    from dmml.slides.extraction.companions import check_store_writable
    from dmml.slides.vectors.import_vectors import is_of_vectors

    check_store_writable(args.out)
    if any(getattr(args, option) for option in _VECTOR_OPTIONS) or is_of_vectors(args.inputs):
        return _import_vectors(args)
    return _import_tiles(args)


def _import_vectors(args: argparse.Namespace) -> None:
    from dmml.slides.vectors.import_vectors import DEFAULT_MAGNIFICATION, import_vectors
    from dmml.slides.vectors.read_table import TableOptions

    if tile := next((option for option in _TILE_OPTIONS if getattr(args, option) is not None), None):
        raise InputError(f"--{tile.replace('_', '-')}: is for tiles, and these are vectors of slides; leave it out")
    magnification = args.magnification or DEFAULT_MAGNIFICATION
    options = TableOptions(args.id, args.columns, args.drop, args.missing)
    out = args.out.removeprefix("file://")
    done = import_vectors(args.inputs, out, options, args.encoder, args.ids, args.instances, magnification)
    each = "one vector each" if done.most == 1 else f"{done.vectors} vectors, up to {done.most} each"
    missing = f", {done.missing:,} values missing" if done.missing else ""
    print(
        f"{args.out}: {len(done.written)} slides or patients written, {len(done.unchanged)} were there already; {each}, "
        f"{done.dim} features in {done.dtype}{missing}"
    )
    for note in done.notes:
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
    form = f"{scales}, nested" if len(result.magnifications) == 2 else f"{scales} alone"
    print(
        f"{args.out}: {len(result.written)} slides written, {len(result.passed_over)} were there already; {form}, "
        f"tiles of {result.tile_px} px, {result.dim} features"
    )
    if result.not_nested:
        print(f"one magnification only: {result.not_nested}")
    for warning in result.warnings[:_SHOWN]:
        print(f"warning: {warning}")
    if len(result.warnings) > _SHOWN:
        print(
            f"warning: {len(result.warnings) - _SHOWN} more files have warnings; `dmml features verify {args.out}` names them"
        )
    if result.failures:
        print(f"{len(result.failures)} files not imported, listed in {result.failures_file}:")
        for failure in result.failures[:_SHOWN]:
            print(f"  {failure.state}: {failure.reason}")
    scales = ", ".join(map(str, result.magnifications))
    print(f"train on it with `features: {args.out}` and `magnifications: [{scales}]` in the data section of a config")


def _list(store) -> None:
    scales = sorted(store.attributes["magnifications"])
    slides = store.slides()
    header = ["slide", *(f"{m}x" for m in scales), "µm/px", "mpp from", "source"]
    rows = []
    for slide in slides:
        known = store.slide_attributes(slide)
        mpp = f"{known['mpp']:.4g}" if "mpp" in known else "?"
        counts = [str(store.n_tokens(slide, m)) for m in scales]
        rows.append([slide, *counts, mpp, str(known.get("mpp_source", "?")), str(known.get("source", "?"))])
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [row[i].rjust(widths[i]) for i in range(1, len(scales) + 2)]
        cells += [row[i].ljust(widths[i]) for i in range(len(scales) + 2, len(row))]
        print("  ".join(cells).rstrip())
    encoder = store.attributes["encoder"]
    what = "vectors" if store.holds_vectors else "tiles"
    totals = ", ".join(f"{sum(int(row[1 + i]) for row in rows):,} {what} at {m}x" for i, m in enumerate(scales))
    print(f"{len(slides)} slides, {totals}; {encoder['name']}, {store.n_features} features")


def _verify(store) -> None:
    from tqdm import tqdm

    from dmml.slides.verify import verify

    bad, doubted, n = {}, 0, len(store.slides())
    for check in tqdm(verify(store), total=n, desc="verifying", unit="slide", disable=None, leave=False):
        if check.wrong:
            bad[check.slide] = check
            print(f"{check.slide}: {'; '.join(check.wrong)}")
        if check.doubts:
            doubted += 1
            print(f"warning: {check.slide}: {'; '.join(check.doubts)}")
    if bad:
        names = ", ".join(list(bad)[:5]) + (", …" if len(bad) > 5 else "")
        raise InputError(f"{store.path}: {len(bad)} of {n} slides {_what_to_do(bad.values(), names)}")
    if not n:
        raise InputError(f"{store.path}: holds no complete slide; run `dmml extract` again")
    print(f"{store.path}: {n} slides, all sound{f', {doubted} with warnings' if doubted else ''}")


def _what_to_do(checks, names: str) -> str:
    if any(check.problems or check.unlikely for check in checks):
        return (
            f"are damaged ({names}); `dmml extract … --overwrite` or import them again, after a look at the files that "
            "they came from"
        )
    return (
        f"have tiles that overlap or an impossible scale ({names}); import them again with the true --mpp and "
        "--level0-px, or cut their tiles without overlap"
    )
