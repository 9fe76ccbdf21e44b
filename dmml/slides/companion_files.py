"""Files next to a store, `failures.csv` and `qc.html`, and their names if several stores share a folder.

The first store of a folder uses these names. Every further one puts its name in front, such as `b.failures.csv` and
`b.qc.html` for `b.zarr`, since a slide that failed in one store may have worked in another. An extraction without a
result creates no store, and adds the reasons to `failures.csv`.
"""

from __future__ import annotations

import os
from pathlib import Path

from dmml.writable import check_writable

FAILURES, QC = "failures.csv", "qc.html"


def companion_path(store: str | Path, name: str) -> str:
    """Path or URL of a file in the folder that holds the store."""
    text = str(store).rstrip("/")
    return f"{text.rpartition('/')[0]}/{name}" if "://" in text else str(Path(text).parent / name)


def check_store_writable(store: str) -> None:
    """Check that files can be written in a store and next to it.

    Raises:
        InputError: See `check_writable`.
    """
    remedy = "name another store with --out"
    check_writable(companion_path(store, ""), remedy)
    if os.path.isdir(store.removeprefix("file://")):
        check_writable(store, remedy)


def companion_prefix(store: str | Path) -> str:
    """Prefix of the names of a store's companion files: empty for the first store of a folder, else the store's name.

    Args:
        store: Path or URL of a store, which need not exist yet.
    """
    store_name = Path(str(store).rstrip("/")).name
    names, stores = _list_folder(companion_path(store, ""))
    with_own_list = {
        other for other in {store_name, *stores} if any(name.startswith(_prefixed(other, "failures")) for name in names)
    }
    is_first = store_name not in with_own_list and set(stores) - {store_name} <= with_own_list
    return "" if is_first else _prefixed(store_name, "")


def _prefixed(store: str, name: str) -> str:
    return f"{store.removesuffix('.zarr')}.{name}"


def _list_folder(path: str) -> tuple[list[str], list[str]]:
    """List the files and the stores in a folder; both are empty if it cannot be listed."""
    if "://" in path:
        return _list_remote_folder(path)
    try:
        names = os.listdir(path or ".")
    except OSError:
        return [], []
    return names, [name for name in names if os.path.isfile(os.path.join(path, name, "zarr.json"))]


def _list_remote_folder(path: str) -> tuple[list[str], list[str]]:
    """List a folder behind a URL; stores are recognised by suffix, since opening every folder would take minutes."""
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(path)
        entries = [entry["name"].rstrip("/").rpartition("/")[2] for entry in files.ls(root, detail=True)]
    except Exception:  # each remote file system raises its own types; without a list, the store counts as the only one
        return [], []
    return entries, [name for name in entries if name.endswith(".zarr")]
