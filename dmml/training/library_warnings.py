"""Silences library warnings that a user of dmml cannot act on, with one list for `fit` and cross-validation."""

from __future__ import annotations

import logging
import warnings

from lightning.fabric.utilities.warnings import PossibleUserWarning

_LIGHTNING = r"lightning\."
_NOT_ACTIONABLE: tuple[tuple[str, type[Warning], str], ...] = (
    # srun is installed on a cluster, but dmml is often run on its login node or within a plain batch job.
    (r"The `srun` command is available on your system", PossibleUserWarning, rf"{_LIGHTNING}fabric\."),
    (r"The '\w+' does not have many workers", PossibleUserWarning, rf"{_LIGHTNING}pytorch\."),
    (r"The number of training batches .* is smaller than the logging", PossibleUserWarning, rf"{_LIGHTNING}pytorch\."),
    # dmml's samplers can resume within an epoch, see `dmml.callbacks.resumable`.
    (r"You're resuming from a checkpoint that ended before the epoch", PossibleUserWarning, rf"{_LIGHTNING}pytorch\."),
    (r"Be aware that when using `ckpt_path`, callbacks used to create", UserWarning, rf"{_LIGHTNING}pytorch\."),
    (r"Checkpoint directory .* exists and is not empty", UserWarning, rf"{_LIGHTNING}pytorch\."),
    (r"Experiment logs directory .* exists and is not empty", UserWarning, _LIGHTNING),
    # Stochastic weight averaging replaces the step-wise learning-rate schedule.
    (r"SWA is currently only supported every epoch", UserWarning, rf"{_LIGHTNING}pytorch\."),
    # The arguments are passed explicitly, but sys.argv must not be changed, because DDP starts its processes with it.
    (r"LightningCLI's args parameter is intended to run from within", UserWarning, rf"{_LIGHTNING}pytorch\."),
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning, _LIGHTNING),
    # A model for a cohort without RNA has layers without inputs.
    (r"Initializing zero-element tensors is a no-op", UserWarning, r"torch\.nn\."),
    # LightningCLI uses deprecated options of its parser; `run_loggers` uses one that all supported versions know.
    (
        r"[\s\S]*(only one JsonargparseDeprecationWarning|deprecated in v4)",
        DeprecationWarning,
        rf"{_LIGHTNING}pytorch\.cli|dmml\.experiment\.run_loggers",
    ),
    # A default of a callback cannot be written to config.yaml as text.
    (r"\s*Unable to serialize instance", UserWarning, ""),
)
"""Per warning: pattern for the start of its message, category, pattern for the start of the warning module's name"""


def silence_library_warnings() -> None:
    """Hide warnings that a user cannot act on; all other warnings are still shown."""
    for name in ("pytorch", "fabric"):  # hides tips and the list of accelerators, which `dmml doctor` shows
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    for message, category, module in _NOT_ACTIONABLE:
        warnings.filterwarnings("ignore", message, category, module)
