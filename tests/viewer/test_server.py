"""The viewer's server: what it refuses, and that nothing of a slide's metadata leaves it."""

import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import urllib.request

import numpy as np
import openslide
import pytest
from PIL import Image
from viewed_answers import DATE, PATIENT, serving, write_answer, write_marked_slide

from dmml.__main__ import main
from dmml.errors import InputError
from dmml.viewer.page_data import PageData
from dmml.viewer.server import ViewerServer, is_loopback

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return write_marked_slide(tmp_path_factory.mktemp("SCANS_OF_JANE") / "s17.scn")


@pytest.fixture(scope="module")
def answer(slide, tmp_path_factory):
    return write_answer(tmp_path_factory.mktemp("answers") / "s17", slide)


@pytest.fixture(scope="module")
def server(answer):
    with serving(answer) as running:
        yield running


def get(server, path, host="127.0.0.1", method="GET"):
    """(status, headers, body); the path is sent as it is, as a browser would not."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, dict(response.getheaders()), body


def every_answer(server):
    """{path: (headers, body)} of everything that the page can ask for."""
    index = json.loads(get(server, "/slides.json")[2])
    paths = ["/", "/slides.json"]
    for i in range(len(index["slides"])):
        paths.append(f"/slides/{i}.json")
        described = json.loads(get(server, paths[-1])[2])
        for scale in described["magnifications"]:
            prefix = f"/slides/{i}/tiles/{scale['magnification']}x"
            paths += [f"{prefix}.bin", *(f"{prefix}/{row}.jpg" for row in range(scale["n"]))]
        picture = described["picture"]
        n_levels = int(np.ceil(np.log2(max(picture["width"], picture["height"])))) + 1
        for level in range(n_levels):
            sides = [int(np.ceil(picture[side] / 2 ** (n_levels - 1 - level))) for side in ("width", "height")]
            columns, rows = (-(-side // picture["tileSize"]) for side in sides)
            paths += [f"/slides/{i}/zoom/{level}/{x}_{y}.jpg" for x in range(columns) for y in range(rows)]
    answers = {path: get(server, path) for path in paths}
    assert {status for status, _, _ in answers.values()} == {200}
    return {path: (headers, body) for path, (_, headers, body) in answers.items()}


def test_nothing_of_the_metadata_is_sent(server, slide, answer):
    with openslide.OpenSlide(slide) as opened_slide:
        properties = dict(opened_slide.properties)
        macro = opened_slide.associated_images["macro"].convert("RGB").tobytes()
    assert PATIENT in properties["openslide.barcode"]  # the slide does hold them
    assert DATE in properties["leica.creation-date"]
    assert set(macro) == {200}
    answers = every_answer(server)
    assert len(answers) > 100
    secrets = [PATIENT, "JANE", DATE, "2011", "SCN400", "leica", str(slide), str(slide.parent), str(answer), "/work"]
    for path, (headers, body) in answers.items():
        text = f"{headers}{body.decode('latin-1')}"
        assert [secret for secret in secrets if secret in text] == [], path
        if path.endswith(".jpg"):
            picture = Image.open(io.BytesIO(body))
            assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
            assert np.abs(np.asarray(picture).astype(int) - 200).max() > 3  # not the macro image, which is grey


def test_a_comment_and_a_camera_record_of_a_plain_image_are_not_sent(tmp_path):
    from drawn_slides import paint_tissue

    from dmml.slides.wsi.slide import Slide
    from dmml.viewer.pixels import SlidePixels

    path, exif = tmp_path / "s1.jpg", Image.Exif()
    exif[0x013B] = PATIENT
    picture = Image.fromarray(paint_tissue(900, 700, ((100, 100, 600, 500),)))
    picture.save(path, comment=PATIENT.encode(), exif=exif, quality=95)
    assert path.read_bytes().count(PATIENT.encode()) == 2
    pixels = SlidePixels(Slide(path, 0.5))
    data = PageData(None)
    data._open[0] = (pixels, [])
    for level in range(11):
        assert PATIENT.encode() not in data.deep_zoom_tile(0, level, 0, 0)
    data.close()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.1", "", None])  # fmt: skip
def test_a_foreign_host_is_refused(server, host):
    status, _, body = get(server, "/", host=host)
    assert status == 403
    assert b"<html" not in body


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:9", "[::1]:80", "[::1]"])
def test_loopback_hosts_are_answered(server, host):
    assert is_loopback(host)
    assert get(server, "/", host=host)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/../server.py",
        "/server.py",
        "/prediction.json",
        "//etc/passwd",
        "/slides/0/../../../../etc/passwd",
        "/slides/-1.json",
        "/slides/1.json",
        "/slides/0/tiles/40x.bin",
        "/slides/0/tiles/20x/99999.jpg",
        "/slides/0/zoom/99/0_0.jpg",
        "/slides/0/zoom/0/5_5.jpg",
        "/slides/٣.json",
        "/viewer.css%00.html",
    ],
)
def test_nothing_but_the_fixed_addresses_is_served(server, path):
    connection = socket.create_connection(server.server_address)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = b"".join(iter(lambda: connection.recv(65536), b""))
    connection.close()
    assert answer.split(b" ")[1] == b"404"
    assert answer.endswith(b"not found")


def test_other_methods_are_refused(server):
    assert get(server, "/", method="POST")[0] == 501
    status, headers, body = get(server, "/", method="HEAD")
    assert (status, body) == (200, b"")
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "script-src 'self';" in headers["Content-Security-Policy"]


def test_it_listens_on_the_loopback_address_alone(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_address[1]}/"


def test_a_slide_that_disappears_is_no_secret_either(slide, answer, tmp_path, caplog):
    import shutil

    (tmp_path / "JANE").mkdir()
    copy = shutil.copy2(slide, tmp_path / "JANE" / "s17.scn")
    with serving(answer, [copy]) as running:
        (tmp_path / "JANE" / "s17.scn").unlink()
        status, _, body = get(running, "/slides/0.json")
        assert status == 500
        assert b"JANE" not in body
    assert "JANE" in caplog.text  # the user's own console says which file


def test_a_port_that_is_in_use_is_refused(server):
    with pytest.raises(InputError, match=rf"--port {server.server_address[1]}: cannot be used"):
        ViewerServer(server.data, server.server_address[1])
    with pytest.raises(InputError, match="--port 70000: cannot be used"):
        ViewerServer(server.data, 70_000)


def test_the_command_prints_the_address_and_ends_with_an_interrupt(answer):
    argv = [sys.executable, "-m", "dmml", "view", str(answer), "--no-browser"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "Answer s17: 1 slide\n"
        url = process.stdout.readline().split(" ")[0]
        with urllib.request.urlopen(f"{url}slides.json", timeout=20) as response:
            assert json.load(response)["slides"] == [{"name": "s17", "group": ""}]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()


def test_thumbnails_and_slides_exclude_each_other(answer, slide, capsys):
    assert main(["view", str(answer), "--thumbnails", "--slides", str(slide)]) == 2
    assert "leave out either --thumbnails or --slides" in capsys.readouterr().err
