"""Library warnings that a user of dmml cannot act on: one list for `fit` and cross-validation."""

from __future__ import annotations

import logging
import warnings

from lightning.fabric.utilities.warnings import PossibleUserWarning

_LIGHTNING = r"lightning\."
_NOT_ACTIONABLE: tuple[tuple[str, type[Warning], str], ...] = (
    # A cluster where srun is installed: dmml is often run there on a login node or within a plain batch job.
    (r"The `srun` command is available on your system", PossibleUserWarning, rf"{_LIGHTNING}fabric\."),
    (r"The '\w+' does not have many workers", PossibleUserWarning, rf"{_LIGHTNING}pytorch\."),
    (r"The number of training batches .* is smaller than the logging", PossibleUserWarning, rf"{_LIGHTNING}pytorch\."),
    # The samplers of dmml are resumable, see `dmml.callbacks.resumable`.
    (r"You're resuming from a checkpoint that ended before the epoch", PossibleUserWarning, rf"{_LIGHTNING}pytorch\."),
    (r"Be aware that when using `ckpt_path`, callbacks used to create", UserWarning, rf"{_LIGHTNING}pytorch\."),
    (r"Checkpoint directory .* exists and is not empty", UserWarning, rf"{_LIGHTNING}pytorch\."),
    (r"Experiment logs directory .* exists and is not empty", UserWarning, _LIGHTNING),
    # Weight averaging replaces the schedule by steps.
    (r"SWA is currently only supported every epoch", UserWarning, rf"{_LIGHTNING}pytorch\."),
    # The arguments are passed explicitly, while sys.argv must stay: DDP starts its processes by it.
    (r"LightningCLI's args parameter is intended to run from within", UserWarning, rf"{_LIGHTNING}pytorch\."),
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning, _LIGHTNING),
    # A cohort without RNA has layers without inputs.
    (r"Initializing zero-element tensors is a no-op", UserWarning, r"torch\.nn\."),
    # LightningCLI's use of its parser, and dmml's own by the name of an option that all supported versions know.
    (
        r"[\s\S]*(only one JsonargparseDeprecationWarning|deprecated in v4)",
        DeprecationWarning,
        rf"{_LIGHTNING}pytorch\.cli|dmml\.experiment\.run_loggers",
    ),
    # The default of a callback that is not text, in config.yaml.
    (r"\s*Unable to serialize instance", UserWarning, ""),
)
"""Beginning of the message, category, beginning of the name of the module that warns."""


def silence_library_warnings() -> None:
    """Hide warnings that a user cannot act on; all other warnings are still shown."""
    for name in ("pytorch", "fabric"):  # tips, and the list of accelerators, which `dmml doctor` shows
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    for message, category, module in _NOT_ACTIONABLE:
        warnings.filterwarnings("ignore", message, category, module)
