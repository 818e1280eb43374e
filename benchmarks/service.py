"""A step through `scirs2 serve` on the loopback beside one in this process: `python -m benchmarks.service`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.report.service import running
from scirs2_adapters.serve import Client

from .report import table
from .row import Model, Row, measure, models


def rows(quick: bool) -> Iterator[Row]:
    """AdamW on models of several sizes."""
    with running() as service, Client(service.address, service.token) as client:
        for model in [m for m in models(quick) if m.numbers * 4 < 1 << 28]:
            yield from _rows(client, model)
            client.delete()


def _rows(service: Client, model: Model) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    params = {f"p{i:03}": rng.normal(size=n).astype(np.float32) for i, n in enumerate(model.sizes)}
    grads = {name: rng.normal(size=p.shape).astype(np.float32) for name, p in params.items()}
    service.create("adamw", params)
    optimizer = HostOptimizer("adamw", params)
    case = f"AdamW, {model.name}"
    yield from measure(
        "service", case, lambda: service.step(grads), {"in-process": lambda: optimizer.step(grads)}, (10, 1)
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small models, to see that it runs")
    print(table(list(rows(parser.parse_args().quick))))


if __name__ == "__main__":
    main()
