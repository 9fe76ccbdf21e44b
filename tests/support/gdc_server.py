"""A server on the loopback that behaves as the GDC's API documents, and as Google Cloud Storage does, with faults on request.

Search: https://docs.gdc.cancer.gov/API/Users_Guide/Search_and_Retrieval/ (filters, fields, expand, sort, from, size).
Download: https://docs.gdc.cancer.gov/API/Users_Guide/Downloading_Files/ (Content-Disposition, ranges, JSON errors).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
import uuid
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

FAULTS = (
    "reset", "truncate", "wrong", "429", "429 after", "503", "503 after", "503 date", "500", "stall", "slow", "no range",
    "too long",
)  # fmt: skip


def uuid_of(text: object) -> str:
    """A UUID that depends on a text alone."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, str(text)))


class GdcServer:
    """The API's data, its faults, and a log of what was requested.

    Attributes:
        faults: {number of the request for a file's bytes, from 0: fault of `FAULTS`, or `restart`}.
        requests: Method and path of every request.
        ranges: Range header of every request for a file's bytes; None without one.
        max_answering: Largest number of requests for bytes that were answered at the same time.
    """

    def __init__(self, release="Data Release 41.0 - August 28, 2024"):
        self.release = release
        self.projects = ["TCGA-LUAD", "TCGA-LUSC", "CPTAC-3"]
        self.files: dict[str, dict] = {}
        self.contents: dict[str, bytes] = {}
        self.cases: list[dict] = []
        self.objects: dict[str, dict[str, bytes]] = {}
        self.faults: dict[int, str] = {}
        self.requests: list[str] = []
        self.ranges: list[str | None] = []
        self.agents: set[str] = set()
        self.overridden: dict[str, object] = {}
        self.n_answering = self.max_answering = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._httpd: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def n_downloads(self) -> int:
        """Number of requests for a file's bytes."""
        return len(self.ranges)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        server = self

        class Handler(_Handler):
            gdc = server

        ThreadingHTTPServer.allow_reuse_address = True
        self._httpd = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._httpd.daemon_threads = True
        self._port = self._httpd.server_address[1]
        threading.Thread(target=self._httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self):
        """Stop, and break every connection."""
        self._httpd.shutdown()
        self._httpd.socket.close()
        for connection in list(self._open):
            _reset(connection)

    def restart(self, down=0.1):
        """Stop for some seconds, and start again at the same address."""

        def again():
            self.stop()
            time.sleep(down)
            self.start()

        threading.Thread(target=again, daemon=True).start()

    def add(self, name: str, content: bytes, data_type: str, patient: str, project="TCGA-LUAD", **more) -> str:
        """Serve a file; return its id."""
        id = more.pop("file_id", None) or uuid_of(f"{project}/{name}")
        slide = data_type == "Slide Image"
        strategy, workflow = ("Diagnostic Slide", None) if slide else ("RNA-Seq", "STAR - Counts")
        sample = {
            "submitter_id": more.pop("sample", f"{patient}-01Z" if slide else f"{patient}-01A"),
            "sample_type": more.pop("sample_type", "Primary Tumor"),
            "tissue_type": more.pop("tissue_type", "Tumor"),
            "tumor_descriptor": more.pop("tumor_descriptor", "Primary"),
        }
        self.files[id] = {
            "file_id": id,
            "file_name": name,
            "file_size": len(content),
            "md5sum": hashlib.md5(content).hexdigest(),
            "access": "open",
            "state": "released",
            "data_category": "Biospecimen" if slide else "Transcriptome Profiling",
            "data_type": data_type,
            "experimental_strategy": strategy,
            "analysis": {"workflow_type": workflow},
            "cases": [{"submitter_id": patient, "project": {"project_id": project}, "samples": [sample]}],
        } | more
        self.contents[id] = content
        return id

    def add_slide(self, patient: str, content: bytes, number=1, **more) -> str:
        name = f"{patient}-01Z-00-DX{number}.{uuid_of(patient).upper()}.svs"
        return self.add(name, content, "Slide Image", patient, **more)

    def add_rna(self, patient: str, content: bytes, name: str | None = None, **more) -> str:
        name = name or f"{uuid_of(f'rna {patient}')}.rna_seq.augmented_star_gene_counts.tsv"
        return self.add(name, content, "Gene Expression Quantification", patient, **more)

    def add_case(self, patient: str, days=500, vital="Alive", project="TCGA-LUAD"):
        """Serve the clinical data of a case."""
        demographic = {"vital_status": vital, "days_to_death": days, "age_at_index": 61, "gender": "female"}
        diagnosis = {"ajcc_pathologic_stage": "Stage IIA", "days_to_last_follow_up": days}
        self.cases.append(
            {
                "id": uuid_of(patient),
                "submitter_id": patient,
                "project": {"project_id": project},
                "demographic": demographic,
                "diagnoses": [diagnosis],
                "follow_ups": [{"days_to_follow_up": days}],
            }
        )

    def add_object(self, bucket: str, key: str, content: bytes):
        """Serve an object of Google Cloud Storage."""
        self.objects.setdefault(bucket, {})[key] = content

    def next_fault(self, range_header: str | None) -> str | None:
        with self._lock:
            self.ranges.append(range_header)
            return self.faults.get(len(self.ranges) - 1)

    def opened(self, connection):
        with self._lock:
            self._open.add(connection)

    def answering(self, change):
        with self._lock:
            self.n_answering += change
            self.max_answering = max(self.max_answering, self.n_answering)

    def closed(self, connection):
        with self._lock:
            self._open.discard(connection)


def _reset(connection):
    """End a connection with a TCP reset."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    finally:
        connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    gdc: GdcServer

    def setup(self):
        super().setup()
        self.gdc.opened(self.connection)

    def finish(self):
        self.gdc.closed(self.connection)
        try:
            super().finish()
        except (OSError, ValueError):
            pass

    def handle(self):
        try:
            super().handle()
        except (OSError, ValueError):
            pass  # the connection was reset

    def log_message(self, *_):
        pass

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self._answer("POST", json.loads(self.rfile.read(length)))

    def do_GET(self):
        query = parse_qs(urlsplit(self.path).query)
        self._answer("GET", {name: values[0] for name, values in query.items()})

    def _answer(self, method, query):
        path = unquote(urlsplit(self.path).path)
        self.gdc.requests.append(f"{method} {path}")
        self.gdc.agents.add(self.headers.get("User-Agent", ""))
        if path in self.gdc.overridden:
            return self._send(*self.gdc.overridden[path])
        records = {"/projects": self._projects(), "/files": [*self.gdc.files.values()], "/cases": self.gdc.cases}
        if path == "/status":
            return self._json({"status": "OK", "tag": "7.5", "version": 1, "data_release": self.gdc.release})
        if path in records:
            return self._json(search(records[path], path[1:], query))
        if match := re.fullmatch("/data/([^/]+)", path):
            return self._data(match[1])
        if match := re.fullmatch("/storage/v1/b/([^/]+)/o", path):
            return self._objects(match[1], query)
        bucket, _, key = path[1:].partition("/")
        if key in self.gdc.objects.get(bucket, {}):
            return self._bytes(self.gdc.objects[bucket][key], key)
        return self._json({"message": f"{path} not found"}, 404)

    def _projects(self):
        return [{"id": name, "project_id": name} for name in self.gdc.projects]

    def _objects(self, bucket, query):
        """A page of two objects."""
        keys = sorted(key for key in self.gdc.objects.get(bucket, {}) if key.startswith(query["prefix"]))
        start = int(query.get("pageToken", 0))
        items = []
        for key in keys[start : start + 2]:
            content = self.gdc.objects[bucket][key]
            md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
            items.append({"name": key, "size": str(len(content)), "md5Hash": md5})
        token = {"nextPageToken": str(start + 2)} if start + 2 < len(keys) else {}
        self._json({"items": items, **token} if items else token)

    def _data(self, id):
        if id not in self.gdc.contents:
            return self._json({"message": f"{id} not found"}, 404)
        if self.gdc.files[id]["access"] != "open":
            return self._json({"message": "Your token is invalid or expired"}, 403)
        return self._bytes(self.gdc.contents[id], self.gdc.files[id]["file_name"])

    def _bytes(self, content, name):
        self.gdc.answering(1)
        try:
            self._send_bytes(content, name)
        finally:
            self.gdc.answering(-1)

    def _send_bytes(self, content, name):
        fault = self.gdc.next_fault(self.headers.get("Range"))
        if fault == "reset":
            return self._break_off()
        if fault == "restart":
            self.gdc.restart()
            time.sleep(0.1)
            return self._break_off()
        if fault and fault[:3] in ("429", "503", "500"):
            after = {"after": "1", "date": formatdate(time.time() + 1, usegmt=True)}.get(fault[4:])
            return self._json({"message": "busy"}, int(fault[:3]), {"Retry-After": after} if after else {})
        start = self._start() if fault != "no range" else 0
        if start is not None and start >= max(len(content), 1):
            return self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        body = content[start or 0 :]
        if fault == "wrong":
            body = bytes(byte ^ 1 for byte in body)
        headers = {
            "Content-Disposition": f"attachment; filename=../../{name}",
            "Content-Type": "application/octet-stream",
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if fault == "too long":
            body += b"and more"
        self._send(206 if start else 200, body, headers, fault)

    def _start(self):
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(match[1]) if match else None

    def _json(self, content, status=200, headers=()):
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json", **dict(headers)})

    def _send(self, status, body, headers=(), fault=None):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = len(body) // 2
        if fault in ("truncate", "stall"):
            self.wfile.write(body[:half])
            self.wfile.flush()
            if fault == "stall":
                time.sleep(1.5)
            return self._break_off(reset=False)
        if fault == "slow":
            for start in range(0, len(body), max(1, len(body) // 4)):
                self.wfile.write(body[start : start + max(1, len(body) // 4)])
                time.sleep(0.05)
            return None
        self.wfile.write(body)
        return None

    def _break_off(self, reset=True):
        self.close_connection = True
        if reset:
            _reset(self.connection)


def search(records, entity, query):
    """The answer of a search endpoint."""
    filters = query.get("filters")
    filters = json.loads(filters) if isinstance(filters, str) else filters
    hits = [record for record in records if filters is None or _matches(record, entity, filters)]
    if query.get("sort"):
        field, _, order = query["sort"].partition(":")
        hits = sorted(hits, key=lambda record: _values(record, entity, field), reverse=order == "desc")
    start, size = int(query.get("from", 0)), int(query.get("size", 10))
    page = hits[start : start + size]
    fields = query["fields"].split(",") if query.get("fields") else None
    groups = query["expand"].split(",") if query.get("expand") else []
    if fields is not None:
        page = [_subset(record, [field.split(".") for field in [*fields, *groups]]) for record in page]
    pagination = {"count": len(page), "total": len(hits), "size": size, "from": start, "sort": query.get("sort", "")}
    pagination |= {"page": start // max(size, 1) + 1, "pages": -(-len(hits) // max(size, 1))}
    return {"data": {"hits": page, "pagination": pagination}, "warnings": {}}


def _matches(record, entity, term):
    if term["op"] in ("and", "or"):
        results = [_matches(record, entity, inner) for inner in term["content"]]
        return all(results) if term["op"] == "and" else any(results)
    wanted = term["content"]["value"]
    wanted = wanted if isinstance(wanted, list) else [wanted]
    has = bool({*wanted} & {*_values(record, entity, term["content"]["field"])})
    return {"in": has, "=": has, "!=": not has, "exclude": not has}[term["op"]]


def _values(record, entity, field):
    """All values of a field, which may begin with the name of its endpoint, and lie in lists."""
    values = [record]
    for key in field.removeprefix(f"{entity}.").split("."):
        values = [inner for value in values for inner in (value if isinstance(value, list) else [value])]
        values = [value[key] for value in values if isinstance(value, dict) and key in value]
    return [inner for value in values for inner in (value if isinstance(value, list) else [value])]


def _subset(value, paths):
    """The parts of a record that some paths name."""
    if isinstance(value, list):
        return [_subset(inner, paths) for inner in value]
    if not isinstance(value, dict) or [] in paths:
        return value
    heads = dict.fromkeys(path[0] for path in paths)
    return {
        head: _subset(value[head], [path[1:] for path in paths if path[0] == head]) for head in heads if head in value
    }
