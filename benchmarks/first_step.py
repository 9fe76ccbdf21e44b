"""A callback that ends a fit at its first training step, and records when this was and how much memory was used."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from lightning.pytorch import Callback
from process_memory import kib

STARTED, ANSWER = "FIRST_STEP_STARTED", "FIRST_STEP_ANSWER"
"""Environment variables: the time at which the command was given, and the file for the answer"""


class FirstStep(Callback):
    """Write `seconds` since the command, and `peak_kib` of the process, and end the process."""

    def on_train_batch_start(self, *_: object) -> None:
        """The first batch has been read and is about to be used."""
        answer = {
            "seconds": time.time() - float(os.environ[STARTED]),
            "peak_kib": kib("VmHWM"),
            "rss_kib": kib("VmRSS"),
        }
        Path(os.environ[ANSWER]).write_text(json.dumps(answer), encoding="utf-8")
        os._exit(0)
