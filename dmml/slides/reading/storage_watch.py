"""Tells one lost slide from storage that is gone altogether, and waits for the latter to come back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dmml.errors import InputError

DEFAULT_WAIT_MIN = 10.0
"""Minutes for which a run waits for storage that is gone"""
_POLL_S = 5.0
_NEIGHBOURS = 8
"""Other slides that are tried before storage counts as gone"""
_LOG = logging.getLogger(__name__)


class StorageWatch:
    """Waits while neither a lost slide nor others of the run can be reached.

    A folder that was unmounted may still exist, empty: so it is the other slides that tell.

    Args:
        is_reachable: Whether the storage of a slide answers; called by one thread at a time.
        wait_min: Minutes to wait.
        name_of: Returns the path of a slide as the user knows it.
    """

    def __init__(
        self,
        is_reachable: Callable[[Path], bool],
        wait_min: float = DEFAULT_WAIT_MIN,
        name_of: Callable[[str], str] = str,
    ):
        self._is_reachable, self._wait_min, self._name_of = is_reachable, wait_min, name_of
        self._lock = threading.Lock()
        self._gave_up: InputError | None = None

    def wait(self, path: Path, others: Sequence[Path]) -> bool:
        """Wait until the storage of a lost slide, or of others that were not lost before, can be reached.

        Args:
            path: The slide that was lost.
            others: Slides that are still to be read, the next ones first.

        Returns:
            Whether storage was gone and is back, so that the slide deserves another attempt. False means that only this
            slide is lost.

        Raises:
            InputError: Storage did not come back in time.
        """
        others = others[:_NEIGHBOURS]
        with self._lock:
            if self._gave_up is not None:
                raise self._gave_up
            if self._any_reachable((path, *others)):
                return self._is_reachable(path)
            if not others:
                return False
            _LOG.warning(
                "%s and the slides after it cannot be reached; waiting up to %g min for their storage",
                self._name_of(str(path)),
                self._wait_min,
            )
            start = time.monotonic()
            while time.monotonic() - start < 60 * self._wait_min:
                time.sleep(min(_POLL_S, 60 * self._wait_min))
                if self._any_reachable((path, *others)):
                    _LOG.warning(
                        "the storage of %s answers again after %.0f s",
                        self._name_of(str(path)),
                        time.monotonic() - start,
                    )
                    return True
            self._gave_up = InputError(
                f"{self._name_of(str(path.parent))}: its slides could not be reached for {self._wait_min:g} min; no slide is lost: run the same "
                "command again once their storage answers (--storage-wait sets the minutes)"
            )
            raise self._gave_up

    def _any_reachable(self, paths: Sequence[Path]) -> bool:
        return any(self._is_reachable(path) for path in paths)
