"""Warnings of libraries that a user of dmml can do nothing about: one list, for `fit` and cross-validation alike."""

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
    # Weight averaging takes the place of the schedule by steps.
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
    """Leave out what a user can do nothing about; any other warning, of whatever library, is still shown."""
    for name in ("pytorch", "fabric"):  # tips, and which accelerators there are: `dmml doctor` says it
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    for message, category, module in _NOT_ACTIONABLE:
        warnings.filterwarnings("ignore", message, category, module)
