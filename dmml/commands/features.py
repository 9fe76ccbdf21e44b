"""Look into a feature store (list), or check it slide by slide (verify)."""

from __future__ import annotations

import argparse

from dmml.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="{list,verify}")
    for verb, text in (("list", "table of the slides in a store"), ("verify", "check a store, slide by slide")):
        verbs.add_parser(verb, help=text).add_argument("store", metavar="F.zarr", help="feature store, folder or URL")


def run(args: argparse.Namespace) -> None:
    """Do what the verb says."""
    from dmml.store import FeatureStore

    store = FeatureStore(args.store)
    if args.verb == "list":
        _list(store)
    else:
        _verify(store)


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

    bad = {}
    n = len(store.slides())
    for slide, problems in tqdm(verify(store), total=n, desc="verifying", unit="slide", disable=None, leave=False):
        if problems:
            bad[slide] = problems
            print(f"{slide}: {'; '.join(problems)}")
    if bad:
        names = ", ".join(list(bad)[:5]) + (", …" if len(bad) > 5 else "")
        raise InputError(
            f"{store.path}: {len(bad)} of {n} slides are damaged ({names}); `dmml extract … --overwrite` them"
        )
    if not n:
        raise InputError(f"{store.path}: holds no complete slide; run `dmml extract` again")
    print(f"{store.path}: {n} slides, all sound")
