"""Worker processes that end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """In a worker, end as soon as the parent has ended, however it ended; without a parent, do nothing.

    A killed parent cannot stop its workers. They would continue to fit into the folders that the next run resumes.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)  # an unfinished fit must not be moved to its final folder any more

    threading.Thread(target=watch, name="end_with_parent", daemon=True).start()
