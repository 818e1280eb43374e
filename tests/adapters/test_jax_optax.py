"""Where optax has the optimizer, ours with match="optax" is it: trajectory, state, arguments."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import scirs2_adapters
from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters.jax.argument_names import factory_name

from .jax_support import CASES, PATHS, PEERS, gap, gradients, kinds, theirs, tree, two_calls, walk

# It is an optimizer yet.
pytestmark = pytest.mark.filterwarnings("ignore:`optimistic_adam` is deprecated:DeprecationWarning")
each_path = pytest.mark.parametrize("path", PATHS)
each_case = pytest.mark.parametrize(("name", "kwargs"), CASES, ids=[f"{n}{i}" for i, (n, _) in enumerate(CASES)])
#: Every rule that optax has too, by the arguments that it is compared with; Muon's own comparison is below.
MATCHED = [(n, PEERS.get(n, [{"learning_rate": 1e-2}])[0]) for n in scirs2_adapters.names() if n != "muon"]
MATCHED = [(n, kwargs) for n, kwargs in MATCHED if "optax" in scirs2_adapters.get(n).matches]
each_match = pytest.mark.parametrize(("name", "kwargs"), MATCHED, ids=[n for n, _ in MATCHED])
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64


def turned_tree(seed: int, dtype: str, leaves: str = "wbs") -> Any:
    """Random numbers, in a complex dtype with parts of either sign."""
    turn = 1 + 2j if "complex" in dtype else 1
    other = tree(seed + 1000)
    return {k: (tree(seed)[k] * turn + other[k]).astype(dtype) for k in leaves}


each_rule = pytest.mark.parametrize("name", scirs2_adapters.names())


@functools.cache
def _made(name: str, options: tuple[tuple[str, Any], ...], path: str | None) -> tuple[Any, Any]:
    tx = getattr(adapter, name)(**dict(options), match="optax", kernel=path) if path else theirs(name)(**dict(options))
    return tx, two_calls(tx)


def optaxs(name: str, kwargs: dict) -> tuple[Any, Any]:
    """optax's own optimizer and its step, which JAX compiles once for all walks."""
    return _made(name, tuple(kwargs.items()), None)


def matched(name: str, kwargs: dict, path: str) -> tuple[Any, Any]:
    """Ours, and its step."""
    return _made(name, tuple(kwargs.items()), path)


@each_path
@each_case
def test_the_trajectory_is_optaxs(name: str, kwargs: dict, path: str) -> None:
    start = tree(0)
    (tx, their_step), (ours, step) = optaxs(name, kwargs), matched(name, kwargs, path)
    wanted, _ = walk(their_step, tx.init(start), start, gradients())
    reached, _ = walk(step, ours.init(start), start, gradients())
    assert gap(reached, wanted, start) < 3e-5


#: How far off, relative to the way. Not in 16 bits: optax computes in them, where its 0.999 is 1 or its epsilon 0.
DTYPES = {"float32": 3e-5, "float64": 1e-6, "complex64": 3e-5, "complex128": 1e-6}


@each_match
def test_in_every_dtype_that_optax_takes_the_trajectory_and_the_state_are_optaxs(name: str, kwargs: dict) -> None:
    """Or the dtype is refused: where optax squares a complex number itself, which measures nothing."""
    tx, ours = theirs(name)(**kwargs), getattr(adapter, name)(**kwargs, match="optax")
    leaves = "wb" if name == "sm3" else "wbs"  # optax's SM3 takes no parameter without axes
    for dtype, off in DTYPES.items():
        with enable_x64(True):
            start, *grads = (turned_tree(seed, dtype, leaves) for seed in (0, *range(100, 110)))
            if "complex" in dtype and scirs2_adapters.get(name)(match="optax").moduli is None:
                with pytest.raises(ValueError, match="must have real parameters"):
                    two_calls(ours)(start, ours.init(start), start)
                continue
            wanted, state = walk(two_calls(tx), tx.init(start), start, grads)
            reached, our_state = walk(two_calls(ours), ours.init(start), start, grads)
            assert gap(reached, wanted, start) < off, dtype
            if jax.tree.structure(our_state) == jax.tree.structure(state) and jax.tree.leaves(state):
                assert gap(our_state, state, jax.tree.map(jnp.zeros_like, state)) < off, dtype


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"nesterov": False, "weight_decay": 0.1},
        {"weight_decay": 0.1, "adam_weight_decay": 0.2, "beta": 0.8},
    ],
)
def test_muons_trajectory_is_optaxs_though_its_state_is_its_own(kwargs: dict) -> None:
    start = tree(0) | {"embed": tree(0)["w"].T}  # optax looks at no names
    start.pop("e")  # optax's norm of no numbers is no number
    grads = [{**g, "embed": g["w"].T} for g in gradients()]
    for g in grads:
        g.pop("e")
    tx, ours = theirs("muon")(1e-2, **kwargs), adapter.muon(1e-2, **kwargs, match="optax")
    wanted, _ = walk(two_calls(tx), tx.init(start), start, grads)
    reached, _ = walk(two_calls(ours), ours.init(start), start, grads)
    assert gap(reached, wanted, start) < 3e-5


NUMBERS = contrib.MuonDimensionNumbers
DIMENSIONS = {
    "conv": NUMBERS((0, 1, 2), 3),
    "experts": NUMBERS(1, 2),
    "attention": NUMBERS((-1, 0), (1,)),
    "dense": NUMBERS(),
    "head": None,
    "bias": None,
}
SHAPES = {
    "conv": (3, 3, 2, 5), "experts": (2, 4, 3), "attention": (4, 2, 3), "dense": (4, 3), "head": (3, 4), "bias": (4,),
}  # fmt: skip


@pytest.mark.parametrize("form", [lambda: DIMENSIONS, lambda: lambda params: DIMENSIONS], ids=["tree", "function"])
def test_muons_dimension_numbers_are_optaxs(form: Any) -> None:
    rng = np.random.default_rng(0)
    start, *grads = [{k: jnp.asarray(rng.standard_normal(s)) for k, s in SHAPES.items()} for _ in range(5)]
    arguments = {"muon_weight_dimension_numbers": form()}
    tx, ours = theirs("muon")(1e-2, **arguments), adapter.muon(1e-2, **arguments, match="optax")
    wanted, _ = walk(two_calls(tx), tx.init(start), start, grads)
    reached, _ = walk(two_calls(ours), ours.init(start), start, grads)
    assert gap(reached, wanted, start) < 3e-5


@pytest.mark.parametrize(
    ("numbers", "word"),
    [
        ({"w": NUMBERS(0, 2)}, "must name axes of the parameter, which has 2"),
        ({"w": NUMBERS(0, -2)}, "must have disjoint axes"),
        ({"w": 3}, "must be a MuonDimensionNumbers"),
        ({"v": None}, "must be optax's MuonDimensionNumbers, or a tree"),
    ],
)
def test_dimension_numbers_that_do_not_fit_are_refused_by_name(numbers: Any, word: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"muon_weight_dimension_numbers.*{word}"):
        adapter.muon(muon_weight_dimension_numbers=numbers).init({"w": jnp.ones((2, 3))})


def test_explain_says_which_leaves_another_rule_steps_and_why() -> None:
    dense, embedding, kernel = (jnp.ones(shape) for shape in ((2, 3), (4, 2), (3, 2, 2)))
    params = {"classifier": {"Dense_0": {"kernel": dense}}, "embed": embedding, "conv": kernel}
    said = adapter.explain(adapter.muon(), params)
    assert "embed (4, 2): adamw, embedding or head" in said
    assert "conv (3, 2, 2): muon, as a matrix of 6 inputs and 2 outputs" in said
    assert "classifier" not in said


@each_case
def test_the_state_has_optaxs_classes_shapes_and_dtypes(name: str, kwargs: dict) -> None:
    wanted, ours = theirs(name)(**kwargs).init(tree(0)), getattr(adapter, name)(**kwargs, match="optax").init(tree(0))
    assert kinds(ours) == kinds(wanted)


@pytest.mark.slow
@each_path
@each_case
def test_state_interchanges_with_optax_both_ways(name: str, kwargs: dict, path: str) -> None:
    start, grads, both = tree(0), gradients(), (optaxs(name, kwargs), matched(name, kwargs, path))
    (tx, their_step), _ = both
    wanted, _ = walk(their_step, tx.init(start), start, grads)
    for (first, first_step), (_, second_step) in (both, both[::-1]):
        params, state = walk(first_step, first.init(start), start, grads[:3])
        reached, _ = walk(second_step, state, params, grads[3:])
        assert gap(reached, wanted, start) < 3e-5


@pytest.mark.parametrize(
    "options", [{"mask": {"w": True, "b": False, "s": False, "t": False, "e": True}}, {"mask": None}]
)
def test_masks_of_weight_decay_may_be_trees_prefixes_and_functions(options: dict) -> None:
    start = tree(0)
    for mask in (options["mask"], (lambda p: options["mask"]) if options["mask"] else None):
        both = {"learning_rate": 1e-2, "weight_decay": 0.3, "mask": mask}
        tx = optax.adamw(**both)
        wanted, state = walk(two_calls(tx), tx.init(start), start, gradients())
        for path in PATHS:
            ours = adapter.adamw(**both, match="optax", kernel=path)
            reached, ours_state = walk(two_calls(ours), ours.init(start), start, gradients())
            assert gap(reached, wanted, start) < 3e-5
            assert jax.tree.structure(ours_state) == jax.tree.structure(state)


def test_schedules_see_the_count_before_it_is_increased() -> None:
    start, both = tree(0), {"learning_rate": lambda count: 1e-2 / (1 + count)}
    tx = optax.adamw(**both)
    wanted, state = walk(two_calls(tx), tx.init(start), start, gradients())
    for path in PATHS:
        ours = adapter.adamw(**both, match="optax", kernel=path)
        reached, ours_state = walk(two_calls(ours), ours.init(start), start, gradients())
        assert gap(reached, wanted, start) < 3e-5
        assert jax.tree.structure(ours_state) == jax.tree.structure(state)
        assert int(ours_state[-1].count) == len(gradients())


def test_weight_decay_may_follow_a_schedule() -> None:
    start, both = tree(0), {"learning_rate": 1e-2, "weight_decay": lambda count: 0.1 * count}
    tx, ours = optax.adamw(**both), adapter.adamw(**both, match="optax")
    wanted, state = walk(two_calls(tx), tx.init(start), start, gradients())
    reached, ours_state = walk(two_calls(ours), ours.init(start), start, gradients())
    assert gap(reached, wanted, start) < 3e-5
    assert jax.tree.structure(ours_state) == jax.tree.structure(state)


@each_rule
def test_positional_arguments_are_optaxs(name: str) -> None:
    signature = inspect.signature(getattr(adapter, name))
    ours = [k for k, p in signature.parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    try:
        order = [k for k, p in inspect.signature(theirs(name)).parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    except AttributeError:
        order = ours
    assert ours == order[: len(ours)] or ours == ["learning_rate"]
    assert next(iter(signature.parameters)) == "learning_rate"
    assert signature.parameters["learning_rate"].annotation == optax.ScalarOrSchedule
    assert not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())


@pytest.mark.parametrize("name", PEERS)
def test_what_both_take_is_taken_the_same_way_and_has_optaxs_default(name: str) -> None:
    """None is a default of ours that is not said: it must be no number that `inject_hyperparams` would trace."""
    signature, wanted = inspect.signature(getattr(adapter, name)), inspect.signature(theirs(name)).parameters
    bound = signature.bind(match="optax")
    bound.apply_defaults()
    for k, parameter in signature.parameters.items():
        if k in wanted and k != "learning_rate":
            assert parameter.kind is wanted[k].kind, k
            assert bound.arguments[k] in (None, wanted[k].default), k
        assert k in wanted or parameter.kind is parameter.KEYWORD_ONLY, k


#: What optax's take and ours do not, and why.
LACKING: dict[str, tuple[set[str], str]] = {
    "adopt": ({"clip_value_fn"}, "the bound is the paper's"),
    "amsgrad": ({"bias_correction_mu", "bias_correction_nu"}, "as in the paper; PyTorch's Adam corrects both"),
    "galore": (
        {"base_optimizer", "weight_dimension_numbers"},
        "optax's wraps a transformation, ours is Adam's; `dimensions` names the axes of matrices",
    ),
    "lars": ({"trust_ratio_mask"}, "`adapt_vectors` leaves out what is left out: biases and gains"),
    "lookahead": ({"fast_optimizer", "reset_state"}, "optax's wraps a transformation, ours a rule"),
    "mechanize": ({"base_optimizer"}, "optax's wraps a transformation, ours a rule"),
    "muon": (
        {"adam_eps_root", "adaptive", "consistent_rms", "preconditioning"},
        "variants of its author's and of others, which PyTorch's has not either",
    ),
    "nadam": ({"nesterov"}, "it is Nesterov's Adam; without is `adam`"),
    "noisysgd": ({"seed"}, "the older name of its `key`"),
    "radam": ({"nesterov"}, "not in the paper, nor in PyTorch's"),
    "schedulefree": ({"b1", "base_optimizer"}, "optax's wraps a transformation, ours a rule; `b1` is `interpolation`"),
}


@each_rule
def test_what_optax_takes_is_taken(name: str) -> None:
    if hasattr(optax, factory_name(name)) or hasattr(optax.contrib, factory_name(name)):
        wanted, taken = (inspect.signature(f).parameters.keys() for f in (theirs(name), getattr(adapter, name)))
        assert wanted - taken == LACKING.get(name, (set(),))[0]


@each_rule
def test_every_argument_has_a_line_in_the_docstring(name: str) -> None:
    make = getattr(adapter, name)
    said = {line.split(":")[0].strip().partition("[")[0] for line in make.__doc__.splitlines() if ": " in line}
    assert {*inspect.signature(make).parameters} <= said


@each_path
def test_amsgrad_keeps_its_maximum_where_optax_does(path: str) -> None:
    tx, ours, start = optax.amsgrad(1e-2), adapter.adam(1e-2, amsgrad=True, match="optax", kernel=path), tree(0)
    wanted, state = walk(two_calls(tx), tx.init(start), start, gradients())
    reached, ours_state = walk(two_calls(ours), ours.init(start), start, gradients())
    assert jax.tree.structure(ours_state) == jax.tree.structure(state)
    assert gap(reached, wanted, start) < 3e-5


def test_the_first_moment_has_the_dtype_asked_for_and_the_others_state_dtypes() -> None:
    state = adapter.adamw(1e-2, mu_dtype=jnp.bfloat16).init(tree(0))
    assert state[0].mu["w"].dtype == jnp.bfloat16
    assert state[0].nu["w"].dtype == jnp.float32
    state = adapter.adamw(1e-2, state_dtype="bfloat16").init(tree(0))
    assert {state[0].mu["w"].dtype, state[0].nu["w"].dtype} == {jnp.dtype("bfloat16")}
    assert adapter.sgd(1e-2, momentum=0.9, accumulator_dtype="float16").init(tree(0))[0].trace["w"].dtype == jnp.float16


def test_memory_is_found_by_name() -> None:
    assert optax.tree.get(adapter.adamw().init(tree(0)), "mu")["b"].shape == (7,)
    assert optax.tree.get(adapter.lookahead().init(tree(0)), "slow")["b"].shape == (7,)
    assert float(optax.tree.get(adapter.prodigy().init(tree(0)), "estim_lr")) == pytest.approx(1e-6)
