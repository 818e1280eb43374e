"""Properties of steps on the host: any shape, layout and dtype, any number of threads, any order of parameters."""

import functools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scirs2_adapters import get, names
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.cpu import storage
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf
from tests.conformance.options import brisk

DTYPES = {"float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
#: Relative and absolute, by dtype of the parameter: a few roundings of the arithmetic, one of the storage.
TOLERANCES = {"float64": (1e-9, 1e-12), "float32": (1e-4, 1e-6), "float16": (4e-3, 1e-4), "bfloat16": (3e-2, 1e-3)}

#: The same examples each time; a new kernel takes a while.
slowly = functools.partial(settings, deadline=None, derandomize=True, database=None)
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
layouts = st.sampled_from(["C", "F", "steps", "backwards", "offset"])
leaves = st.lists(st.tuples(shapes, layouts), min_size=1, max_size=4)


def laid_out(x: np.ndarray, layout: str) -> np.ndarray:
    """The same numbers, lying otherwise in memory."""
    if layout == "F":
        return np.asfortranarray(x)
    if x.ndim == 0 or layout == "C":
        return x.copy()
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1] + 1), x.dtype)
    start = {"steps": 0, "backwards": 0, "offset": 1}[layout]
    view = wide[..., start : start + 2 * x.shape[-1] : 2][..., : x.shape[-1]]
    view = view[..., ::-1] if layout == "backwards" else view
    view[...] = x
    return view


def numbers(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(DTYPES[dtype])


def walked(name: str, made: list[np.ndarray], grads: list[list[np.ndarray]], **options: Any) -> HostOptimizer:
    learned = {k: v for k, v in brisk(get(name)).items() if k != "learning_rate"}  # in 16 bits it must not be too small
    optimizer = HostOptimizer(get(name)(**learned), made, **options)
    for each in grads:
        optimizer.step(each)
    return optimizer


@pytest.mark.parametrize("name", names())
@slowly(max_examples=12)
@given(leaves=leaves, dtype=st.sampled_from(list(DTYPES)), seed=st.integers(0, 99))
def test_the_kernel_agrees_with_plain_numpy_whatever_the_layout(name: str, leaves: Any, dtype: str, seed: int) -> None:
    ends = []
    for kernel in ("host", "traced"):
        lay = [(lambda x: x.copy()) if kernel == "traced" else functools.partial(laid_out, layout=k) for _, k in leaves]
        made = [f(numbers(shape, dtype, seed + i)) for i, (f, (shape, _)) in enumerate(zip(lay, leaves, strict=True))]
        grads = [
            [
                f(numbers(shape, dtype, 1000 + 10 * t + i))
                for i, (f, (shape, _)) in enumerate(zip(lay, leaves, strict=True))
            ]
            for t in range(3)
        ]
        ends.append([p.astype(float) for p in walked(name, made, grads, kernel=kernel).params.values()])
    relative, absolute = TOLERANCES[dtype]
    for host, plain in zip(*ends, strict=True):
        np.testing.assert_allclose(host, plain, rtol=relative, atol=absolute)


#: Those that do not tell parameters by their places.
UNNUMBERED = [name for name in names() if not get(name).numbered]


@pytest.mark.parametrize("name", UNNUMBERED)
@slowly(max_examples=8)
@given(leaves=leaves, dtype=st.sampled_from(["float64", "float32"]), seed=st.integers(0, 99))
def test_the_order_of_the_parameters_changes_no_bit(name: str, leaves: Any, dtype: str, seed: int) -> None:
    shapes = [*(shape for shape, _ in leaves), (37, 11), (200,), (9, 3)]
    ends = []
    for keys in (range(len(shapes)), np.random.default_rng(seed).permutation(len(shapes)).tolist()):
        made = {k: numbers(shapes[k], dtype, seed + k) for k in keys}
        optimizer = HostOptimizer(get(name)(), made, kernel="host")
        for t in range(5):
            optimizer.step({k: numbers(p.shape, dtype, 100 * t + k) for k, p in made.items()})
        ends.append((made, optimizer.model))
    assert ends[0][1] == ends[1][1]
    for key, p in ends[0][0].items():
        np.testing.assert_array_equal(p, ends[1][0][key])


@pytest.mark.usefixtures("threads_for_little_work")
@slowly(max_examples=8)
@given(sizes=st.lists(st.integers(1, 150_000), min_size=1, max_size=4), threads=st.integers(2, 9))
@pytest.mark.parametrize("name", ["adamw", "lamb", "prodigy", "adafactor"])
def test_the_number_of_threads_changes_no_bit(name: str, sizes: list[int], threads: int) -> None:
    ends = []
    for count in (1, threads):
        made = [numbers((n // 7, 7), "float32", i) for i, n in enumerate(sizes)]
        grads = [[numbers(p.shape, "float32", 50 + i) for i, p in enumerate(made)]] * 2
        ends.append(walked(name, made, grads, kernel="host", threads=count))
    assert ends[0].model == ends[1].model
    for one, many in zip(*(o.params.values() for o in ends), strict=True):
        np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize("name", names())
def test_a_tensor_of_many_work_items_steps_each_of_its_numbers_once(name: str) -> None:
    made, ends = [numbers(shape, "float64", 0) for shape in ((300, 331), ())], []
    grads = [[numbers(p.shape, "float64", 5 + t) for p in made] for t in range(3)]
    for kernel in ("host", "traced"):
        ends.append(walked(name, [p.copy() for p in made], grads, kernel=kernel))
    for one, other in zip(*(o.state.values() for o in ends), strict=True):
        for slot, held in one.items():
            np.testing.assert_allclose(held, other[slot], rtol=1e-9, atol=1e-12, err_msg=slot)


@pytest.mark.parametrize("kernel", ["host", "traced"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 1e-45])
@pytest.mark.parametrize("name", [n for n in names() if record(get(n)(), Leaf((7, 5))).levels == 0])
def test_an_odd_gradient_touches_its_own_element_only(name: str, value: float, kernel: str) -> None:
    ends = []
    for odd in (value, 0.5):
        p, g = numbers((70,), "float32", 0), numbers((70,), "float32", 1)
        g[13] = odd
        with np.errstate(all="ignore"):
            walked(name, [p], [[g]] * 3, kernel=kernel)
        ends.append(np.delete(p, 13))
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, 1e-45, 0.0])
@pytest.mark.parametrize("name", names())
def test_both_paths_agree_on_what_an_odd_gradient_makes_finite(name: str, value: float) -> None:
    ends = []
    for kernel in ("host", "traced"):
        p, g = numbers((6, 5), "float32", 0), numbers((6, 5), "float32", 1)
        g[2, 3] = value
        with np.errstate(all="ignore"):
            walked(name, [p], [[g]], kernel=kernel)
        ends.append(np.isfinite(p))
    np.testing.assert_array_equal(*ends)


def test_every_sixteen_bit_number_survives_a_load_and_a_store() -> None:
    bits = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    for dtype in ("float16", "bfloat16"):
        carried = bits.view(storage.STORAGES[dtype].carrier)
        loaded = storage.load(carried, dtype)
        again = storage.store(loaded, dtype).view(np.uint16)
        np.testing.assert_array_equal(again[~np.isnan(loaded)], bits[~np.isnan(loaded)])
        assert np.isnan(storage.load(again.view(carried.dtype), dtype)[np.isnan(loaded)]).all()


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
@slowly(max_examples=200)
def test_bfloat16_is_rounded_to_nearest_even(values: list[float]) -> None:
    x = np.array(values, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        theirs = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(storage.load(storage.store(x, "bfloat16"), "bfloat16"), theirs)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_kernel_rounds_as_plain_numpy_does(dtype: str) -> None:
    ends = []
    for kernel in ("host", "traced"):
        p, g = numbers((5000,), dtype, 0), numbers((5000,), dtype, 1)
        walked("sgd", [p], [[g]] * 3, kernel=kernel)
        ends.append(p.view(np.uint16))
    np.testing.assert_array_equal(*ends)
