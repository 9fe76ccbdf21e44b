"""Hashes of the files and the feature stores that a data section names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from dmml.cohort.config_paths import named_files, named_stores
from dmml.store import FeatureStore, is_store


def file_hashes(section: Mapping[str, object], digests: Mapping[str, str] | None = None) -> dict[str, str]:
    """Hash all existing files and feature stores that a data section names, including stores behind a URL.

    The hash of a feature store covers its description of the slides and their numbers of tiles (`FeatureStore.digest`),
    since reading the features would take longer than the check is worth.

    Args:
        section: The data section.
        digests: {path of a store: hash} for stores that are already open.

    Returns:
        {option: hash}.

    Raises:
        InputError: A feature store cannot be reached, or is damaged.
    """
    digests, stores = digests or {}, named_stores(section)
    hashes = {}
    for option, path in named_files(section).items():
        if path.exists() and not (option in stores and is_store(stores[option])):
            hashes[option] = hash_of(path)
    for option, store in stores.items():
        local_path = store.removeprefix("file://")
        if local_path in digests:
            hashes[option] = digests[local_path]
        elif is_store(store):
            hashes[option] = FeatureStore(store).digest()
    return hashes


def hash_of(path: Path) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a file or a folder.

    For a folder, the hash covers the names and sizes of its files, and the contents of those that hold text tables.
    """
    if path.is_file():
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()[:16]
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path)}|{file.stat().st_size}\n".encode())
        if file.suffix in (".csv", ".gmt", ".txt", ".json"):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
