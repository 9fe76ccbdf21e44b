"""How much memory a network takes above the process that holds it and its data. Linux alone can tell."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path

import torch
from contenders import build, step_of
from process_memory import kib
from token_batches import one_patient

GIB = 1024.0**2  # of the KiB that the kernel counts in


def available_gib() -> float:
    """Memory that is free to take."""
    return kib("MemAvailable", file="meminfo") / GIB


def peak_above(run: Callable[[], object]) -> float:
    """GiB by which the process grows over what it holds now, at most, while `run` runs."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that the process still holds would be used again, uncounted
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = kib("VmRSS")
    run()
    return (kib("VmHWM") - before) / GIB


def of_training(name: str, n_tokens: int, warm: bool) -> dict:
    """Three training steps of a network, in a process that does nothing else.

    Args:
        name: As in `contenders`.
        n_tokens: Tokens a scale.
        warm: Whether a step on eight tokens comes before. Without it the first step's loading of code and of the
            optimiser's state is counted too, as in the figures that are asked for.
    """
    step, batch = step_of(build(name)), one_patient(n_tokens)
    if warm:
        step(one_patient(8))
    return {"model": name, "tokens": n_tokens, "warm": warm, "gib": peak_above(lambda: [step(batch) for _ in range(3)])}


def of_inference(name: str, n_tokens: int) -> dict:
    """One inference on float16 features, which are not counted; its time too."""
    network, batch = build(name).eval(), one_patient(n_tokens, dtype=torch.float16)
    with torch.inference_mode():
        network(one_patient(8))
        wall, cpu = time.perf_counter(), time.process_time()
        gib = peak_above(lambda: network(batch))
    return {
        "model": name,
        "tokens": n_tokens,
        "gib": gib,
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
    }
