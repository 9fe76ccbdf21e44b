"""Lists the files behind a URL, with what tells their content apart: size, time, and MD5 where the store states it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath
from typing import Any

from dmml.errors import InputError, reason_of

_TIMES = ("LastModified", "last_modified", "mtime", "updated", "Last-Modified")
"""Names under which fsspec's file systems state when a file was modified"""
_MD5S = ("md5Hash", "Content-MD5")
"""Names under which they state its MD5, in base64"""
_HEX_MD5 = re.compile(r"[0-9a-f]{32}")
_REFUSED = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "credentials", "Forbidden", "Unauthorized")
_THREADS = 8


@dataclass(frozen=True)
class RemoteFile:
    """A file behind a URL."""

    name: str
    """Its name for the file system"""
    size: int
    time_ns: int
    """When it was modified, in whole seconds, since some requests state no fractions; 0 if unknown"""
    md5: str = ""
    """In hexadecimal digits; empty if unknown"""
    is_md5_certain: bool = True
    """Whether `md5` is stated as one; an ETag may only look like one, as with objects that a store encrypts"""


@dataclass(frozen=True)
class RemoteFolder:
    """The files below a URL, or the single file that it names."""

    url: str
    files: Mapping[str, RemoteFile] = field(repr=False)
    """{path below the URL: file}; next to a single file, those of its folder"""
    single: str | None
    """Name of the single file in `files`; None if the URL is a folder"""
    file_system: Any = field(repr=False, default=None)

    @property
    def folder_url(self) -> str:
        """URL of the folder to which the keys of `files` belong."""
        return self.url.rstrip("/") if self.single is None else self.url.rpartition("/")[0]


def is_url(text: object) -> bool:
    """Whether an input is a URL of fsspec's."""
    return isinstance(text, str) and "://" in text and not text.startswith("file://")


def list_remote(url: str) -> RemoteFolder:
    """List a URL with everything below it.

    Raises:
        InputError: The protocol is unknown or its package is missing, or the URL does not exist or cannot be listed.
    """
    try:
        import fsspec

        file_system, root = fsspec.core.url_to_fs(url)
        info = file_system.info(root)
        is_page = url.startswith(("http://", "https://")) and url.endswith("/")  # a page of links is a file, too
        is_single = info["type"] == "file" and not is_page
        root = root.rstrip("/")
        folder = root.rpartition("/")[0] if is_single else root
        infos_by_name = file_system.find(folder, detail=True)
        infos = {_below(folder, name): its for name, its in infos_by_name.items() if its.get("type", "file") == "file"}
        infos = {name: its for name, its in infos.items() if _is_plain(name)}
        if is_single:
            infos[root.rpartition("/")[2]] = info
        with ThreadPoolExecutor(_THREADS) as pool:
            files = dict(zip(infos, pool.map(lambda its: remote_file(file_system, its), infos.values()), strict=True))
    except Exception as error:  # every file system raises its own types
        raise _listing_error(url, error) from error
    return RemoteFolder(url, files, root.rpartition("/")[2] if is_single else None, file_system)


def remote_file(file_system: Any, info: Mapping[str, Any]) -> RemoteFile:  # noqa: ANN401
    """Describe a file by what its file system states; it is asked again if it did not state a size."""
    if info.get("size") is None or ("http" in str(info["name"])[:5] and "ETag" not in info):
        info = {**info, **file_system.info(info["name"])}
    md5, is_certain = _md5(info)
    return RemoteFile(str(info["name"]), int(info["size"] or 0), _time_ns(info), md5, is_certain)


def _below(folder: str, name: str) -> str:
    return name[len(folder) + 1 :] if name.startswith(f"{folder}/") else name


def _is_plain(name: str) -> bool:
    """Whether a key is the path of a file below a folder, and leads nowhere else."""
    parts = name.split("/")
    return not PurePosixPath(name).is_absolute() and all(part not in ("", ".", "..") for part in parts)


def _time_ns(info: Mapping[str, Any]) -> int:
    value: Any = next((info[name] for name in _TIMES if info.get(name)), None)
    if isinstance(value, str):
        value = _parsed_time(value)
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return int(value) * 10**9 if isinstance(value, int | float) else 0


def _parsed_time(text: str) -> datetime | None:
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return parse(text)
        except ValueError:
            continue
    return None


def _md5(info: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the MD5 that is stated, and whether it is stated as one."""
    for name in _MD5S:
        try:
            digest = base64.b64decode(info.get(name) or "", validate=True).hex()
        except (binascii.Error, TypeError):
            continue
        if len(digest) == 32:
            return digest, True
    etag = str(info.get("ETag") or "").strip('"').lower()
    return (etag, False) if _HEX_MD5.fullmatch(etag) else ("", True)


def _listing_error(url: str, error: Exception) -> InputError:
    if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError | PermissionError):
        error = error.__cause__  # fsspec says of a server that does not answer that there is no such file
    reason, protocol = reason_of(error), url.partition("://")[0]
    if isinstance(error, ImportError):
        remedy = "pip install 'dmml[s3]'" if protocol in ("s3", "s3a") else f"pip install 'fsspec[{protocol}]'"
        return InputError(f"{url}: a package to read {protocol}:// is missing ({reason}); {remedy}")
    if isinstance(error, FileNotFoundError):
        return InputError(f"{url}: no such bucket, folder or file ({reason}); check the URL")
    if isinstance(error, PermissionError) or any(word in f"{type(error).__name__} {reason}" for word in _REFUSED):
        return InputError(
            f"{url}: access is refused ({reason}); check the credentials, e.g. AWS_PROFILE or AWS_ACCESS_KEY_ID for s3://"
        )
    return InputError(f"{url}: cannot be listed ({reason}); check the URL and the connection")
