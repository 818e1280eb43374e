"""The slow twins of torch's elementwise optimizers against torch and optax, in float64, over parameters and state."""

from __future__ import annotations

from collections.abc import Callable

import jax
import optax
import pytest
import torch

from .problem import Case, compare, named
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
    Case("never rectified", "radam", {"beta2": 0.5}, "RAdam", {"betas": (0.9, 0.5)}),
]


@pytest.mark.parametrize("case", TORCH, ids=named)
def test_twin_agrees_with_torch(case: Case) -> None:
    compare(case, torch_run(lambda ps: [getattr(torch.optim, case.peer)(ps, **case.options)]))


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
def test_twin_agrees_with_optax(case: Case) -> None:
    with jax.enable_x64(True):
        compare(case, optax_run(getattr(optax, case.peer)(**case.options), slots_of(case.peer)))
