"""Keeps one table of all answers in the output folder: `answers.csv`, and `index.html` with links to the pages.

Both files are written after every answer, completely or not at all, so an interrupted command leaves a table of
everything that is finished. Answers of earlier calls stay in the table.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dmml.atomic_files import write_text
from dmml.errors import InputError
from dmml.experiment.predict_slide.input import PREDICTION, thumbnail_name

TABLE, INDEX = "answers.csv", "index.html"
"""Longer side of the picture of a slide, in pixels: sharp at half that size on every screen."""
_LAST = ("headline", "headline_value", "outlook", "warnings", "run", "checkpoint", "created", "report")
"""Columns after those of the prediction."""


class AnswersTable:
    """The table of all answers in a folder.

    Args:
        out: Folder of the answers; it may hold a table of an earlier call.

    Raises:
        InputError: The folder has an `answers.csv` that is no table of answers.
    """

    def __init__(self, out: str | Path):
        self.out = Path(out)
        self._read()

    def add(self, folder: Path, record: Mapping[str, Any]) -> None:
        """Add or replace the answer in `folder`, and write both files.

        Args:
            folder: Folder of the answer, inside of `out`.
            record: Content of `prediction.json`.
        """
        # The file is read again, because another process may have added answers to it.
        rows = self._read()
        rows |= self._unlisted(rows) | {folder.name: _row(folder, record)}
        self._write([rows[name] for name in sorted(rows)])

    def _read(self) -> dict[str, dict[str, Any]]:
        """Return {patient: row} of the table in the folder; empty without one."""
        path = self.out / TABLE
        if not path.is_file():
            return {}
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        except (OSError, ValueError, csv.Error) as error:
            raise InputError(
                f"{path} cannot be read ({error}); move it away, or name another folder with --out"
            ) from None
        if rows and not {"patient_id", "report"} <= set(rows[0]):
            raise InputError(
                f"{path} has no columns patient_id and report, so it is no table of answers; move it away, or name "
                "another folder with --out"
            )
        return {row["patient_id"]: row for row in rows}

    def _unlisted(self, rows: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the rows of finished answers that the table lacks, e.g. of a call that was killed before it wrote it."""
        unlisted: dict[str, dict[str, Any]] = {}
        for path in self.out.glob(f"[!.]*/{PREDICTION}"):
            if path.parent.name not in rows and (record := _record(path)):
                unlisted[path.parent.name] = _row(path.parent, record)
        return unlisted

    def _write(self, rows: list[dict[str, Any]]) -> None:
        from dmml.evaluation.predictions import write_table

        columns = _columns(rows)
        write_table(self.out / TABLE, [{name: row.get(name) for name in columns} for row in rows])
        write_text(self.out / INDEX, _page(self.out, rows))


def _columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The patient, the predictions of all models, and then what describes the answer, without columns that are empty."""
    names = dict.fromkeys(name for row in rows for name, value in row.items() if value not in (None, ""))
    predicted = [name for name in names if name not in ("patient_id", *_LAST)]
    return ["patient_id", *predicted, *(name for name in _LAST if name in names)]


def _record(path: Path) -> dict[str, Any] | None:
    """Read `prediction.json`; None if it is no record of an answer."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_answer = isinstance(record, dict) and {"prediction", "answer", "headline", "model"} <= set(record)
    return record if is_answer else None


def _row(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    headline, outlook = record["answer"]
    return {
        "patient_id": folder.name,
        **record["prediction"],
        "headline": headline,
        "headline_value": record["headline"]["value"],
        "outlook": outlook,
        "warnings": len(record["limits"]["warnings"]) if "limits" in record else None,
        "run": record["model"].get("run"),
        "checkpoint": str(record["model"].get("sha256") or "")[:12],
        "created": record.get("created"),
        "report": f"{folder.name}/report.html",
    }


def _page(out: Path, rows: list[dict[str, Any]]) -> str:
    from dmml._version import __version__
    from dmml.evaluation.report.pages import TEMPLATES
    from dmml.experiment.predict_slide.text import RESEARCH_USE
    from dmml.html_pages import render_page

    css, script = ((TEMPLATES / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return render_page(
        Path(__file__).parent / "answers.html",
        TEMPLATES,
        title=f"{len(rows)} answer{'s' if len(rows) != 1 else ''}",
        css=css,
        script=script,
        rows=[_page_row(out, row) for row in rows],
        with_warnings=any(str(row.get("warnings") or "") for row in rows),
        research_use=RESEARCH_USE,
        version=__version__,
        written=f"{_minute(max(str(row.get('created') or '') for row in rows))} UTC",
    )


def _page_row(out: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of a row; the answer of an earlier call may have been moved away, and has no link then."""
    folder = str(row["patient_id"])
    return {
        **{name: str(row.get(name) or "") for name in ("patient_id", "headline", "outlook", "warnings", "run")},
        "value": row.get("headline_value") or "",
        "created": _minute(str(row.get("created") or "")),
        "report": quote(str(row["report"])) if (out / str(row["report"])).is_file() else "",
        "picture": _picture(out, folder),
    }


def _picture(out: Path, folder: str) -> str:
    """Address of the thumbnail of a patient's first slide, which the folder is named after; empty if there is none."""
    names = (thumbnail_name(folder, n_slides) for n_slides in (1, 2))
    return next((quote(f"{folder}/{name}") for name in names if (out / folder / name).is_file()), "")


def _minute(created: str) -> str:
    """The minute of a time of `prediction.json`, which is in UTC: "2026-01-02 03:04"."""
    return created[:16].replace("T", " ")
