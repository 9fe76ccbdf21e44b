"""A local S3 server on the loopback interface, and slides in one of its buckets."""

import logging
import os
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

BUCKET = "slides"


@contextmanager
def s3_server():
    """Start a server; yields its URL."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def empty_bucket(server, monkeypatch):
    """Let every client of this process use the server, with one empty bucket; yields the file system of s3fs."""
    import s3fs

    urlopen(Request(f"{server}/moto-api/reset", method="POST")).close()
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        files = s3fs.S3FileSystem()
        files.mkdir(BUCKET)
        yield files
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def upload(files, folder, prefix="in"):
    """Upload a folder; its files get the times of the objects, so that a store of one equals that of the other."""
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            key = f"{BUCKET}/{prefix}/{path.relative_to(folder)}"
            files.pipe_file(key, path.read_bytes())
            seconds = int(files.info(key)["LastModified"].timestamp())
            os.utime(path, (seconds, seconds))
    files.invalidate_cache()
    return f"s3://{BUCKET}/{prefix}"
