"""A polite HTTP client on aiohttp: few connections, waits that servers ask for, and errors sorted by what to do.

aiohttp comes with fsspec's HTTP file system. Nothing here knows the GDC.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING

from dmml._version import __version__
from dmml.errors import InputError, reason_of

if TYPE_CHECKING:
    import aiohttp

RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
MAX_RETRY_AFTER = 900.0
"""Longest wait, s, that a server may ask for; the file fails if it asks for more."""
QUERY_ATTEMPTS = 5
"""Attempts of a question, at most: somebody waits for the plan."""
CHUNK = 2**18
"""Bytes read at a time"""


@dataclass(frozen=True)
class HttpSettings:
    """How patient the client is, and how much it asks of a server."""

    connections: int = 4
    timeout: float = 60.0
    """Seconds without a byte, or without a connection, after which a request has failed"""
    attempts: int = 8
    """Failures in a row, without a byte between them, after which a request is given up"""
    max_wait: float = 60.0
    """Longest pause, s, between two attempts, where the server names none; pauses double from 1 s"""


class RetryableError(Exception):
    """A request failed in a way that may pass.

    Args:
        reason: What happened, for the user.
        retry_after: Seconds that the server asks to wait; None if it asks for nothing.
    """

    def __init__(self, reason: str, retry_after: float | None = None):
        super().__init__(reason)
        self.retry_after = retry_after


class FinalError(Exception):
    """A request failed in a way that does not pass, such as an unknown file."""


class RangeRefusedError(Exception):
    """The server has no bytes from the offset on."""


@dataclass
class Body:
    """The body of a response."""

    start: int
    """Offset of its first byte in the file"""
    total: int | None
    """Size of the whole file as the response states it"""
    chunks: AsyncIterator[bytes]
    """Bytes as they arrive; raises `RetryableError` if they end early or stall."""


class HttpClient:
    """A session with one server, or several.

    Args:
        settings: See `HttpSettings`.
    """

    def __init__(self, settings: HttpSettings):
        self.settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._resume_at = 0.0  # monotonic; a server's wait holds for all connections

    async def __aenter__(self) -> HttpClient:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.settings.timeout, sock_read=self.settings.timeout)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.settings.connections),
            timeout=timeout,
            headers={"User-Agent": f"dmml/{__version__}", "Accept-Encoding": "identity"},
            auto_decompress=False,  # sizes and md5 are those of the file as it is stored
            trust_env=True,  # proxies of hospitals stand in HTTPS_PROXY
        )
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._session is not None
        await self._session.close()

    async def get_json(self, url: str, payload: object = None) -> object:
        """Return the JSON that a server answers with, to a GET, or to a POST of `payload`.

        Raises:
            InputError: The server cannot be reached, refuses, or answers with something else, after all attempts.
        """
        attempts = min(self.settings.attempts, QUERY_ATTEMPTS)
        for failures in range(1, attempts + 1):
            try:
                async with self._request("GET" if payload is None else "POST", url, json=payload) as response:
                    raw = b"".join([chunk async for chunk in _chunks(response)])
                return json.loads(raw)
            except RetryableError as error:
                reason, retry_after = str(error), error.retry_after
            except FinalError as error:
                raise InputError(f"{url}: {error}") from None
            except ValueError:
                reason, retry_after = "the answer is no JSON, but perhaps the page of a proxy", None
            if failures < attempts:
                await self.wait(failures, retry_after)
        raise InputError(
            f"{url}: {reason}, {attempts} times; check the network, or name a mirror, then run the command again"
        )

    @asynccontextmanager
    async def open(self, url: str, offset: int) -> AsyncIterator[Body]:
        """Request a file from an offset on.

        Yields:
            The body, which begins at 0 if the server ignores ranges.

        Raises:
            RetryableError: The request failed in a way that may pass.
            FinalError: It failed for good.
            RangeRefusedError: The file ends before the offset.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._request("GET", url, headers=headers) as response:
            if response.status == 206:
                start, total = _content_range(response.headers.get("Content-Range", ""))
            else:
                start, total = 0, response.content_length
            yield Body(start, total, _chunks(response))

    async def wait(self, failures: int, retry_after: float | None) -> None:
        """Pause before the next attempt.

        Args:
            failures: Number of failures in a row.
            retry_after: Seconds that the server asks for. `_request` keeps all connections waiting for as long.
        """
        if retry_after is not None:
            self._resume_at = max(self._resume_at, time.monotonic() + retry_after)
        pause = min(2.0 ** (failures - 1), self.settings.max_wait)
        await asyncio.sleep(pause * random.uniform(0.5, 1))

    @asynccontextmanager
    async def _request(self, method: str, url: str, **options: object) -> AsyncIterator[aiohttp.ClientResponse]:
        import aiohttp

        while (remaining := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(remaining)
        assert self._session is not None
        try:
            response = await self._session.request(method, url, **options)  # type: ignore[arg-type]
        except aiohttp.InvalidURL:
            raise FinalError("is no address") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise FinalError(f"has no certificate that this machine trusts ({reason_of(error)})") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RetryableError(f"cannot be reached ({reason_of(error)})") from None
        try:
            await _check_status(response)
            yield response
        finally:
            response.close()


async def _check_status(response: aiohttp.ClientResponse) -> None:
    if response.status in (200, 206):
        return
    if response.status == 416:
        raise RangeRefusedError
    message = await _error_message(response)
    if response.status not in RETRIED_STATUSES:
        raise FinalError(f"the server refuses ({response.status} {message})")
    wait = retry_after_seconds(response.headers.get("Retry-After"))
    if wait is not None and wait > MAX_RETRY_AFTER:
        raise FinalError(f"the server asks to wait {wait:.0f} s ({response.status} {message}); run the command later")
    raise RetryableError(f"the server is not ready ({response.status} {message})", wait)


async def _error_message(response: aiohttp.ClientResponse) -> str:
    """What the body of an error says: `message` or `error` of the GDC's JSON, else its first words."""
    try:
        text = (await response.content.read(CHUNK)).decode("utf-8", "replace")
    except Exception:  # a broken body of an error leaves the status, which says enough
        return response.reason or ""
    try:
        content = json.loads(text)
        stated = content.get("message") or content.get("error")
    except (ValueError, AttributeError):
        stated = None
    return " ".join(str(stated or response.reason or text).split())[:200]


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    import aiohttp

    try:
        async for chunk in response.content.iter_chunked(CHUNK):
            yield chunk
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise RetryableError(f"the connection broke off ({reason_of(error)})") from None


def retry_after_seconds(header: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3); None if it has neither."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _content_range(header: str) -> tuple[int, int | None]:
    """Start and total of a Content-Range header: `bytes 10-19/20`, or `bytes 10-19/*`."""
    try:
        unit, _, ranges = header.partition(" ")
        span, _, total = ranges.partition("/")
        start = int(span.split("-")[0])
        if unit != "bytes":
            raise ValueError
        return start, None if total == "*" else int(total)
    except ValueError:
        raise RetryableError(f"the server sends a part without saying which ({header!r})") from None
