"""torch: our steps with matrices and sums against torch's and, where torch has none, against pytorch_optimizer's.

The parameters are those of the catalogue: four transformer blocks of width 256 and an embedding, 4 million float32
numbers, kernels with a row for each output. Both are given the same frequencies of decompositions, and steps are timed
by tens, which is what those decompositions come after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytorch_optimizer
import torch

from scirs2_adapters import torch as ours
from scirs2_adapters.demo.timing import seconds

from .catalogue import shapes
from .row import Row, measure

Class = Callable[..., torch.optim.Optimizer]
#: Steps at a time, and seconds for one row.
REPEAT, BUDGET = 10, 12.0


class Pair(NamedTuple):
    """Two optimizers of one kind, each with its arguments; some step matrices alone."""

    name: str
    options: dict[str, Any]
    theirs: Class
    their_options: dict[str, Any]
    matrices_alone: bool = False


ALWAYS = {"preconditioner_update_probability": 1.0}
PAIRS = [
    Pair("Adafactor", {}, torch.optim.Adafactor, {}),
    Pair("LAMB", {}, torch.optim.AdamW, {"fused": True}),
    Pair("LARS", {}, torch.optim.AdamW, {"fused": True}),
    Pair("Muon", {}, torch.optim.Muon, {}, matrices_alone=True),
    Pair("Muon", {"match": "torch"}, torch.optim.Muon, {}, matrices_alone=True),  # in bfloat16, as torch's is
    Pair("SOAP", {}, pytorch_optimizer.SOAP, {}),
    Pair("Shampoo", {"start_preconditioning_step": 1}, pytorch_optimizer.ScalableShampoo,
         {"start_preconditioning_step": 1, "preconditioning_compute_steps": 10, "block_size": 4096}),
    Pair("Kron", ALWAYS, pytorch_optimizer.Kron, {"pre_conditioner_update_probability": 1.0}),
]  # fmt: skip


def rows(quick: bool) -> Iterator[Row]:
    """A row for each pair."""
    sizes = shapes(16, 32) if quick else shapes()
    for pair in PAIRS:
        mine, other = (
            stepper(cls, sizes, options, pair.matrices_alone)
            for cls, options in ((getattr(ours, pair.name), pair.options), (pair.theirs, pair.their_options))
        )
        for function in (mine, other):  # compiles
            function()
        rounds = 1 if quick else min(15, max(1, int(BUDGET / REPEAT / (seconds(mine) + seconds(other)))))
        theirs = f"{pair.theirs.__module__.partition('.')[0]}'s {pair.theirs.__name__}"
        yield from measure(
            "torch matrices", f"{typed(pair)}, 4 blocks of width 256", mine, {theirs: other}, (rounds, REPEAT)
        )


def typed(pair: Pair) -> str:
    """The name of ours, with the framework that it is asked to match."""
    match = pair.options.get("match")
    return f"{pair.name}(match={match!r})" if match else pair.name


def stepper(cls: Class, sizes: dict[str, tuple[int, ...]], options: dict[str, Any], matrices_alone: bool) -> Any:
    """The step of an optimizer over parameters of its own, which it hardly moves."""
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(s)) for s in sizes.values() if len(s) == 2 or not matrices_alone]
    for p in params:
        p.grad = torch.randn_like(p)
    return cls(params, lr=1e-6, **options).step
