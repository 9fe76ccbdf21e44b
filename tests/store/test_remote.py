"""A store behind a URL is read in forked processes as well, such as those that read ahead."""

import functools
import http.server
import multiprocessing
import threading

import pytest

from dmml.store.backends import backend_of


@pytest.fixture
def server(tmp_path):
    """URL of the folder, served over HTTP."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def _read(backend, name, answers):
    try:
        answers.put(backend.read(name))
    except BaseException as error:
        answers.put(repr(error))


@pytest.mark.slow
@pytest.mark.parametrize("through", ["", "filecache::"])
@pytest.mark.parametrize("before", [True, False], ids=["read-before", "not-read-before"])
def test_a_forked_process_can_read(server, tmp_path, through, before):
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "b").write_bytes(b"second")
    backend = backend_of(f"{through}{server}")
    if before:
        assert backend.read("a") == b"first"
    context = multiprocessing.get_context("fork")
    for name, content in (("a", b"first"), ("b", b"second"), ("c", None)):
        answers = context.Queue()
        child = context.Process(target=_read, args=(backend, name, answers))
        child.start()
        assert answers.get(timeout=30) == content
        child.join(10)
        assert child.exitcode == 0
    assert backend.read("b") == b"second"
