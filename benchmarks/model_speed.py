"""How fast are teacher and student, and how much memory do they need, compared with a gated ABMIL of the same width?

One thread, float32, one patient with as many tokens of 1,024 features at 10x as at 20x. A training step is forward, all
losses, backward and AdamW, and gradient coordination where all parts are on. All networks take turns in every round, so
that a busy machine affects all of them; the minimum over the rounds counts. Memory is measured in a separate process for
each network. Prints tables and writes `model_speed.json` and `model_speed.md`.

    python benchmarks/model_speed.py --out docs/results
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import argparse
import gc
import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from contenders import COORDINATED, FORMS, RIVALS, TAUGHT, TAUGHT_ANEW, YARDSTICK, build, step_of
from peak_memory import available_gib, of_inference, of_training
from speed_figures import figures, markdown
from token_batches import one_patient

TOKENS = 2500
QUADRATIC_TOKENS = 1000
"""Fewer, because without aggregation the student's attention is quadratic in the tokens"""
MILLION = 1_000_000
MILLION_NEEDS = 14.0
"""GiB: 4 for the features, 8 for inference at most, and the process"""
TRANSMIL_UP_TO = 10_000


def alternate(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Run all cases in turn, round by round. → {case: {"cpu_s": minimum, "wall_s": minimum}}."""
    best = {name: {"cpu_s": float("inf"), "wall_s": float("inf")} for name in cases}
    for _ in range(rounds):
        for name, run in cases.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            took = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
            best[name] = {key: min(value, took[key]) for key, value in best[name].items()}
    return best


def rows(names: Iterable[str], n_tokens: int, best: dict[str, dict[str, float]]) -> list[dict]:
    """Rows of the table: times, and their ratio to the yardstick's at the same number of tokens."""
    return [
        {"model": name, "tokens": n_tokens, **best[name], "ratio": best[name]["cpu_s"] / best[YARDSTICK]["cpu_s"]}
        for name in names
    ]


def time_training(names: list[str], n_tokens: int, rounds: int) -> list[dict]:
    """Times of training steps."""
    batch = one_patient(n_tokens)
    steps = {name: step_of(build(name), batch if name == TAUGHT else None, name in COORDINATED) for name in names}
    cases = {name: (lambda step=step: step(batch)) for name, step in steps.items()}
    return rows(names, n_tokens, alternate(cases, rounds))


def time_inference(names: list[str], n_tokens: int, rounds: int) -> list[dict]:
    """Times of forward passes in evaluation mode."""
    batch = one_patient(n_tokens)
    networks = {name: build(name).eval() for name in names}
    with torch.inference_mode():
        cases = {name: (lambda network=network: network(batch)) for name, network in networks.items()}
        return rows(names, n_tokens, alternate(cases, rounds))


def memory_of(name: str, n_tokens: int, *options: str) -> dict:
    """Memory of one network, measured by this script in a separate process."""
    command = [sys.executable, __file__, "--memory-of", name, "--memory-tokens", str(n_tokens), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"measuring the memory of {name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(arguments: argparse.Namespace) -> dict:
    """Run all measurements that the options select."""
    rivals = list(RIVALS) if arguments.with_rivals else []
    forms = [] if arguments.quick else list(FORMS)
    names = ["teacher", "student", TAUGHT, TAUGHT_ANEW, *forms, YARDSTICK, *rivals]
    result: dict = {"training": time_training(names, TOKENS, arguments.rounds), "inference": []}
    names = ["student", "student without aggregation", YARDSTICK]
    result["training"] += time_training(names, QUADRATIC_TOKENS, arguments.rounds)
    say("training is timed")
    for n_tokens in (2500, 10_000) if arguments.quick else (2500, 10_000, 100_000):
        gc.collect()
        contenders = [name for name in rivals if not name.startswith("TransMIL") or n_tokens <= TRANSMIL_UP_TO]
        n_rounds = arguments.rounds if n_tokens < 100_000 else max(3, min(5, arguments.rounds))
        result["inference"] += time_inference(["student", "teacher", YARDSTICK, *contenders], n_tokens, n_rounds)
        say(f"inference is timed at {n_tokens:,} tokens")
    gc.collect()
    result["memory"] = []
    for name in ["teacher", YARDSTICK] if arguments.quick else ["teacher", "student", YARDSTICK, *rivals[:1]]:
        cold = memory_of(name, TOKENS)
        warm = None if arguments.quick else memory_of(name, TOKENS, "--warm")["gib"]
        result["memory"].append({"model": name, "tokens": TOKENS, "gib": cold["gib"], "gib_warm": warm})
        say(f"the memory of {name} is measured")
    if arguments.million and available_gib() < MILLION_NEEDS:
        result["million"] = f"not run: {available_gib():.1f} GiB free, {MILLION_NEEDS:.0f} needed"
    elif arguments.million:
        result["million"] = memory_of("student", MILLION, "--inference")
    return result


def say(text: str) -> None:
    """Report progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def processor() -> str:
    """Name of the processor."""
    try:
        return re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds; the minimum over them counts")
    parser.add_argument("--with-rivals", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--million",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="the student on 1,000,000 tokens a scale (default: unless --quick)",
    )
    parser.add_argument("--quick", action="store_true", help="in a minute: fewer rounds, no rivals, less memory")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--memory-tokens", type=int, default=TOKENS, help=argparse.SUPPRESS)
    parser.add_argument("--warm", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--inference", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.with_rivals = 3, False
    if arguments.million is None:
        arguments.million = not arguments.quick
    return arguments


def main() -> None:
    """Measure, print, write."""
    arguments = parse()
    torch.set_num_threads(1)
    if arguments.memory_of and arguments.inference:
        print(json.dumps(of_inference(arguments.memory_of, arguments.memory_tokens)))
        return
    if arguments.memory_of:
        print(json.dumps(of_training(arguments.memory_of, arguments.memory_tokens, arguments.warm)))
        return
    result = {
        "command": " ".join(["python benchmarks/model_speed.py", *sys.argv[1:]]),
        "torch": torch.__version__,
        "processor": processor(),
        "rounds": arguments.rounds,
        **measure(arguments),
    }
    result["figures"] = figures(result)
    text = markdown(result)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "model_speed.json").write_text(json.dumps(result, indent=2) + "\n")
    (arguments.out / "model_speed.md").write_text(text)


if __name__ == "__main__":
    main()
