"""Steps of numpy arrays with memory of 8 bits and with rounding errors: how near to float32 they stay."""

from typing import Any

import numpy as np
import pytest

from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.formats import BLOCK, SMALLEST, blocks
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.registry import get, names
from scirs2_adapters.core.slots import Extent, Leaf
from scirs2_adapters.core.step.options import counts_steps, slot_dtype

ml_dtypes = pytest.importorskip("ml_dtypes")
RULES = [name for name in names() if not get(name).needs_closure]
SHAPES = {"matrix": (96, 96), "vector": (80,), "kernel": (16, 32, 3, 3), "odd": (SMALLEST + 77,)}
STEPS = 40
#: Largest distance of int8's parameters from float32's, as a share of the way: what was measured, rounded up.
FAR = 0.02
#: And of formulas that take signs, or bound a step, which turns over where 8 bits lose a mean that is nearly 0.
SIGNS = 0.05


def start(dtype: Any = np.float32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}


def walk(optimizer: HostOptimizer, params: dict[str, np.ndarray], steps: int = STEPS) -> np.ndarray:
    """The parameters after some noisy steps, in float64, one after another."""
    rng = np.random.default_rng(1)
    for _ in range(steps):
        grads = {}
        for name, p in params.items():
            noise = rng.standard_normal(p.shape) * np.exp(rng.uniform(-3, 0, (p.shape[0], *[1] * (p.ndim - 1))))
            grads[name] = (0.1 * p.astype(np.float64) + noise).astype(np.float32)
        optimizer.step(grads)
    return flat(params)


def flat(params: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([p.astype(np.float64).ravel() for p in params.values()])


def made(name: str, params: dict[str, np.ndarray], **options: Any) -> HostOptimizer:
    usual = get(name).fields_with()["learning_rate"].default  # others than 1 would hardly move in so few steps
    first = {"s_init": 0.01} if get(name).first_step == "s_init" else {}
    return HostOptimizer(get(name)(learning_rate=usual if usual == 1 else 1e-3, **first), params, **options)


@pytest.mark.parametrize("name", RULES)
def test_memory_of_8_bits_leads_near_where_float32_leads(name: str) -> None:
    ends = []
    for options in ({}, {"state_dtype": "int8"}, {"state_dtype": "int8", "kernel": "traced"}):
        params = start()
        ends.append(walk(made(name, params, **options), params))
    way = np.linalg.norm(ends[0] - flat(start()))
    assert way > 0
    signs = any(node.op in ("sign", "minimum") for node in record(get(name)(), Leaf((8, 4))).nodes)
    assert np.linalg.norm(ends[1] - ends[0]) <= (SIGNS if signs else FAR) * way
    if np.linalg.norm(ends[2] - ends[1]) > 2e-3 * way:  # where the two paths part in float32 already
        params = start()
        traced = walk(made(name, params, kernel="traced"), params)
        assert np.linalg.norm(ends[2] - ends[1]) <= 4 * np.linalg.norm(traced - ends[0])


@pytest.mark.parametrize("name", RULES)
def test_memory_is_stored_as_its_slots_say(name: str) -> None:
    params = start()
    optimizer = made(name, params, state_dtype="int8")
    walk(optimizer, params, 1)
    for key, shape in SHAPES.items():
        rule = optimizer.rule.route(Leaf(shape, name=key))
        for slot in rule.slots(Leaf(shape, name=key)):
            if slot.extent is Extent.MODEL:
                continue
            x, dtype = optimizer.state[key][slot.name], slot_dtype(slot, Leaf(shape), "int8")
            coded = slot.may_be_blocks and np.prod(shape) >= SMALLEST and slot.initial != "parameter"
            assert x.dtype == dtype
            assert dtype == (slot.block_dtype if coded else "float32")
            scales = optimizer.state[key].get(f"{slot.name}_scale")
            assert (scales is not None) == coded
            if scales is not None:
                assert scales.shape == (blocks(x.size),)
                assert slot.block_dtype != "uint8" or counts_steps(rule, Leaf(shape), "nearest", "int8")


@pytest.mark.parametrize("name", RULES)
def test_unsigned_slots_are_never_negative_and_signed_ones_are(name: str) -> None:
    params = start()
    optimizer = made(name, params)
    for _ in range(5):
        walk(optimizer, params, 3)
        for key, slots in optimizer.state.items():
            rule = optimizer.rule.route(Leaf(SHAPES[key], name=key))
            for slot in rule.slots(Leaf(SHAPES[key], name=key)):
                if slot.name not in slots or not slot.may_be_blocks or slot.initial == "parameter":
                    continue
                if slot.block_dtype == "uint8":
                    assert slots[slot.name].min() >= 0
                else:  # a slot that is never negative is coded without a sign, which is twice as fine
                    assert slots[slot.name].min() < 0, "declare it NONNEGATIVE, or slot(block_dtype='uint8')"


@pytest.mark.one_of_each("name")
@pytest.mark.parametrize("error", ["int8", "int16"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", [name for name in RULES if not get(name).first_step])
def test_compensated_parameters_learn_as_float32_ones_do(name: str, dtype: str, error: str) -> None:
    """From the same numbers. Rounded to the nearest they stay further away by far."""
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16
    ends = []
    for options in ({}, {"kernel": "traced"}, None, {"rounding": "nearest"}):
        params = {key: p.astype(kind) for key, p in start().items()}
        params = {key: p.astype(np.float32) for key, p in params.items()} if options is None else params
        compensated = {"rounding": "compensated", "state_dtype": {"rounding_error": error}}
        moments = {slot.name: "float32" for slot in get(name)().all_slots() if slot.extent is Extent.FULL}
        compensated["state_dtype"] |= moments
        optimizer = made(name, params, **({} if options is None else compensated | options))
        ends.append(walk(optimizer, params) + _errors(optimizer, params, kind))
    host, traced, float32, nearest = ends
    way = np.linalg.norm(float32 - flat({k: p.astype(kind) for k, p in start().items()}))
    assert np.linalg.norm(traced - host) <= 0.02 * way
    lost = np.linalg.norm(host - float32) / way
    assert lost <= (0.15 if error == "int8" else 0.03)
    assert lost <= 0.5 * np.linalg.norm(nearest - float32) / way


def _errors(optimizer: HostOptimizer, params: dict[str, np.ndarray], kind: Any) -> np.ndarray | float:
    """What the rounding errors stand for."""
    from scirs2_adapters.core.cpu import storage

    if optimizer.rounding == "nearest":
        return 0.0
    whole = {}
    for key, p in params.items():
        error = optimizer.state[key]["rounding_error"]
        whole[key] = storage.load(
            p.view(np.uint16) if kind is not np.float16 else p, f"{p.dtype.name}+{error.dtype}", error
        )
    return flat(whole) - flat(params)


def test_a_bfloat16_one_moves() -> None:
    """Twenty steps of 1e-3: to the nearest they are all lost."""
    for rounding, end in (("nearest", 1.0), ("compensated", 0.98), ("stochastic", 0.98)):
        p = np.ones(4000, ml_dtypes.bfloat16)
        optimizer = HostOptimizer("sgd", {"p": p}, rounding=rounding)
        for _ in range(20):
            optimizer.step({"p": np.ones(4000, np.float32)})
        near = p.astype(np.float32)
        if rounding == "stochastic":  # each walks by itself, in steps of 2^-8
            assert near.std() < 0.01
            near = near.mean()
        np.testing.assert_allclose(near, end, atol=0.004 if rounding != "stochastic" else 5e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", [name for name in RULES if not get(name).first_step])
def test_stochastic_rounding_is_right_in_the_mean_and_the_same_on_both_paths(name: str, dtype: str) -> None:
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16
    begun = {key: p.astype(kind).astype(np.float32) for key, p in start().items()}
    moments = {slot.name: "float32" for slot in get(name)().all_slots() if slot.extent is Extent.FULL}
    ends = []
    for options in ({"kernel": "host"}, {"kernel": "traced"}, None, {"rounding": "nearest"}):
        params = {key: p.astype(np.float32 if options is None else kind) for key, p in begun.items()}
        stochastic = {"rounding": "stochastic", "state_dtype": moments}
        ends.append(walk(made(name, params, **({} if options is None else stochastic | options)), params))
    host, traced, float32, nearest = ends
    way = float32 - flat(begun)
    assert np.mean(host != traced) < 0.02  # numpy's sums differ from the kernel's in their last bits
    # The share of the way that it went, as the slope of the regression on that of float32.
    share, lost = ((end - flat(begun)) @ way / (way @ way) for end in (host, nearest))
    assert share == pytest.approx(1.0, abs=0.05)
    assert abs(share - 1) <= abs(lost - 1) + 0.01


@pytest.mark.parametrize("error", ["int8", "int16"])
@pytest.mark.parametrize("kernel", ["host", "traced"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_parameter_that_is_set_to_0_is_0(dtype: str, kernel: str, error: str) -> None:
    """Its rounding error is still of the number that was there before, and may be negative."""
    for value, gradient in ((0.0, 1.0), (-0.0, -1.0), (0.0, -1.0)):
        p = np.ones(8, getattr(ml_dtypes, dtype, dtype))
        options = {"rounding": "compensated", "state_dtype": {"rounding_error": error}}
        optimizer = HostOptimizer("sgd", {"p": p}, kernel=kernel, **options)
        optimizer.step({"p": np.full(8, gradient, np.float32)})
        assert optimizer.state["p"]["rounding_error"].any()
        p[...] = value
        optimizer.step({"p": np.zeros(8, np.float32)})
        np.testing.assert_allclose(p.astype(np.float32), 0, atol=1e-7)


@pytest.mark.usefixtures("threads_for_little_work")
@pytest.mark.parametrize("kind", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_no_bit(threads: int, kind: Any) -> None:
    ends = []
    for count in (1, threads):
        params = {"w": np.random.default_rng(0).standard_normal(300_000).astype(kind)}
        rounding = "nearest" if kind is np.float32 else "stochastic"
        optimizer = HostOptimizer("adamw", params, state_dtype="int8", rounding=rounding, threads=count)
        for t in range(3):
            optimizer.step({"w": np.random.default_rng(t + 1).standard_normal(300_000).astype(np.float32)})
        ends.append((params["w"], *optimizer.state["w"].values()))
    for a, b in zip(*ends, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "compensated"])
def test_a_saved_state_goes_on_bit_for_bit(rounding: str) -> None:
    kind = np.float32 if rounding == "nearest" else ml_dtypes.bfloat16
    params, others = start(kind), start(kind)
    one, other = (HostOptimizer("adamw", p, state_dtype="int8", rounding=rounding) for p in (params, others))
    walk(one, params, 3)
    other.load_state_dict(one.state_dict())
    for key in SHAPES:
        others[key][...] = params[key]
    np.testing.assert_array_equal(walk(one, params, 3), walk(other, others, 3))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state_dtype": "int4"}, "'int8'"),
        ({"state_dtype": {"eta": "int8"}}, "cannot keep 'eta' in 8 bits"),
        ({"state_dtype": {"rounding_error": "float32"}}, "'int8', 'int16'"),
        ({"rounding": "compensate"}, "Did you mean `compensated`"),
        ({"rounding": "compensated"}, "needs parameters of 16 bits"),
        ({"rounding": "stochastic"}, "needs parameters of 16 bits"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], words: str) -> None:
    params = {"w": np.ones(BLOCK, np.float32)}
    with pytest.raises(ValueError, match=words):
        HostOptimizer("asgd", params, **options)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32"])
def test_integers_are_no_parameters_and_no_gradients(dtype: str) -> None:
    whole = np.ones(3, dtype)
    with pytest.raises(TypeError, match="float64, float32, float16, bfloat16, in"):
        HostOptimizer("sgd", {"w": whole})
    p = np.ones(3)
    with pytest.raises(TypeError, match="floating numpy array"):
        HostOptimizer("sgd", {"w": p}).step({"w": whole})
    assert (p == 1).all()


def test_scales_of_another_form_are_refused_and_nothing_moves() -> None:
    params = start()
    optimizer = HostOptimizer("adamw", params, state_dtype="int8")
    walk(optimizer, params, 1)
    saved = optimizer.state_dict()
    saved["state"]["matrix"]["exp_avg_scale"] = np.ones(3, np.float32)
    before = flat(params)
    with pytest.raises(ValueError, match="exp_avg_scale"):
        optimizer.load_state_dict(saved)
    np.testing.assert_array_equal(flat(params), before)


@pytest.mark.parametrize("kernel", ["host", "traced"])
@pytest.mark.parametrize("name", ["lion", "signum"])
def test_an_array_that_counts_its_steps_walks_as_alone_beside_one_that_does_not(name: str, kernel: str) -> None:
    """The one of 16 bits is rounded by chance, which goes by the step; the formula does not ask for it."""
    ends = []
    for stepped in (["wide", "narrow"], ["wide"], ["narrow"]):
        params = {"wide": start()["vector"], "narrow": start(ml_dtypes.bfloat16)["vector"]}
        optimizer = made(name, params, rounding="stochastic", kernel=kernel)
        for t in range(4):
            optimizer.step({key: np.cos(np.arange(80) + t).astype(params[key].dtype) for key in stepped})
        ends.append(params)
    both, wide, narrow = ends
    np.testing.assert_array_equal(both["wide"], wide["wide"])
    np.testing.assert_array_equal(both["narrow"], narrow["narrow"])
