"""A plot inside a page: ids, references, colours, tooltips and layers, for names with any characters."""

from xml.etree import ElementTree

from dmml.evaluation.plots.plot import Plot
from dmml.evaluation.plots.style import BLUE, new_figure, style

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert("x")</script> & \x07 #0072b2'


def drawn(prefix="p1"):
    with style():
        figure, axes = new_figure()
        axes.plot([0, 1], [0, 1], color=BLUE, gid="line")
        axes.plot(0.5, 0.5, "o", gid="mark")
        axes.set_xlabel(HOSTILE)
    plot = Plot("name", "Title", figure, tooltips={"mark": HOSTILE}, layers={"line": "1 year & more"})
    return plot.inline_svg(prefix)


def test_ids_and_references_get_the_prefix():
    root = ElementTree.fromstring(drawn())
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(name.startswith("p1-") for name in ids)
    references = [value for element in root.iter() for name, value in element.items() if name.endswith("href")]
    references += [
        value.split("url(", 1)[1].split(")")[0]
        for element in root.iter()
        for value in element.attrib.values()
        if "url(" in value
    ]
    assert references
    assert {value.removeprefix("#") for value in references} <= set(ids)


def test_marks_get_tooltips_and_layers():
    root = ElementTree.fromstring(drawn())
    by_id = {element.get("id"): element for element in root.iter()}
    assert by_id["p1-mark"][0].tag == f"{SVG}title"
    assert by_id["p1-mark"][0].text == HOSTILE.replace("\x07", "\N{REPLACEMENT CHARACTER}")
    assert by_id["p1-line"].get("data-layer") == "1 year & more"


def test_colours_follow_the_page_and_texts_are_unchanged():
    text = drawn()
    root = ElementTree.fromstring(text)
    styles = [element.get("style", "") for element in root.iter()]
    assert any("stroke: var(--blue)" in value for value in styles)
    assert not any(BLUE in value for value in styles)
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert HOSTILE.replace("\x07", "\N{REPLACEMENT CHARACTER}") in words
    assert "<script" not in text


def test_the_element_fills_its_container_and_is_silent():
    root = ElementTree.fromstring(drawn())
    assert root.get("width") is None
    assert root.get("viewBox")
    assert root.get("aria-hidden") == "true"
    assert root.find(f"{SVG}metadata") is None


def test_a_plot_without_alt_is_described_by_its_title_and_caption():
    figure, _ = new_figure()
    assert Plot("n", "Title", figure, "A caption.").description == "Title. A caption."
    assert Plot("n", "Title", figure, "A caption.", "Said").description == "Said"
