"""The slow twins of torch's elementwise optimizers against torch and optax, in float64, over parameters and state."""

from __future__ import annotations

from collections.abc import Callable

import jax
import optax
import pytest
import torch

from tests.reference import reference

from .problem import WALK, Case, Record, close, compare, gradients, named, parameters
from .test_reference_peers import DECAY, optax_run, torch_run

TORCH = [
    Case("plain", "adagrad", {}, "Adagrad", {}),
    Case(
        "options",
        "adagrad",
        {"learning_rate": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.3, "eps": 1e-3, **DECAY},
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.3, "eps": 1e-3, **DECAY},
    ),
    Case("plain", "adadelta", {}, "Adadelta", {}),
    Case(
        "options",
        "adadelta",
        {"learning_rate": 0.3, "decay_rate": 0.7, "eps": 1e-3, "maximize": True, **DECAY},
        "Adadelta",
        {"lr": 0.3, "rho": 0.7, "eps": 1e-3, "maximize": True, **DECAY},
    ),
    Case("plain", "adamax", {}, "Adamax", {}),
    Case(
        "options",
        "adamax",
        {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.7, "eps": 1e-2, **DECAY},
        "Adamax",
        {"lr": 0.1, "betas": (0.8, 0.7), "eps": 1e-2, **DECAY},
    ),
    Case("plain", "radam", {}, "RAdam", {}),
    Case(
        "l2",
        "radam",
        {"beta1": 0.8, "beta2": 0.9, "eps": 1e-2, **DECAY},
        "RAdam",
        {"betas": (0.8, 0.9), "eps": 1e-2, **DECAY},
    ),
    Case(
        "decoupled",
        "radam",
        {"decoupled_weight_decay": True, **DECAY},
        "RAdam",
        {"decoupled_weight_decay": True, **DECAY},
    ),
    Case("plain", "asgd", {}, "ASGD", {}),
    Case(
        "options",
        "asgd",
        {"learning_rate": 0.1, "lambd": 0.1, "alpha": 0.5, "t0": 3.0, **DECAY},
        "ASGD",
        {"lr": 0.1, "lambd": 0.1, "alpha": 0.5, "t0": 3.0, **DECAY},
    ),
    Case("plain", "nadam", {}, "NAdam", {}),
    Case(
        "options",
        "nadam",
        {"beta1": 0.8, "beta2": 0.7, "eps": 1e-2, "momentum_decay": 0.1, "decoupled_weight_decay": True, **DECAY},
        "NAdam",
        {"betas": (0.8, 0.7), "eps": 1e-2, "momentum_decay": 0.1, "decoupled_weight_decay": True, **DECAY},
    ),
    Case("plain", "rprop", {}, "Rprop", {}),
    Case(
        "options",
        "rprop",
        {"learning_rate": 0.1, "eta_minus": 0.7, "eta_plus": 1.5, "min_step_size": 0.02, "max_step_size": 0.3},
        "Rprop",
        {"lr": 0.1, "etas": (0.7, 1.5), "step_sizes": (0.02, 0.3)},
    ),
    Case("never rectified", "radam", {"beta2": 0.5}, "RAdam", {"betas": (0.9, 0.5)}),
]


@pytest.mark.parametrize("case", TORCH, ids=named)
def test_twin_agrees_with_torch(case: Case, record_property: Record) -> None:
    """torch keeps single numbers in the default dtype, of which float32 would hide the formula."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        seen = compare(case, torch_run(lambda ps: [getattr(torch.optim, case.peer)(ps, **case.options)]))
        record_property(WALK, (case.twin, f"torch.optim.{case.peer}", seen))
    finally:
        torch.set_default_dtype(before)


def test_sparse_adam_agrees_with_torch_where_the_gradient_has_every_element(record_property: Record) -> None:
    """torch's steps the elements that a sparse gradient holds; the others of these leaves have no memory yet."""
    options = {"lr": 0.1, "betas": (0.8, 0.7), "eps": 1e-2}
    ps = [torch.nn.Parameter(torch.tensor(p)) for p in parameters() if p.ndim]
    optimizer = torch.optim.SparseAdam(ps, **options)
    for gs in gradients():
        for p, g in zip(ps, [g for g in gs if g.ndim], strict=True):
            p.grad = torch.tensor(g).to_sparse()
        optimizer.step()
    hyper = {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.7, "eps": 1e-2}
    xs, states = reference("sparseadam")(parameters(), gradients(), hyper=hyper)
    ours = [(x, slots) for x, slots in zip(xs[-1], states[-1]["leaves"], strict=True) if x.ndim]
    gaps = []
    for p, (x, slots) in zip(ps, ours, strict=True):
        gaps.append(close(x, p.detach().numpy(), "parameter"))
        gaps += [close(slot, optimizer.state[p][name].numpy(), name) for name, slot in slots.items()]
    record_property(WALK, ("sparseadam", "torch.optim.SparseAdam", max(gaps)))


# optax adds Adagrad's and RAdam's eps in other places, so that only without it are the formulas the same.
OPTAX = [
    Case(
        "without eps",
        "adagrad",
        {"learning_rate": 0.1, "initial_accumulator_value": 0.1, "eps": 0.0},
        "adagrad",
        {"learning_rate": 0.1, "eps": 0.0},
    ),
    Case(
        "options",
        "adadelta",
        {"learning_rate": 0.3, "decay_rate": 0.7, "eps": 1e-3, **DECAY},
        "adadelta",
        {"learning_rate": 0.3, "rho": 0.7, "eps": 1e-3, **DECAY},
    ),
    Case(
        "options",
        "adamax",
        {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.7, "eps": 1e-2},
        "adamax",
        {"learning_rate": 0.1, "b1": 0.8, "b2": 0.7, "eps": 1e-2},
    ),
    Case(
        "without eps",
        "radam",
        {"beta2": 0.99, "eps": 0.0, "eps_root": 1e-4, "threshold": 6.5},
        "radam",
        {"learning_rate": 1e-3, "b2": 0.99, "eps": 0.0, "eps_root": 1e-4, "threshold": 6.5},
    ),
]
#: Where optax keeps a slot: the member of the chain, then its fields under our names.
PLACES: dict[str, tuple[int, dict[str, str]]] = {
    "adagrad": (0, {"sum": "sum_of_squares"}),
    "adadelta": (1, {"square_avg": "e_g", "acc_delta": "e_x"}),
    "adamax": (0, {"exp_avg": "mu", "exp_inf": "nu"}),
    "radam": (0, {"exp_avg": "mu", "exp_avg_sq": "nu"}),
}


def slots_of(peer: str) -> Callable[..., tuple[dict, dict]]:
    """Reads the slots out of the state of a chain."""
    place, fields = PLACES[peer]
    return lambda state, params: ({ours: getattr(state[place], theirs) for ours, theirs in fields.items()}, {})


@pytest.mark.parametrize("case", OPTAX, ids=named)
def test_twin_agrees_with_optax(case: Case, record_property: Record) -> None:
    with jax.enable_x64(True):
        seen = compare(case, optax_run(getattr(optax, case.peer)(**case.options), slots_of(case.peer)))
    record_property(WALK, (case.twin, f"optax.{case.peer}", seen))
