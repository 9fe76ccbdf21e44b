"""Show slides with what a model made of their tiles, in the browser, from a server that answers this machine alone."""

from __future__ import annotations

import argparse
import contextlib

from dmml.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "path",
        metavar="ANSWER|RUN|STORE",
        help="folder of an answer of `dmml predict-slide`, or of several; a run that was tested; or a feature store",
    )
    parser.add_argument(
        "--slides",
        nargs="+",
        metavar="PATH",
        default=[],
        help="files of the slides, or folders that are searched for them (default: where predict-slide read them; of runs "
        "and stores, thumbnails are shown)",
    )
    parser.add_argument("--thumbnails", action="store_true", help="show thumbnails, and do not look for the slides")
    parser.add_argument("--port", type=int, default=0, help="port on the loopback address (default: any free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, and do not open a browser")


def run(args: argparse.Namespace) -> None:
    """Open what is viewed, print the address, and serve the page until the user interrupts."""
    if args.thumbnails and args.slides:
        raise InputError("--thumbnails: shows no slides, so leave out either --thumbnails or --slides")
    from dmml.viewer.open_path import open_path
    from dmml.viewer.page_data import PageData
    from dmml.viewer.server import ViewerServer

    collection = open_path(args.path, args.slides, args.thumbnails)
    data = PageData(collection)
    with ViewerServer(data, args.port) as server, contextlib.closing(data):
        n, without = len(collection.slides), sum(slide.path is None for slide in collection.slides)
        print(f"{collection.title}: {n} slide{'' if n == 1 else 's'}")
        if without and not args.thumbnails:
            files = "file of the slide was" if n == 1 else f"files of {without} slides were"
            print(f"the {files} not found, so thumbnails are shown; name their folder with --slides")
        print(f"{server.url} (end with Ctrl-C)", flush=True)
        if not args.no_browser:
            import webbrowser

            webbrowser.open(server.url)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
