"""Worker processes that end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """In a worker: end as soon as the parent has ended, however it ended; does nothing in a process without a parent.

    A killed parent cannot stop its workers. They would go on fitting into the folders that the next run takes up again.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)  # nothing of a half-done fit may be moved to its place any more

    threading.Thread(target=watch, name="end_with_parent", daemon=True).start()
