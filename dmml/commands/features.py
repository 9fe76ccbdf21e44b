"""Look into a feature store (list), check it slide by slide (verify), or fill it from TRIDENT, CLAM and STAMP (import)."""

from __future__ import annotations

import argparse

from dmml.errors import InputError

_SHOWN = 10
"""Number of warnings and of failures that are printed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="{list,verify,import}")
    for verb, text in (("list", "table of the slides in a store"), ("verify", "check a store, slide by slide")):
        verbs.add_parser(verb, help=text).add_argument("store", metavar="F.zarr", help="feature store, folder or URL")
    taken = verbs.add_parser("import", help="features of TRIDENT, CLAM, STAMP or others into a store")
    taken.add_argument(
        "inputs", metavar="FEATURES", nargs="+", help=".h5 and .pt files, folders of them, or a TRIDENT job folder"
    )
    taken.add_argument("--out", required=True, metavar="F.zarr", help="feature store to write or go on with")
    taken.add_argument(
        "--encoder",
        metavar="NAME",
        help="encoder that made them (default: the one that the files or TRIDENT's folder name)",
    )
    taken.add_argument("--coords", metavar="DIR", help="HDF5 files with coordinates, where features stand alone")
    taken.add_argument("--mpp", type=float, help="true µm per pixel of the slides' finest level")
    taken.add_argument("--magnification", type=int, metavar="M", help="of the tiles, where the files do not tell")
    taken.add_argument("--patch-px", type=int, metavar="N", help="side of a tile at its magnification, likewise")
    taken.add_argument("--level0-px", type=float, metavar="N", help="side of a tile in finest pixels, likewise")


def run(args: argparse.Namespace) -> None:
    """Do what the verb says."""
    if args.verb == "import":
        return _import(args)
    from dmml.store import FeatureStore

    store = FeatureStore(args.store)
    return _list(store) if args.verb == "list" else _verify(store)


def _import(args: argparse.Namespace) -> None:
    from dmml.slides.companions import check_store_writable
    from dmml.slides.import_features import import_features

    check_store_writable(args.out)
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
    totals = ", ".join(f"{sum(int(row[1 + i]) for row in rows):,} tiles at {m}x" for i, m in enumerate(scales))
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
