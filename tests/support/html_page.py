"""Parses a page as a browser and a screen reader would, and checks what holds for every page."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}
HANDLERS = re.compile(r"^on[a-z]+$")


class Page(HTMLParser):
    """Ids, links, tables and text of a page whose tags are closed in order and have no event handlers."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.words, self.open, self.tables, self.scripts = [], [], [], [], [], 0
        self.layers, self.readouts, self.titles, self.nameless = set(), [], [], []
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        assert not [name for name in values if HANDLERS.match(name)], values
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "data", "action"):
                self.links.append(value)
        if tag == "table":
            self.tables.append({"caption": "", "heads": 0, "unscoped": 0, "rows": []})
        if tag == "tr":
            self.tables[-1]["rows"].append([])
        if tag in ("th", "td"):
            self.tables[-1]["rows"][-1].append("")
            self.tables[-1]["heads"] += tag == "th"
            self.tables[-1]["unscoped"] += tag == "th" and values.get("scope") not in ("col", "row")
        if (tag == "img" and not values.get("alt")) or (values.get("role") == "img" and not values.get("aria-label")):
            self.nameless.append(values)
        if "data-layer" in values:
            self.layers.add(values["data-layer"])
        if values.get("data-readout"):
            self.readouts.append(values["data-readout"])
        self.scripts += tag == "script"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] in ("style", "script"):
            return
        data = data.replace("\N{NO-BREAK SPACE}", " ")
        self.words.append(data)
        if "caption" in self.open:
            self.tables[-1]["caption"] += data
        if self.open[-1] == "title" and "svg" in self.open:
            self.titles.append(data)
        if {"th", "td"} & set(self.open) and self.tables[-1]["rows"]:
            self.tables[-1]["rows"][-1][-1] += data

    def check(self):
        """Check what holds for every report: one script, unique ids, no links outside, and named tables and images."""
        assert self.scripts == 1
        assert len(self.ids) == len(set(self.ids))
        targets = {link[1:] for link in self.links if link.startswith("#")}
        assert targets <= set(self.ids)
        assert all(link.startswith(("#", "data:image/")) for link in self.links)
        assert self.tables
        for table in self.tables:
            assert table["caption"].strip()
            assert table["unscoped"] == 0
            assert len({len(row) for row in table["rows"]}) == 1, table
        assert self.nameless == []
        return self
