"""Adapt matplotlib's SVG: for a page with unique ids, its colours, tooltips and layers, or as a file on white."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_UNWRITABLE = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF], "\N{REPLACEMENT CHARACTER}")
"""Control characters, which XML cannot contain and names in files can."""
_HREFS = ("href", f"{{{_XLINK}}}href")


def inline_svg(
    svg: str, prefix: str, replacements: Mapping[str, str], tooltips: Mapping[str, str], layers: Mapping[str, str]
) -> str:
    """Convert an SVG file into an element that can stand in a page beside others.

    The element has no fixed size, so that it takes the width of its container, and is hidden from screen readers, which
    read the label of the container.

    Args:
        svg: SVG file written by matplotlib.
        prefix: Put before every id, so that ids are unique on the page.
        replacements: {text: replacement} in the attributes, for colours and fonts.
        tooltips: {gid of an artist: text of its tooltip}.
        layers: {gid of an artist: name of its layer}.
    """
    root = ElementTree.fromstring(svg.translate(_UNWRITABLE))
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("aria-hidden", "true")
    for element in root.iter():
        _drop_line_breaks(element)
        gid = element.get("id", "")
        if gid in layers:
            element.set("data-layer", layers[gid].translate(_UNWRITABLE))
        for name, value in element.items():
            element.set(name, _adapted(name, value, prefix, replacements))
        if gid in tooltips:
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = tooltips[gid].translate(_UNWRITABLE)
            element.insert(0, title)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def svg_on_white(svg: str) -> str:
    """Return an SVG file written by matplotlib with a white background."""
    head, end, body = svg.translate(_UNWRITABLE).partition("<svg ")
    attributes, close, content = body.partition(">")
    return f'{head}{end}{attributes}{close}\n <rect width="100%" height="100%" fill="white"/>{content}'


def _adapted(name: str, value: str, prefix: str, replacements: Mapping[str, str]) -> str:
    """Value of an attribute with the prefix before ids and references to them, and with the replacements."""
    if name == "id":
        return f"{prefix}-{value}"
    if name in _HREFS and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    value = value.replace("url(#", f"url(#{prefix}-")
    for text, replacement in replacements.items():
        value = value.replace(text, replacement)
    return value


def _drop_line_breaks(element: ElementTree.Element) -> None:
    """Remove the indentation between elements, which would only enlarge the page."""
    if element.text is not None and not element.text.strip():
        element.text = None
    if element.tail is not None and not element.tail.strip():
        element.tail = None
