"""An HTTP server for this machine alone: it binds to the loopback address and answers a fixed set of addresses.

A page of another origin cannot read its answers through the user's browser: a request whose Host header is no loopback
name is refused (an attacker's domain that resolves to 127.0.0.1, DNS rebinding), and other origins may not embed what it
sends (`Cross-Origin-Resource-Policy`).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dmml.errors import InputError
from dmml.slides.slide_error import SlideError
from dmml.viewer.page_data import PageData

HOST = "127.0.0.1"
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_STATIC = Path(__file__).parent / "static"
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/viewer.css": ("viewer.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/openseadragon.min.js": ("openseadragon.min.js", "text/javascript; charset=utf-8"),
    "/openseadragon.LICENSE.txt": ("openseadragon.LICENSE.txt", "text/plain; charset=utf-8"),
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("viewer", "tiles", "overlay", "panel", "keyboard")
    },
}
"""{address: (file, type)}; there is no other way to a file"""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_LOG = logging.getLogger(__name__)

Answer = tuple[bytes, str]
"""Content and its type"""


class ViewerServer(ThreadingHTTPServer):
    """Serves one collection of slides.

    Args:
        data: What the page asks for.
        port: Port; 0 = any free one.

    Raises:
        InputError: The port cannot be used.
    """

    daemon_threads = True

    def __init__(self, data: PageData, port: int = 0):
        self.data = data
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or "it must be between 0 and 65535"
            raise InputError(f"--port {port}: cannot be used ({reason}); leave it out for any free port") from error

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the signature of socketserver
        """Log an error at the level of details: browsers close connections when the user moves on."""
        _LOG.debug("a request failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: ViewerServer
    server_version, sys_version = "dmml", ""
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """Answer a request."""
        if not is_loopback(self.headers.get("Host")):
            return self._send(HTTPStatus.FORBIDDEN, b"only requests to the loopback address are answered", "text/plain")
        try:
            content, kind = respond(self.server.data, urlsplit(self.path).path)
        except (SlideError, InputError) as error:
            _LOG.warning("%s", error)  # with its path, on the user's console alone
            return self._send(HTTPStatus.INTERNAL_SERVER_ERROR, b"cannot be read; see the console", "text/plain")
        except (LookupError, ValueError):
            return self._send(HTTPStatus.NOT_FOUND, b"not found", "text/plain")
        return self._send(HTTPStatus.OK, content, kind)

    do_HEAD = do_GET

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        headers = _HEADERS
        if status == HTTPStatus.OK and kind == "image/jpeg":
            headers = _HEADERS | {"Cache-Control": "private, max-age=3600"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request at the level of details."""
        _LOG.debug(format, *args)


def is_loopback(host: str | None) -> bool:
    """Whether a Host header names the loopback address, with or without a port.

    Args:
        host: Value of the header; None if there is none.
    """
    match = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\[\]]+)(:\d{1,5})?", (host or "").strip())
    return match is not None and match.group(1).strip("[]").lower() in _LOOPBACK


def respond(data: PageData, path: str) -> Answer:
    """Return the content of an address.

    Raises:
        LookupError, ValueError: There is no such address.
        SlideError: A slide cannot be read.
    """
    if path in _FILES:
        name, kind = _FILES[path]
        return (_STATIC / name).read_bytes(), kind
    for pattern, answer in _ROUTES.items():
        if (match := re.fullmatch(pattern, path)) is not None:
            return answer(data, *map(int, match.groups()))
    raise LookupError(path)


def _json(content: dict[str, Any]) -> Answer:
    return json.dumps(content, allow_nan=False).encode(), "application/json"


_N = r"(\d{1,9})"
_ROUTES: dict[str, Callable[..., Answer]] = {
    "/slides.json": lambda data: _json(data.slides()),
    rf"/slides/{_N}\.json": lambda data, index: _json(data.slide(index)),
    rf"/slides/{_N}/tiles/{_N}x\.bin": lambda data, *rest: (data.numbers(*rest), "application/octet-stream"),
    rf"/slides/{_N}/tiles/{_N}x/{_N}\.jpg": lambda data, *rest: (data.square(*rest), "image/jpeg"),
    rf"/slides/{_N}/zoom/{_N}/{_N}_{_N}\.jpg": lambda data, *rest: (data.deep_zoom_tile(*rest), "image/jpeg"),
}
"""{pattern of an address, in which numbers are ids: its content}"""
