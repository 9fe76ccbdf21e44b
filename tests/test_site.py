"""The documentation builds as a site whose links resolve, with every command and every message in it."""

import html
import json
import re
from pathlib import Path

import pytest

from dmml.__main__ import TOOLS, main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(repository, tmp_path_factory):
    """Folder of the built site."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        build(load_config(str(repository / "mkdocs.yml"), site_dir=str(folder), strict=True))  # strict: dead links fail
    return folder


def words_of(page: Path) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8"))).split())


def test_every_command_and_option_has_its_place(site):
    page = words_of(site / "reference" / "commands.html")
    assert [name for name in TOOLS if f"dmml {name}" not in page] == []
    assert "--stain-normalization" in page


def test_every_key_of_the_data_section_is_explained(site):
    from dataclasses import fields

    from dmml.cohort.cohort_config import CohortConfig
    from dmml.data.data_config import Loading

    page = words_of(site / "reference" / "config.html")
    assert [field.name for kind in (CohortConfig, Loading) for field in fields(kind) if field.name not in page] == []


def test_the_search_leads_from_a_message_to_its_page(site, capsys, tmp_path):
    assert main(["predict-slide", str(tmp_path / "s.svs"), "--ckpt_path", "none.ckpt", "--out", "o"]) == 2
    message = capsys.readouterr().err
    entries = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    texts = [
        entry["text"] for entry in entries if "no such checkpoint" in entry["text"] and "messages" in entry["location"]
    ]
    assert "no such checkpoint" in message
    assert texts
    assert all("dmml fit" in html.unescape(re.sub(r"<[^>]+>", "", text)) for text in texts)


def test_nothing_is_loaded_from_the_network(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]+src="(https?:[^"]+)"', page.read_text(encoding="utf-8"))
        loaded += re.findall(r'<link[^>]+rel="stylesheet"[^>]+href="(https?:[^"]+)"', page.read_text(encoding="utf-8"))
        assert loaded == [], page
