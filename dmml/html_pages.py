"""Render HTML pages from Jinja templates: the one way in which dmml makes HTML. Needs Jinja only when a page is made.

Values are escaped, names that a template does not receive are errors, and the filter `unbroken` keeps a number and its
unit on one line.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path


def render_page(template: Path, *folders: Path, **values: object) -> str:
    """Render a template.

    Args:
        template: Path of the template. It may extend and import templates of its own folder.
        folders: Further folders whose templates it may extend and import by their names.
        values: Variables of the template. Text is escaped unless it is `markupsafe.Markup`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, *folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = unbroken
    return environment.get_template(template.name).render(**values)


def data_uri(content: bytes, kind: str) -> str:
    """Embed an image in a page: the value of `src`.

    Args:
        content: The encoded image.
        kind: Its format, `jpeg` or `png`.
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def unbroken(text: str) -> str:
    """Insert no-break spaces, so that a number and its %, and p and its value, stay on one line."""
    return re.sub(r"\bp ([=<]) ", "p\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", text.replace(" %", "\N{NO-BREAK SPACE}%"))
