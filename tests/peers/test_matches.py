"""Each row of `rule.matches` is compared with the framework's own optimizer, and each entry of a row must matter.

Nothing is listed by hand: a rule that says it matches a framework is compared with it. Exceptions have a reason, and
fail when they are no longer needed.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
import torch

from scirs2_adapters.adapters.jax.argument_names import argument_names, factory_name
from scirs2_adapters.adapters.tf.argument_names import spelling
from scirs2_adapters.adapters.torch.argument_names import TORCH
from scirs2_adapters.core import Rule, get
from scirs2_adapters.core import match as conventions

from .matches import (
    DIFFERENT,
    HALVED,
    Hyper,
    Walk,
    arguments,
    gap,
    gradients,
    losses,
    matched,
    parameters,
    variants,
    walk,
)
from .problem import WALK, Record

pytestmark = pytest.mark.usefixtures("quick_xla")

#: How near two walks in float64 are. A wrong row takes one farther off.
SAME = 1e-9
#: Peers that compute a part of it in float32, how near they are, and what part.
COARSE: dict[tuple[str, str], tuple[float, str]] = {
    ("madgrad", "optax"): (1e-7, "the root of the step's number"),
    ("adafactor", "optax"): (1e-6, "the decay rate"),
    ("galore", "optax"): (1e-5, "the singular vectors"),
    ("adafactor", "keras"): (4e-6, "the decay rate and the relative step"),
}

#: Rules whose peer walks otherwise in float64, and where they are compared instead.
ELSEWHERE: dict[tuple[str, str], str] = {
    ("muon", "torch"): "iterates in bfloat16: test_reference_peers.py, with that cast replaced",
    ("muon", "optax"): "dimension numbers and the AdamW part: tests/adapters/test_jax_optax.py",
    ("muon", "keras"): "takes parameters by name: tests/adapters/test_tf_muon.py",
    ("schedulefreeadamw", "keras"): "walks otherwise on torch, where peers run: tests/adapters/test_tf_evaluation.py",
    ("sparseadam", "torch"): "takes sparse gradients alone: tests/adapters/test_torch_sparse.py",
}
#: Entries of a row that change no walk here, by framework, and where they are compared.
SILENT: dict[tuple[str, str], str] = {
    ("optax", "moduli"): "of complex numbers: tests/adapters/test_jax_optax.py",
    ("optax", "eps1"): "too small to show; defaults are compared in tests/adapters/test_jax_optax.py",
    ("optax", "begins_at_step_1"): "of first gradients of zero: tests/peers/test_zeros.py",
    ("optax", "time_dependence"): "what follows from the entry beside it",
    ("optax", "freezes"): "of a learning rate of zero: tests/peers/test_zeros.py",
    ("keras", "absolute_too"): "of learning rates above 1 / sqrt(t): tests/adapters/test_tf_classes.py",
    ("keras", "eps1"): "too small to show; defaults are compared in tests/adapters/test_tf_rules.py",
}
#: Functions of optax's that take no schedule.
UNSCHEDULED = {
    "optimisticadam": "optax prefers its second version, which does; it warns of that",
    "rprop": "its learning rate is the first size of steps",
    "sm3": "optax negates it, as no function can be, though it says that it takes one",
}
#: Functions of optax's that take no parameter without axes, which are given a vector of one number.
AT_LEAST_A_VECTOR = {"sm3": "optax looks for the numbers along a first axis"}
FRAMEWORKS = ("torch", "optax", "keras")
CASES = [(f, rule.name) for f in FRAMEWORKS for rule in matched(f) if (rule.name, f) not in ELSEWHERE]


def torch_walk(rule: Rule, keywords: Hyper) -> Walk:
    params, path = [torch.nn.Parameter(torch.tensor(p)) for p in parameters()], []
    optimizer = getattr(torch.optim, type(rule).__name__)(params, **keywords)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # in which it keeps single numbers
    for t, grads in enumerate(gradients()):
        if t == HALVED:
            optimizer.param_groups[0]["lr"] /= 2
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        path.append([p.detach().numpy().copy() for p in params])
    torch.set_default_dtype(usual)
    return path


def optax_function(name: str) -> Callable[..., optax.GradientTransformation]:
    return getattr(optax, factory_name(name), None) or getattr(optax.contrib, factory_name(name))


def optax_walk(rule: Rule, keywords: Hyper) -> Walk:
    rate, function = rule.learning_rate, optax_function(rule.name)
    halved = lambda count: jax.numpy.where(count < HALVED, rate, rate / 2)  # noqa: E731
    rates = (rate, rate / 2) if rule.name in UNSCHEDULED else (halved,)
    word = argument_names(type(rule)).spell("learning_rate", rule.fields)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        transforms = [function(**keywords, **{word: rate}) for rate in rates]
    shaped = jax.numpy.atleast_1d if rule.name in AT_LEAST_A_VECTOR else jax.numpy.asarray
    params, path = [shaped(p) for p in parameters()], []
    state, updates_of = transforms[0].init(params), [jax.jit(transform.update) for transform in transforms]
    for t, (grads, loss) in enumerate(zip(gradients(), losses(), strict=True)):
        update, extra = updates_of[0 if t < HALVED else -1], {"value": loss} if rule.needs_value else {}
        updates, state = update([shaped(g) for g in grads], state, params, **extra)
        params = optax.apply_updates(params, updates)
        path.append([np.asarray(p) for p in params])
    return path


@functools.cache
def keras_walks() -> dict[str, list[list]]:
    """All of Keras' walks, from one process because starting it takes seconds, and it settles its float type once."""
    command = [sys.executable, "-m", "tests.peers.keras_peer", "matches"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@functools.cache
def walks(framework: str, name: str) -> list[tuple[Hyper, Walk]]:
    """Every variant, and where the framework's own optimizer goes with it."""
    cls = get(name)
    if framework == "keras":
        return [(h, [[np.asarray(p) for p in step] for step in path]) for h, path in keras_walks()[name]]
    names, function, run = TORCH, getattr(torch.optim, cls.__name__, None), torch_walk
    if framework == "optax":
        names, function, run = argument_names(cls), optax_function(name), optax_walk
    walked = []
    with jax.enable_x64(True):
        for hyper in variants(cls, framework, names.spelled(cls.fields), function):
            rule = cls(match=framework, **hyper)
            walked.append((hyper, run(rule, arguments(rule, hyper, names))))
    return walked


def distances(framework: str, name: str, match: str) -> list[float]:
    return [gap(walk(get(name)(match=match, **hyper)), theirs) for hyper, theirs in walks(framework, name)]


def marked(rows: list[tuple]) -> list:
    return [pytest.param(*row, marks=[pytest.mark.slow] * (row[0] == "keras"), id="-".join(row)) for row in rows]


@pytest.mark.parametrize(("framework", "name"), marked(CASES))
def test_a_match_is_the_frameworks_own_optimizer(framework: str, name: str, record_property: Record) -> None:
    seen = max(distances(framework, name, framework))
    record_property(WALK, (name, peer_name(framework, name), seen))
    assert seen < nearness(name, framework)


def peer_name(framework: str, name: str) -> str:
    """The framework's own optimizer, as it is imported."""
    if framework == "optax":
        factory = factory_name(name)
        return f"optax.{factory}" if hasattr(optax, factory) else f"optax.contrib.{factory}"
    return f"torch.optim.{get(name).__name__}" if framework == "torch" else f"keras.optimizers.{spelling(get(name))}"


def nearness(name: str, framework: str) -> float:
    return COARSE.get((name, framework), (SAME, ""))[0]


ENTRIES = [(f, name, key) for f, name in CASES for key in get(name).matches[f]]


@pytest.mark.parametrize(("framework", "name", "key"), marked(ENTRIES))
def test_an_entry_of_a_row_matters(framework: str, name: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the walk is another one; so a wrong one would be seen above."""
    cls, without = get(name), f"{framework} without {key}"
    row = {k: v for k, v in cls.matches[framework].items() if k != key}
    monkeypatch.setitem(conventions.CONVENTIONS, without, conventions.CONVENTIONS[framework])
    monkeypatch.setattr(cls, "matches", {**cls.matches, without: row})
    shows = max(distances(framework, name, without)) >= nearness(name, framework)
    assert shows == ((framework, key) not in SILENT)


def test_every_exception_is_of_a_match_that_exists() -> None:
    assert all(framework in get(name).matches for name, framework in (*ELSEWHERE, *COARSE, *DIFFERENT))
    assert all(any(key in get(name).matches[f] for f, name in CASES if f == framework) for framework, key in SILENT)


@pytest.mark.parametrize(("framework", "name"), marked([(f, n) for n, f in COARSE]))
def test_a_coarse_comparison_is_still_needed(framework: str, name: str) -> None:
    assert max(distances(framework, name, framework)) > SAME
