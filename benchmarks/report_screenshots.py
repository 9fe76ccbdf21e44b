"""Opens finished reports in headless Chromium, at desktop and at phone width and as a printed page.

Writes screenshots to docs/images, and the results of the checks to docs/results/report_screenshots.md and .json.

    python benchmarks/report_screenshots.py --demo runs/demo_student/report.html --crossval runs/luad_crossval/report.html

Fails if a page is wider than the window, if its script fails or writes to the console, if it cannot be printed, or if it
is larger than 2 MB.
"""

from __future__ import annotations

import argparse
import html
import io
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

MAX_PAGE_BYTES, MAX_SCREENSHOT_BYTES = 2_000_000, 200_000
"""Bytes of a report and of a screenshot."""
SHOTS = {"report": (1180, 880, 1), "report_phone": (390, 1130, 2), "crossval": (1180, 1290, 1)}
"""Name: width and height in CSS pixels, device pixels per CSS pixel."""
WIDTHS = {"phone": 390, "tablet": 768, "desktop": 1280}
"""CSS pixels. A window of the browser is never narrower than 500, so the page is shown in a frame."""
FRAME = """<!doctype html><iframe src="{source}" style="width:{width}px;height:900px;border:0"></iframe>
<script>addEventListener("message", (told) => {{ document.body.textContent = told.data; }});</script>"""
PROBE = """<script>
const table = [...document.querySelectorAll("table")].find((one) => one.tBodies[0].rows.length > 2);
const column = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[1].dataset.order));
table.tHead.rows[0].cells[1].querySelector("button").click();
const sorted = column().every((value, i, all) => i === 0 || all[i - 1] >= value);
const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
parent.postMessage(`probe sorted=${sorted} wide=${wide} width=${innerWidth}`, "*");
</script></body>"""


def main() -> None:
    """Check every page, and write its screenshots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, help="report of the demo: report.png and report_phone.png")
    parser.add_argument("--crossval", type=Path, help="report of a cross-validation: crossval.png")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument(
        "--results", type=Path, default=Path("docs/results"), help="where the record of the checks goes"
    )
    parser.add_argument("--browser", default="chromium")
    args = parser.parse_args()
    if shutil.which(args.browser) is None:
        raise SystemExit(f"--browser {args.browser} is not installed")
    args.out.mkdir(parents=True, exist_ok=True)
    checks = []
    for page, title, names in (
        (args.demo, "the demo's report", ("report", "report_phone")),
        (args.crossval, "a cross-validation's report", ("crossval",)),
    ):
        if page is not None:
            checks.append({"page": title, **check(args.browser, page)})
            for name in names:
                path = args.out / f"{name}.png"
                path.write_bytes(shot(args.browser, page, *SHOTS[name]))
                print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    if not checks:
        raise SystemExit("name a page: --demo or --crossval")
    version = subprocess.run([args.browser, "--version"], capture_output=True, text=True, check=True).stdout
    record = {"browser": re.search(r"\S+ [\d.]+", version)[0], "pages": checks}
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "report_screenshots.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (args.results / "report_screenshots.md").write_text(markdown(record), encoding="utf-8")


def check(browser: str, page: Path) -> dict[str, Any]:
    """Check size, script, console, width and printing of a page; exit if any of them fails."""
    if page.stat().st_size > MAX_PAGE_BYTES:
        raise SystemExit(f"{page} has {page.stat().st_size} bytes, more than {MAX_PAGE_BYTES}")
    with tempfile.TemporaryDirectory() as folder:
        probed = Path(folder) / "probe.html"
        probed.write_text(page.read_text(encoding="utf-8").replace("</body>", PROBE), encoding="utf-8")
        for width in WIDTHS.values():
            frame = Path(folder) / "frame.html"
            frame.write_text(FRAME.format(source=html.escape(probed.as_uri()), width=width), encoding="utf-8")
            output, console = run(browser, frame, "--window-size=1400,900", "--dump-dom", "--virtual-time-budget=3000")
            if f"probe sorted=true wide=false width={width}" not in output:
                raise SystemExit(f"{page} at {width} px: {output[-200:]} {console}")
        _, console = run(browser, page, "--dump-dom", "--virtual-time-budget=3000")
        if console:
            raise SystemExit(f"{page} writes to the console: {console[0]}")
        printed = Path(folder) / "page.pdf"
        run(browser, page, "--no-pdf-header-footer", f"--print-to-pdf={printed}")
        pages = len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes()))
    if not pages:
        raise SystemExit(f"{page} prints no page")
    size = round(page.stat().st_size / 1e6, 2)
    widths = ", ".join(map(str, WIDTHS.values()))
    print(f"{page}: {size} MB, sorts its tables, fits {widths} px, a silent console, {pages} pages printed")
    return {"mb": size, "fits_px": list(WIDTHS.values()), "sorts": True, "console": len(console), "pdf_pages": pages}


def markdown(record: dict[str, Any]) -> str:
    """The page of docs/results."""
    lines = [
        "# Reports in a browser",
        "",
        f"`python benchmarks/report_screenshots.py --demo … --crossval …` opened finished reports in headless "
        f"{record['browser']}. The script fails before it writes this page if a report is wider than its window, "
        "writes to the console, has tables that cannot be sorted, cannot be printed, or is larger than 2 MB.",
        "",
        "| page | size | fits without scrolling sideways | messages in the console | tables sort | pages as PDF |",
        "|---|---|---|---|---|---|",
    ]
    for page in record["pages"]:
        widths = ", ".join(f"{width} px" for width in page["fits_px"])
        sorts = "yes" if page["sorts"] else "no"
        lines.append(
            f"| {page['page']} | {page['mb']:.2f} MB | {widths} | {page['console']} | {sorts} | {page['pdf_pages']} |"
        )
    return "\n".join(lines) + "\n"


def shot(browser: str, page: Path, width: int, height: int, scale: int) -> bytes:
    """The top of a page as PNG."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "shot.png"
        size = (f"--window-size={width},{height}", f"--force-device-scale-factor={scale}", "--hide-scrollbars")
        run(browser, page, *size, "--virtual-time-budget=3000", f"--screenshot={raw}")
        buffer = io.BytesIO()
        Image.open(raw).convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE).save(
            buffer, "PNG", optimize=True
        )
    if len(buffer.getvalue()) > MAX_SCREENSHOT_BYTES:
        raise SystemExit(f"{page}: the picture has {len(buffer.getvalue())} bytes, more than {MAX_SCREENSHOT_BYTES}")
    return buffer.getvalue()


def run(browser: str, page: Path, *options: str) -> tuple[str, list[str]]:
    """Run the browser; return its output and the lines that the page wrote to the console."""
    fixed = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr")
    done = subprocess.run(
        [browser, *fixed, *options, page.resolve().as_uri()], capture_output=True, text=True, check=True
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


if __name__ == "__main__":
    main()
