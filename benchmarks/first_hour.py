"""How long does a newcomer wait: for the installation, the demo, the tests and the checks, in a fresh clone?

Clones this checkout, and runs the targets of its Makefile one after the other. Nothing else should run meanwhile; the page
states the load before the start. The cache of pip is left out, so that every package is downloaded.

    python benchmarks/first_hour.py --targets install demo test check --out docs/results
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine

REPOSITORY = Path(__file__).resolve().parents[1]
TARGETS = {"install": None, "demo": 7.0, "test": 10.0, "check": 12.0}
"""Targets of the Makefile, and the minutes that each may take; those of the demo include the installation"""


def main() -> int:
    """Time the targets, print the page, and write it on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=["install", "demo"])
    parser.add_argument("--shared", type=Path, help="folder of real data, which the tests expect beside the clone")
    parser.add_argument("--out", type=Path, help="folder for first_hour.md")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="first-hour-") as folder:
        clone = Path(folder) / "dmml"
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
        if arguments.shared:
            (clone.parent / "shared").symlink_to(arguments.shared.resolve())
        runs = {target: timed(target, clone) for target in arguments.targets}
    text = page({target: minutes for target, (minutes, _) in runs.items()}, load)
    print(text)
    if failed := [target for target, (_, succeeded) in runs.items() if not succeeded]:
        print(f"failed, so the page is not written: make {', make '.join(failed)}", file=sys.stderr)
        return 1
    if arguments.out:
        (arguments.out / "first_hour.md").write_text(text, encoding="utf-8")
    return 0


def timed(target: str, clone: Path) -> tuple[float, bool]:
    """Run a target; return its minutes, and whether it succeeded. The last lines of one that failed are printed."""
    environment = os.environ | {"PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    log = clone.parent / f"{target}.log"
    start = time.perf_counter()
    with log.open("w") as output:
        code = subprocess.run(["make", target], cwd=clone, env=environment, stdout=output, stderr=output).returncode
    minutes = (time.perf_counter() - start) / 60
    print(f"make {target}: {minutes:.1f} min, exit code {code}", file=sys.stderr, flush=True)
    if code:
        print(log.read_text()[-8000:], file=sys.stderr, flush=True)
    return minutes, code == 0


def page(minutes: dict[str, float], load: float) -> str:
    """Return the page in Markdown."""
    rows = []
    for target, value in minutes.items():
        whole = value + minutes["install"] if target == "demo" and "install" in minutes else value
        limit = TARGETS[target]
        wanted = f"{limit:.0f}{' with the installation' if target == 'demo' else ''}" if limit else ""
        reached = "" if limit is None else "yes" if whole <= limit else f"no: {whole:.1f}"
        rows.append(f"| `make {target}` | {value:.1f} | {wanted} | {reached} |")
    return "\n".join(
        [
            "# How long a newcomer waits",
            "",
            "`python benchmarks/first_hour.py` writes this page; its docstring says what is measured.",
            "",
            f"{describe_machine()}. Fresh clone, all packages downloaded, one target after the other; "
            f"load before the start {load:.1f}.",
            "",
            "| | minutes | wanted | reached |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
