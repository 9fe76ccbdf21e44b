"""Hooks of MkDocs: pages that are made from the code, links out of `docs/`, and equations that need no script."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import latex2mathml.converter  # noqa: E402
from command_pages import command_reference  # noqa: E402
from message_page import message_page  # noqa: E402
from mkdocs.config.defaults import MkDocsConfig  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402
from mkdocs.structure.pages import Page  # noqa: E402
from results_page import results_page  # noqa: E402

COPIED = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "deploy/README.md": "deploy.md"}
"""{file of the repository: page that shows it}"""
SHIM = Path(__file__).parent / "iframe-worker" / "shim.js"
"""With it, the search works in a page that was opened from a folder"""
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
EQUATION = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+)\$", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made when the site is built."""
    pages = {
        "reference/commands.md": command_reference(),
        "reference/messages.md": message_page(ROOT / "dmml"),
        "results/index.md": results_page(ROOT / "docs" / "results"),
        **{page: (ROOT / name).read_text(encoding="utf-8") for name, page in COPIED.items()},
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    files.append(File.generated(config, "assets/iframe-worker/shim.js", abs_src_path=str(SHIM)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn equations into MathML, and links to files outside of `docs/` into links to their pages or to copies."""
    return LINK.sub(_link_of(page, config, files), _with_mathml(markdown))


def _with_mathml(markdown: str) -> str:
    """Convert equations outside of code. The site loads nothing from the network, and browsers draw MathML themselves."""
    parts = CODE.split(markdown)
    parts[::2] = [EQUATION.sub(_mathml, part) for part in parts[::2]]  # the other parts are code
    return "".join(parts)


def _mathml(match: re.Match[str]) -> str:
    display = "block" if match["block"] else "inline"
    return latex2mathml.converter.convert(match["block"] or match["inline"], display=display)


def _link_of(page: Page, config: MkDocsConfig, files: Files) -> Callable[[re.Match[str]], str]:
    name = page.file.src_uri
    copied = {name: source for source, name in COPIED.items()}
    folder = (ROOT / copied[name]).parent if name in copied else (ROOT / "docs" / name).parent

    def replaced(match: re.Match[str]) -> str:
        target = (folder / match[1]).resolve()
        anchor = match[2] or ""
        depth = "../" * name.count("/")
        if target.is_relative_to(ROOT / "docs"):
            return f"]({depth}{target.relative_to(ROOT / 'docs')}{anchor})" if name in copied else match[0]
        if target.is_relative_to(ROOT) and str(target.relative_to(ROOT)) in COPIED:
            return f"]({depth}{COPIED[str(target.relative_to(ROOT))]}{anchor})"
        if target.is_file():
            copy = f"repository/{target.relative_to(ROOT)}"
            if files.get_file_from_path(copy) is None:
                files.append(File.generated(config, copy, abs_src_path=str(target)))
            return f"]({depth}{copy})"
        return f"]({path_to_repository(page)}{target.relative_to(ROOT)})" if target.exists() else match[0]

    return replaced


def path_to_repository(page: Page) -> str:
    """Relative path from a page to the repository, for a site that is read in the checkout in which it was built."""
    return "../" * (page.file.src_uri.count("/") + 1)
