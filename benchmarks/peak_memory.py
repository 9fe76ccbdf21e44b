"""Memory that a network needs on top of the process that holds it and its data. Linux only."""

from __future__ import annotations

import time

import torch
from contenders import build, step_of
from process_memory import GIB, kib, peak_above
from token_batches import one_patient


def available_gib() -> float:
    """Available memory in GiB."""
    return kib("MemAvailable", file="meminfo") / GIB


def of_training(name: str, n_tokens: int, warm: bool) -> dict:
    """Peak memory of three training steps of a network, in a process that does nothing else.

    Args:
        name: Name of the network in `contenders`.
        n_tokens: Tokens per magnification.
        warm: Whether a step on eight tokens is made first. Otherwise the loading of code and the allocation of the
            optimiser's state in the first step are counted too, as in the targets.
    """
    step, batch = step_of(build(name)), one_patient(n_tokens)
    if warm:
        step(one_patient(8))
    return {"model": name, "tokens": n_tokens, "warm": warm, "gib": peak_above(lambda: [step(batch) for _ in range(3)])}


def of_inference(name: str, n_tokens: int) -> dict:
    """Peak memory and time of one inference on float16 features, which are not counted."""
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
