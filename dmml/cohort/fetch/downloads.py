"""Downloads many files at once, each one until it is verified, given up, or refused by the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from dmml.cohort.fetch.http_client import Body, FinalError, HttpClient, RangeRefusedError, RetryableError
from dmml.cohort.fetch.part_file import PartFile, md5_of
from dmml.cohort.fetch.remote_file import RemoteFile


@dataclass(frozen=True)
class DownloadFailure:
    """A file that could not be downloaded, with the reason."""

    file: RemoteFile
    reason: str


async def download_all(
    files: Iterable[RemoteFile],
    folder: Path,
    client: HttpClient,
    on_bytes: Callable[[int], None],
    on_complete: Callable[[RemoteFile], None],
) -> list[DownloadFailure]:
    """Download files into a folder, as many at a time as the client has connections.

    Whatever ends this function, an interrupt included, leaves verified files and `.partial` files, which a later call
    continues. It ends early if as many files in a row as there are connections fail in ways that may pass: the server is
    then out of reach, and every further file would wait as long.

    Args:
        files: The files.
        folder: The output folder.
        client: The client.
        on_bytes: Called with the number of bytes that a file has gained; negative if some were dropped.
        on_complete: Called with each verified file.

    Returns:
        Files that were given up.
    """
    queue = iter(list(files))
    failures: list[DownloadFailure] = []

    n_unanswered = 0

    async def work() -> None:
        nonlocal n_unanswered
        for file in queue:  # the workers share one iterator
            try:
                await _download(file, folder, client, on_bytes)
            except (FinalError, RetryableError) as error:
                failures.append(DownloadFailure(file, str(error)))
                n_unanswered = n_unanswered + 1 if isinstance(error, RetryableError) else 0
                if n_unanswered >= client.settings.connections:
                    return
            else:
                n_unanswered = 0
                on_complete(file)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(client.settings.connections):
                workers.create_task(work())
    except BaseExceptionGroup as group:  # e.g. of OSErrors, because the disk is full
        raise group.exceptions[0] from None
    return failures


async def _download(file: RemoteFile, folder: Path, client: HttpClient, on_bytes: Callable[[int], None]) -> None:
    """Download one file.

    Raises:
        FinalError: The server refuses the file.
        RetryableError: The last of too many failures.
    """
    if await asyncio.to_thread(is_downloaded, folder, file):
        on_bytes(file.size)
        return
    with PartFile(folder, file) as part:
        await asyncio.to_thread(part.read_existing)
        on_bytes(part.offset)
        failures = mismatches = 0
        while not part.is_verified():
            before = part.offset
            try:
                if before < file.size:
                    await _receive(part, file, client, on_bytes)
                if part.offset >= file.size and not part.is_verified():
                    mismatches += 1
                    _restart(part, on_bytes)
                    raise RetryableError("the bytes do not have the md5 or the size that the server states")
            except RetryableError as error:
                failures = 1 if part.offset > before else failures + 1
                if max(failures, mismatches) >= client.settings.attempts:
                    raise
                await client.wait(failures, error.retry_after)
        await asyncio.to_thread(part.finish)


async def _receive(part: PartFile, file: RemoteFile, client: HttpClient, on_bytes: Callable[[int], None]) -> None:
    """Append what one response holds, up to one byte more than the file should have."""
    try:
        async with client.open(file.url, part.offset) as body:
            _check_extent(body, part, file, on_bytes)
            async for chunk in body.chunks:
                part.append(chunk)
                on_bytes(len(chunk))
                if part.offset > file.size:
                    return
    except RangeRefusedError:
        _restart(part, on_bytes)
        raise RetryableError("the server has fewer bytes than it states") from None
    if part.offset < file.size:
        raise RetryableError(f"the body ended after {part.offset} of {file.size} bytes")


def _check_extent(body: Body, part: PartFile, file: RemoteFile, on_bytes: Callable[[int], None]) -> None:
    if body.total is not None and body.total != file.size:
        raise RetryableError(f"the server sends {body.total} bytes, but states {file.size}")
    if body.start == part.offset:
        return
    if body.start != 0:
        raise RetryableError(f"the server sends bytes from {body.start} on, but {part.offset} was requested")
    _restart(part, on_bytes)  # the server ignores ranges


def _restart(part: PartFile, on_bytes: Callable[[int], None]) -> None:
    on_bytes(-part.offset)
    part.restart()


def is_downloaded(folder: Path, file: RemoteFile) -> bool:
    """Whether a file lies in its place with the right size and md5, e.g. from gdc-client."""
    path = folder / file.path
    return path.is_file() and path.stat().st_size == file.size and file.md5 in (None, md5_of(path))
