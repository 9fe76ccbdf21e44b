"""Opens finished reports in headless Chromium, at desktop and at phone width and as a printed page; writes docs/images.

    python benchmarks/report_screenshots.py --demo runs/demo_student/report.html --crossval runs/luad_crossval/report.html

Refuses a page that is wider than the window, whose script fails, or that is larger than 2 MB.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

MOST_PAGE, MOST_PICTURE = 2_000_000, 200_000
"""Bytes of a report and of a screenshot."""
SHOTS = {"report": (1180, 880, 1), "report_phone": (390, 1130, 2), "crossval": (1180, 1290, 1)}
"""Name: width and height in CSS pixels, device pixels a CSS pixel."""
PROBE = """<script>
const table = [...document.querySelectorAll("table")].find((one) => one.tBodies[0].rows.length > 2);
const column = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[1].dataset.order));
table.tHead.rows[0].cells[1].querySelector("button").click();
const sorted = column().every((value, i, all) => i === 0 || all[i - 1] >= value);
const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
document.body.textContent = `probe sorted=${sorted} wide=${wide}`;
</script></body>"""


def main() -> None:
    """Check every page given, and write its pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, help="report of the demo: report.png and report_phone.png")
    parser.add_argument("--crossval", type=Path, help="report of a cross-validation: crossval.png")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--browser", default="chromium")
    args = parser.parse_args()
    if shutil.which(args.browser) is None:
        raise SystemExit(f"--browser {args.browser} is not installed")
    for page, names in ((args.demo, ("report", "report_phone")), (args.crossval, ("crossval",))):
        if page is not None:
            check(args.browser, page)
            for name in names:
                path = args.out / f"{name}.png"
                path.write_bytes(shot(args.browser, page, *SHOTS[name]))
                print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def check(browser: str, page: Path) -> None:
    """Size, script and width of a page, and that it prints."""
    if page.stat().st_size > MOST_PAGE:
        raise SystemExit(f"{page} has {page.stat().st_size} bytes, more than {MOST_PAGE}")
    with tempfile.TemporaryDirectory() as folder:
        probed = Path(folder) / "probe.html"
        probed.write_text(page.read_text(encoding="utf-8").replace("</body>", PROBE), encoding="utf-8")
        for width in (500, 1280):
            told = run(browser, probed, f"--window-size={width},900", "--dump-dom", "--virtual-time-budget=3000")
            if "probe sorted=true wide=false" not in told:
                raise SystemExit(f"{page} at {width} px: {told[-200:]}")
        printed = Path(folder) / "page.pdf"
        run(browser, page, "--no-pdf-header-footer", f"--print-to-pdf={printed}")
        pages = printed.read_bytes().count(b"/Type /Page\n")
    print(f"{page}: {page.stat().st_size / 1e6:.1f} MB, sorts its tables, fits 500 and 1280 px, {pages} pages printed")


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
    if len(buffer.getvalue()) > MOST_PICTURE:
        raise SystemExit(f"{page}: the picture has {len(buffer.getvalue())} bytes, more than {MOST_PICTURE}")
    return buffer.getvalue()


def run(browser: str, page: Path, *options: str) -> str:
    """What the browser prints."""
    fixed = ("--headless", "--no-sandbox", "--disable-gpu")
    done = subprocess.run(
        [browser, *fixed, *options, page.resolve().as_uri()], capture_output=True, text=True, check=True
    )
    return done.stdout


if __name__ == "__main__":
    main()
