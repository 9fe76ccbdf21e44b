"""HTML pages from templates: values are escaped, and a name that is missing is an error."""

import base64

import jinja2
import pytest

from dmml.html_pages import data_uri, render_page, unbroken


def test_values_are_escaped_and_templates_of_other_folders_are_found(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "base.html").write_text("<p>{% block content %}{% endblock %}</p>")
    page = tmp_path / "page.html"
    page.write_text('{% extends "base.html" %}{% block content %}{{ name }}, {{ share | unbroken }}{% endblock %}')
    html = render_page(page, tmp_path / "shared", name="<b>&", share="5 %")
    assert html == "<p>&lt;b&gt;&amp;, 5\N{NO-BREAK SPACE}%</p>"


def test_a_missing_value_is_an_error(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("{{ name }}")
    with pytest.raises(jinja2.UndefinedError, match="name"):
        render_page(page)


def test_numbers_stay_with_their_units():
    text = unbroken("95 % interval, p = 0.03, p < 0.001")
    assert text.replace("\N{NO-BREAK SPACE}", "_") == "95_% interval, p_=_0.03, p_<_0.001"


def test_an_image_is_embedded():
    kind, _, content = data_uri(b"\x89PNG", "png").partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == b"\x89PNG"
