"""The slow twins against torch and optax, in float64, over parameters and state.

A twin and its peer share no text, so what they agree on is the published formula.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import optax
import optax.contrib
import pytest
import torch

from tests.reference import reference

from .problem import WALK, Case, Record, compare, gradients, named, parameters

# ---------------------------------------------------------------- torch

DECAY = {"weight_decay": 0.1}
TORCH = [
    Case("plain", "sgd", {}, "SGD", {}),
    Case("maximize", "sgd", {"maximize": True, **DECAY}, "SGD", {"maximize": True, **DECAY}),
    Case("momentum", "sgd", {"momentum": 0.9, **DECAY}, "SGD", {"momentum": 0.9, **DECAY}),
    Case("dampening", "sgd", {"momentum": 0.9, "dampening": 0.3}, "SGD", {"momentum": 0.9, "dampening": 0.3}),
    Case("nesterov", "sgd", {"momentum": 0.9, "nesterov": True}, "SGD", {"momentum": 0.9, "nesterov": True}),
    Case("plain", "adam", {}, "Adam", {}),
    Case("l2", "adam", {"beta1": 0.8, "beta2": 0.9, **DECAY}, "Adam", {"betas": (0.8, 0.9), **DECAY}),
    Case("amsgrad", "adam", {"beta2": 0.7, "amsgrad": True}, "Adam", {"betas": (0.9, 0.7), "amsgrad": True}),
    Case("plain", "adamw", {}, "AdamW", {}),
    Case(
        "options",
        "adamw",
        {"learning_rate": 0.1, "beta2": 0.7, "eps": 1e-3, "amsgrad": True, "maximize": True, **DECAY},
        "AdamW",
        {"lr": 0.1, "betas": (0.9, 0.7), "eps": 1e-3, "amsgrad": True, "maximize": True, **DECAY},
    ),
    Case("plain", "rmsprop", {}, "RMSprop", {}),
    Case(
        "momentum",
        "rmsprop",
        {"momentum": 0.9, "rho": 0.9, **DECAY},
        "RMSprop",
        {"momentum": 0.9, "alpha": 0.9, **DECAY},
    ),
    Case("centered", "rmsprop", {"centered": True}, "RMSprop", {"centered": True}),
    Case("both", "rmsprop", {"centered": True, "momentum": 0.5}, "RMSprop", {"centered": True, "momentum": 0.5}),
    # torch takes eps1 from the dtype, here float64; the twin's default is float32's.
    Case("dtype's eps1", "adafactor", {"eps1": 2.0**-52}, "Adafactor", {}),
    Case("eps1", "adafactor", {"eps1": 1e-2, **DECAY}, "Adafactor", {"eps": (1e-2, 1e-3), **DECAY}),
    Case(
        "options",
        "adafactor",
        {"learning_rate": 0.5, "beta2_decay": -0.5, "eps1": 1e-8, "eps2": 2.0, "clip_threshold": 1.5, "maximize": True},
        "Adafactor",
        {"lr": 0.5, "beta2_decay": -0.5, "eps": (1e-8, 2.0), "d": 1.5, "maximize": True},
    ),
]


def numpy_slots(state: dict) -> dict[str, np.ndarray]:
    """A torch optimizer's state of one parameter, less the counter."""
    return {name: slot.numpy().copy() for name, slot in state.items() if name != "step" and slot is not None}


def as_is(x: torch.Tensor) -> torch.Tensor:
    return x


def torch_run(
    make: Callable[[list], list[torch.optim.Optimizer]], form: Callable[[torch.Tensor], torch.Tensor] = as_is
) -> tuple[list, list]:
    """The trajectory of the optimizers that `make` builds over the problem's parameters, each in this form."""
    ps = [torch.nn.Parameter(form(torch.tensor(p))) for p in parameters()]
    optimizers = make(ps)
    xs, states = [], []
    for gs in gradients():
        for p, g in zip(ps, gs, strict=True):
            p.grad = form(torch.tensor(g))
        for optimizer in optimizers:
            optimizer.step()
        state = {p: s for optimizer in optimizers for p, s in optimizer.state.items()}
        xs.append([p.detach().numpy().copy() for p in ps])
        states.append({"leaves": [numpy_slots(state.get(p, {})) for p in ps], "model": {}})
    return xs, states


@pytest.mark.parametrize("case", TORCH, ids=named)
def test_twin_agrees_with_torch(case: Case, record_property: Record) -> None:
    seen = compare(case, torch_run(lambda ps: [getattr(torch.optim, case.peer)(ps, **case.options)]))
    record_property(WALK, (case.twin, f"torch.optim.{case.peer}", seen))


FALLBACK = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}
MUON = [
    Case("defaults", "muon", {}, "Muon", {}),
    Case("plain average", "muon", {"nesterov": False, "momentum": 0.8}, "Muon", {"nesterov": False, "momentum": 0.8}),
    Case("match rms", "muon", {"adjust": "match_rms_adamw"}, "Muon", {"adjust_lr_fn": "match_rms_adamw"}),
    Case(
        "iteration",
        "muon",
        {"ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 3, "eps": 1e-1},
        "Muon",
        {"ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 3, "eps": 1e-1},
    ),
]


def flattened(x: torch.Tensor) -> torch.Tensor:
    """A kernel as Muon's author sees it: a row for each output."""
    return x.flatten(1) if x.ndim > 2 else x


def muon_and_adamw(options: dict) -> Callable:
    """torch's Muon for the matrices and its AdamW for the rest, as torch's documentation has users combine them: with
    the rates 0.02 and 3e-4, or with one where the scale makes steps as large as AdamW's.
    """

    def make(ps: list) -> list[torch.optim.Optimizer]:
        ratio = 1.0 if options.get("adjust_lr_fn") == "match_rms_adamw" else 3e-4 / 0.02
        rest = torch.optim.AdamW([p for p in ps if p.ndim != 2], lr=ratio * 1e-3, **FALLBACK)
        return [torch.optim.Muon([p for p in ps if p.ndim == 2], **options), rest]

    return make


@pytest.mark.parametrize("case", MUON, ids=named)
def test_muon_agrees_with_torch_when_its_iteration_keeps_float64(
    case: Case, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    """torch runs its own text; only the cast to bfloat16, which also copies, is made a plain copy."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    seen = compare(case, torch_run(muon_and_adamw(case.options), flattened))
    record_property(WALK, (case.twin, f"torch.optim.{case.peer}", seen))


def test_muon_stays_near_torch_with_bfloat16() -> None:
    """The step differs by a few times bfloat16's 2^-8; the buffers do not know of it."""
    ours, _ = reference("muon")(parameters(), gradients(), hyper={})
    theirs, _ = torch_run(muon_and_adamw({}))
    for x, y, start in zip(ours[-1][:2], theirs[-1][:2], parameters()[:2], strict=True):
        assert 1e-4 < np.linalg.norm(x - y) / np.linalg.norm(x - start) < 3e-2


def test_centered_rmsprop_is_clamped_where_torch_takes_a_negative_root() -> None:
    """The one deviation from torch: a constant gradient rounds the variance below zero."""
    gs, options = [[np.full(50, 0.1) * np.arange(1, 51)]] * 300, {"rho": 0.5, "centered": True}
    xs, _ = reference("rmsprop")([np.zeros(50)], gs, hyper=options)
    p = torch.nn.Parameter(torch.zeros(50, dtype=torch.float64))
    optimizer = torch.optim.RMSprop([p], alpha=0.5, centered=True)
    for (g,) in gs:
        p.grad = torch.tensor(g)
        optimizer.step()
    assert np.isfinite(xs[-1][0]).all()
    assert torch.isnan(p).any()


# ---------------------------------------------------------------- optax

OPTAX = [
    Case("plain", "lion", {"weight_decay": 1e-3}, "lion", {"learning_rate": 1e-4}),
    Case(
        "options",
        "lion",
        {"learning_rate": 0.1, "beta1": 0.7, "beta2": 0.8, **DECAY},
        "lion",
        {"learning_rate": 0.1, "b1": 0.7, "b2": 0.8, **DECAY},
    ),
    Case("plain", "lamb", {}, "lamb", {"learning_rate": 1e-3}),
    Case(
        "options",
        "lamb",
        {"learning_rate": 0.1, "beta1": 0.7, "beta2": 0.8, "eps": 1e-2, **DECAY},
        "lamb",
        {"learning_rate": 0.1, "b1": 0.7, "b2": 0.8, "eps": 1e-2, **DECAY},
    ),
]
# optax always corrects the bias, which the authors' package leaves off by default.
PRODIGY = [
    Case("defaults", "prodigy", {"use_bias_correction": True}, "prodigy", {}),
    Case(
        "options",
        "prodigy",
        {"use_bias_correction": True, "d0": 1e-2, "d_coef": 2.0, "beta3": 0.8, "safeguard_warmup": True, **DECAY},
        "prodigy",
        {"estim_lr0": 1e-2, "estim_lr_coef": 2.0, "beta3": 0.8, "safeguard_warmup": True, **DECAY},
    ),
    Case(
        "rate",
        "prodigy",
        {"use_bias_correction": True, "d0": 1e-2, "learning_rate": 0.3, "beta1": 0.5, "beta2": 0.9, "eps": 1e-2},
        "prodigy",
        {"estim_lr0": 1e-2, "learning_rate": 0.3, "betas": (0.5, 0.9), "eps": 1e-2},
    ),
]


def optax_run(transform: optax.GradientTransformation, slots_of: Callable, start: Callable = list) -> tuple[list, list]:
    """The trajectory of `transform`; `slots_of(state, params)` gives our names for its state."""
    params = start([jax.numpy.asarray(p) for p in parameters()])
    state, xs, states = transform.init(params), [], []
    update = jax.jit(transform.update)
    for gs in gradients():
        updates, state = update([jax.numpy.asarray(g) for g in gs], state, params)
        params = optax.apply_updates(params, updates)
        leaves, model = slots_of(state, params)
        names, columns = list(leaves), zip(*leaves.values(), strict=True)
        states.append({"leaves": [dict(zip(names, column, strict=True)) for column in columns], "model": model})
        xs.append(getattr(params, "fast", params))
    return xs, states


def moments(state: tuple, params: object) -> tuple[dict, dict]:
    """The state of lion and lamb: the first link of the chain."""
    del params
    second = {"exp_avg_sq": state[0].nu} if hasattr(state[0], "nu") else {}
    return {"exp_avg": state[0].mu, **second}, {}


def prodigy_slots(state: optax.contrib.ProdigyState, params: object) -> tuple[dict, dict]:
    """optax keeps no d_max: with its unlimited growth it equals d."""
    del params
    leaves = {"exp_avg": state.exp_avg, "exp_avg_sq": state.exp_avg_sq, "s": state.grad_sum, "p0": state.params0}
    return leaves, {"d": state.estim_lr, "d_max": state.estim_lr, "d_numerator": state.numerator_weighted}


@pytest.mark.parametrize("case", OPTAX, ids=named)
def test_twin_agrees_with_optax(case: Case, record_property: Record) -> None:
    with jax.enable_x64(True):
        seen = compare(case, optax_run(getattr(optax, case.peer)(**case.options), moments))
    record_property(WALK, (case.twin, f"optax.{case.peer}", seen))


def test_prodigy_limits_growth_after_the_first_jump() -> None:
    """optax has no `growth_rate`; what the authors' package promises of it is checked as a property."""
    hyper = {"d0": 1e-2, "growth_rate": 1.02}
    _, states = reference("prodigy")(parameters(), gradients(), hyper=hyper)
    d, d_max = (np.array([float(state["model"][name]) for state in states]) for name in ("d", "d_max"))
    jumped = int(np.argmax(d > 1e-2))
    assert d[jumped] > 1.02 * d[jumped - 1]
    np.testing.assert_allclose(d[jumped + 1 :], np.minimum(d_max[jumped + 1 :], 1.02 * d[jumped:-1]), rtol=1e-15)
    assert (d[jumped + 1 :] < d_max[jumped + 1 :]).any()


def test_prodigy_does_not_count_steps_before_the_first_gradient() -> None:
    """The authors' package returns early there; optax would divide 0 by 0."""
    hyper = {"d0": 1e-2, "use_bias_correction": True, "weight_decay": 0.1}
    nothing = [[np.zeros_like(p) for p in parameters()]] * 3
    late, _ = reference("prodigy")(parameters(), nothing + gradients(), hyper=hyper)
    xs, _ = reference("prodigy")(parameters(), gradients(), hyper=hyper)
    for now, before in zip(late, [parameters()] * 3 + xs, strict=True):
        assert all(map(np.array_equal, now, before))


@pytest.mark.parametrize("case", PRODIGY, ids=named)
def test_prodigy_agrees_with_optax(case: Case, record_property: Record) -> None:
    with jax.enable_x64(True):
        seen = compare(case, optax_run(optax.contrib.prodigy(**case.options), prodigy_slots))
    record_property(WALK, (case.twin, f"optax.contrib.{case.peer}", seen))


def test_lookahead_agrees_with_optax(record_property: Record) -> None:
    base = {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.9, "weight_decay": 0.1}
    case = Case("lion", "lookahead", {"base": "lion", "sync_period": 3, "slow_step_size": 0.3, **base}, "lookahead", {})
    fast = optax.lion(0.1, b1=0.8, b2=0.9, weight_decay=0.1)
    transform = optax.lookahead(fast, sync_period=3, slow_step_size=0.3)

    def slots_of(state: optax.LookaheadState, params: optax.LookaheadParams) -> tuple[dict, dict]:
        return {"exp_avg": state.fast_state[0].mu, "slow": params.slow}, {}

    with jax.enable_x64(True):
        seen = compare(case, optax_run(transform, slots_of, optax.LookaheadParams.init_synced))
    record_property(WALK, (case.twin, f"optax.{case.peer}", seen))
