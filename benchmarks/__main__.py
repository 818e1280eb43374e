"""Measures all frameworks, each in a process of its own, prints the table, and writes it and a figure into docs/."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from .report import TITLES, Measured, machine, table, write
from .row import Row

MODULES = {
    "models": "torch_models",
    "memory": "torch_memory",
    "torch": "torch_steps",
    "torch matrices": "torch_matrices",
    "overhead": "torch_overhead",
    "jax": "jax_steps",
    "jax compile": "jax_compile",
    "keras": "keras_steps",
    "keras fit": "keras_fit",
    "keras jax": "keras_fit",
    "keras torch": "keras_fit",
    "hf": "hf_steps",
    "sklearn": "sklearn_steps",
    "sklearn linear": "sklearn_linear",
    "first step": "first_step",
}
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
}
#: What some groups have beside it.
ENVIRONMENTS = {"keras jax": {"KERAS_BACKEND": "jax"}, "keras torch": {"KERAS_BACKEND": "torch"}}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", default=",".join(MODULES), help="groups by comma, the others' tables stay: " + ", ".join(MODULES)
    )
    parser.add_argument("--quick", action="store_true", help="small models, to see that it runs; writes no files")
    parser.add_argument("--output", type=Path, default=Path("docs"), help="folder of the page and its figures")
    parser.add_argument("--group", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.group:
        _child(arguments.group, arguments.quick)
        return
    groups = [g.strip() for g in arguments.only.split(",")]
    if unknown := [g for g in groups if g not in MODULES]:
        parser.error(f"`--only` must name some of {', '.join(MODULES)}. Received: {unknown[0]!r}.")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    measured = {group: _run(group, arguments.quick, load) for group in MODULES if group in groups}
    if not arguments.quick:
        print("Written:", *write(measured, arguments.output))


def _run(group: str, quick: bool, load: float) -> Measured:
    start = time.monotonic()
    rows = list(_measured(group, quick))
    seconds = time.monotonic() - start
    print(f"{group}: {seconds:.0f} s", file=sys.stderr)
    return Measured(rows, machine(), str(datetime.date.today()), load, seconds)


def _child(group: str, quick: bool) -> None:
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what frameworks print is no row
    for row in import_module(f".{MODULES[group]}", __package__).rows(quick):
        events.write(json.dumps(asdict(row)) + "\n")


def _measured(group: str, quick: bool) -> Iterator[Row]:
    command = [sys.executable, "-m", __package__, "--group", group, *(["--quick"] if quick else [])]
    environment = {**os.environ, **ENVIRONMENT, **ENVIRONMENTS.get(group, {})}
    rows = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            rows.append(Row(**json.loads(line)))
            print(f"  measured: {rows[-1].case}  /  {rows[-1].baseline}", file=sys.stderr, flush=True)
    print(f"\n{TITLES[group]}\n\n{table(rows)}", flush=True)
    if process.returncode:
        sys.exit(f"The measurement of {group} ended with {process.returncode}.")
    yield from rows


if __name__ == "__main__":
    main()
