"""Writes `metrics.csv`, with one row per step at which values were logged; a resumed run continues the table."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from dmml.atomic_files import atomic_write


class MetricsTable(Logger):
    """Logger whose table survives a restart, whereas Lightning's CSVLogger deletes an existing one.

    Args:
        path: Path of the CSV file.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        self.path = Path(path)
        self._rows: dict[int, dict[str, Any]] = {}

    @property
    def name(self) -> str:
        """Name of the logger; empty, so that Lightning makes no folder for it."""
        return ""

    @property
    def version(self) -> str:
        """Version of the logger; empty like `name`."""
        return ""

    @property
    def save_dir(self) -> str:
        """Folder of the table."""
        return str(self.path.parent)

    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        """Do nothing, because hyper-parameters are saved in `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add values to the row of a step."""
        self._rows.setdefault(len(self._rows) if step is None else int(step), {}).update(metrics)

    @rank_zero_only
    def load_rows_before(self, step: int) -> None:
        """Read the rows of an earlier run before `step`; rows from `step` on are dropped, as they are logged again."""
        if not self.path.is_file():
            return
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("step")]
        earlier = {int(row["step"]): row for row in rows if int(row["step"]) < step}
        for number, row in earlier.items():
            self._rows[number] = {name: value for name, value in row.items() if name != "step" and value != ""}

    @rank_zero_only
    def save(self) -> None:
        """Write the table, completely or not at all."""
        if not self._rows:
            return
        names = sorted({name for row in self._rows.values() for name in row} - {"epoch"})
        with atomic_write(self.path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["epoch", "step", *names])
            writer.writeheader()
            writer.writerows({"step": step, **row} for step, row in sorted(self._rows.items()))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the last rows."""
        self.save()
