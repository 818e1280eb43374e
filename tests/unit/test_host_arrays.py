"""`HostOptimizer` and the caller's arrays: exchanged, read-only, of a subclass, or with gradients without a value."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest

from scirs2_adapters import names
from scirs2_adapters.core import AdamW, ClosureOptimizer, HostOptimizer, with_closure
from tests.unit.host_support import assert_same, params, walk

each_name = pytest.mark.parametrize("name", names())
each_path = pytest.mark.parametrize("kernel", ["host", "traced"])


# -- an array put in the place of another one


@each_name
@each_path
@pytest.mark.parametrize("kind", [dict, list])
def test_an_array_that_takes_anothers_place_goes_on_with_its_memory(name: str, kernel: str, kind: Any) -> None:
    def made() -> Any:
        return params() if kind is dict else list(params().values())

    mine, others = made(), made()
    one, two = (HostOptimizer(name, p, kernel=kernel) for p in (mine, others))
    for i in range(4):
        for opt in (one, two):
            opt.step(params(i) if kind is dict else list(params(i).values()))
        for k in one.params:
            mine[k] = np.clip(mine[k], -1, 1)  # binds another array
            np.clip(others[k], -1, 1, out=others[k])
    assert all(mine[k] is one.params[k] for k in one.params)
    assert_same(one, two)


@each_path
def test_an_entry_of_the_optimizers_own_view_may_be_exchanged_too(kernel: str) -> None:
    optimizer = HostOptimizer("sgd", {"w": np.ones(2)}, kernel=kernel)
    optimizer.params["w"] = np.zeros(2)
    optimizer.step({"w": np.ones(2)})
    np.testing.assert_array_equal(optimizer.params["w"], [-0.001, -0.001])


EXCHANGED: dict[str, tuple[Any, str]] = {
    "another shape": (np.ones(4), "must keep shape (5,) and dtype float64, for its memory is of that form"),
    "another dtype": (np.ones(5, np.float32), "must keep shape (5,) and dtype float64"),
    "read-only": (np.broadcast_to(1.0, 5), "must be writeable, for it is updated in place"),
    "a list": ([1.0] * 5, "must be a numpy array of dtype"),
    "masked": (np.ma.masked_array(np.ones(5)), "must be a plain numpy array, for a step would lose what a MaskedArray"),
}


@each_path
@pytest.mark.parametrize("kind", EXCHANGED)
def test_an_exchange_that_cannot_be_stepped_is_refused_and_changes_nothing(kind: str, kernel: str) -> None:
    exchanged, words = EXCHANGED[kind]
    container = params()
    mine, untouched = (walk(HostOptimizer("adamw", p, kernel=kernel), 2) for p in (container, params()))
    was, container["b"] = container["b"], exchanged
    with pytest.raises((TypeError, ValueError), match=re.escape(words)) as caught:
        walk(mine, 1)
    assert "`HostOptimizer.step(params['b']=...)`" in str(caught.value)
    container["b"] = was
    assert_same(mine, untouched)
    assert_same(walk(mine, 1, first=3), walk(untouched, 1, first=3))


def test_an_entry_that_is_gone_or_shared_is_refused() -> None:
    container = {"a": np.ones(3), "b": np.ones(3)}
    optimizer = HostOptimizer("adam", container)
    gone = container.pop("b")
    optimizer.step({"a": np.ones(3)})
    with pytest.raises(ValueError, match=r"params\['b'\]=...\)` is no longer in the dict .* '1 of 2 arrays'"):
        optimizer.step({"a": np.ones(3), "b": np.ones(3)})
    container["b"] = container["a"]
    with pytest.raises(ValueError, match="must not share memory"):
        optimizer.step({"a": np.ones(3), "b": np.ones(3)})
    container["b"] = gone
    optimizer.step({"a": np.ones(3), "b": np.ones(3)})
    assert optimizer.steps == {"a": 2, "b": 1}


def test_a_mapping_that_makes_its_arrays_anew_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", w=np.ones(3))
    with np.load(tmp_path / "weights.npz") as file:
        with pytest.raises(ValueError, match=r"must hold its arrays, and not make new ones.*Give `dict\(params\)`"):
            HostOptimizer("sgd", file)
        HostOptimizer("sgd", dict(file)).step({"w": np.ones(3)})


# -- arrays that are more than their numbers


class Quantity(np.ndarray):
    """An array with a unit."""


SUBCLASSES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "masked": (lambda x: np.ma.masked_array(x, x > 0), ".filled(0.0)`, if its numbers alone are meant"),
    "matrix": (lambda x: x.view(np.matrix), "Give `np.asarray("),
    "a unit": (lambda x: x.view(Quantity), "would lose what a Quantity is besides"),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("kind", SUBCLASSES)
def test_arrays_that_mean_more_than_numbers_are_refused(kind: str) -> None:
    make, words = SUBCLASSES[kind]
    for name in names():
        with pytest.raises(TypeError, match=re.escape(words)):
            HostOptimizer(name, {"w": make(np.ones((2, 2)))})
    optimizer = HostOptimizer("adam", {"w": np.ones((2, 2))})
    with pytest.raises(TypeError, match=re.escape(words)):
        optimizer.step({"w": make(np.ones((2, 2)))})
    assert optimizer.state == {}


@each_path
def test_a_memory_map_that_may_be_written_is_stepped(tmp_path: Path, kernel: str) -> None:
    mapped = np.memmap(tmp_path / "w", dtype=np.float64, mode="w+", shape=(4,))
    optimizer = HostOptimizer("sgd", [mapped], kernel=kernel)
    optimizer.step([np.ones(4)])
    np.testing.assert_array_equal(np.fromfile(tmp_path / "w"), [-0.001] * 4)
    with pytest.raises(ValueError, match=r"must be writeable.*Give a copy: `params\[0\]\.copy\(\)`"):
        HostOptimizer("sgd", [np.memmap(tmp_path / "w", dtype=np.float64, mode="r")])


# -- memory that must not be written


@each_name
@each_path
def test_no_array_that_is_read_only_is_ever_stepped(name: str, kernel: str) -> None:
    mine, untouched = (walk(HostOptimizer(name, params(), kernel=kernel), 2) for _ in range(2))
    places = [mine.params["w"], *mine.state["w"].values()]
    for x in places:
        x.flags.writeable = False
        with pytest.raises(ValueError, match=r"step\((params|state)\['w'\].*must be writeable.*Give a copy"):
            walk(mine, 1, first=3)
        x.flags.writeable = True
    assert_same(mine, untouched)
    for slot, x in mine.state["w"].items():
        kept, mine.state["w"][slot] = x, np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape)
        with pytest.raises(ValueError, match=rf"step\(state\['w'\]\['{slot}'\]=...\)` must be writeable"):
            walk(mine, 1, first=3)
        mine.state["w"][slot] = np.ones((9, 9, 9), np.float32)
        with pytest.raises(ValueError, match=rf"step\(state\['w'\]\['{slot}'\]=...\)` must be an array of shape"):
            walk(mine, 1, first=3)
        mine.state["w"][slot] = kept.copy()
    assert_same(walk(mine, 1, first=3), walk(untouched, 1, first=3))


def out_of_band(made: Any) -> Any:
    """What comes out of a pickle whose buffers are another process' memory."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(made, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(text, buffers=[memoryview(bytes(b.raw())) for b in buffers])


def mapped(made: Any, tmp_path: Path) -> Any:
    joblib.dump(made, tmp_path / "kept")
    return joblib.load(tmp_path / "kept", mmap_mode="r")


WAYS: dict[str, Callable[[Any, Path], Any]] = {
    "pickle 5": lambda made, path: out_of_band(made),
    "joblib": mapped,
    "cloudpickle": lambda made, path: cloudpickle.loads(cloudpickle.dumps(made)),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))


@each_name
@each_path
@each_way
def test_a_copy_out_of_read_only_memory_goes_on_and_writes_none_of_it(
    name: str, kernel: str, way: Any, tmp_path: Path
) -> None:
    mine = walk(HostOptimizer(name, params(), kernel=kernel), 2)
    container, copied = way((mine.params.container, mine), tmp_path)
    assert copied.params.container is container
    assert_same(walk(copied, 2, first=3), walk(mine, 2, first=3))
    assert all(container[k] is p for k, p in copied.params.items())


@each_way
@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_and_tuples_come_out_of_read_only_memory_too(way: Any, kind: Any, tmp_path: Path) -> None:
    mine = HostOptimizer("adamw", kind([np.ones(3), np.ones((2, 2))]))
    copied = way(mine, tmp_path)
    for each in (mine, copied):
        each.step([np.ones(3), np.ones((2, 2))])
    assert_same(mine, copied)


def stepped(optimizer: HostOptimizer, held: dict[str, np.ndarray]) -> tuple[HostOptimizer, bool]:
    optimizer.step({k: np.ones_like(p) for k, p in held.items()})
    return optimizer, all(optimizer.params[k] is p for k, p in held.items())


def test_a_worker_of_joblib_steps_what_it_was_given_as_memory_maps() -> None:
    held = {"w": np.ones((300, 10)), "b": np.ones(3)}
    mine = HostOptimizer("adamw", held)
    mine.step({k: np.ones_like(p) for k, p in held.items()})
    run = joblib.Parallel(n_jobs=2, max_nbytes=100, mmap_mode="r")
    for copied, same in run(joblib.delayed(stepped)(mine, held) for _ in range(2)):
        assert same
        assert copied.steps == {"w": 2, "b": 2}
    assert mine.steps == {"w": 1, "b": 1}


@pytest.mark.parametrize("name", with_closure())
@each_way
def test_an_optimizer_with_a_closure_comes_out_of_read_only_memory(name: str, way: Any, tmp_path: Path) -> None:
    def closure(params: dict[str, np.ndarray]) -> Callable[[], Any]:
        return lambda: (float(np.sum(params["w"] ** 4)), {"w": 4 * params["w"] ** 3})

    held = {"w": np.arange(1.0, 5.0)}
    mine = ClosureOptimizer(name, held)
    mine.step(closure(held))
    container, copied = way((held, mine), tmp_path)
    for _ in range(3):
        assert copied.step(closure(container)) == mine.step(closure(held))
    np.testing.assert_array_equal(container["w"], held["w"])


# -- gradients without a value


@each_name
@each_path
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_step_with_a_gradient_that_is_not_finite_is_skipped_whole_and_counted(
    name: str, kernel: str, value: float
) -> None:
    mine, untouched = (walk(HostOptimizer(name, params(), kernel=kernel, skip_nonfinite=True), 2) for _ in range(2))
    grads = params(9)
    grads["w"][1, 2] = value
    mine.step(grads)
    assert_same(mine, untouched)
    assert (mine.skipped_steps, untouched.skipped_steps) == (1, 0)
    assert pickle.loads(pickle.dumps(mine)).skipped_steps == mine.state_dict()["skipped_steps"] == 1
    untouched.load_state_dict(mine.state_dict())
    assert untouched.skipped_steps == 1
    assert_same(walk(mine, 1, first=3), walk(untouched, 1, first=3))


def test_a_sum_that_overflows_is_no_gradient_without_a_value() -> None:
    for dtype, large in ((np.float16, 6e4), (np.float32, 3e38), (np.float64, 1e308)):
        optimizer = HostOptimizer("sgd", [np.zeros(8, dtype)], skip_nonfinite=True)
        optimizer.step([np.full(8, large, dtype)])
        assert (optimizer.skipped_steps, optimizer.steps[0]) == (0, 1)


def test_without_the_option_such_a_gradient_is_stepped() -> None:
    optimizer = HostOptimizer(AdamW(), [np.ones(2)])
    optimizer.step([np.array([np.nan, 1.0])])
    assert np.isnan(optimizer.params[0]).tolist() == [True, False]
    assert optimizer.skipped_steps == 0


@pytest.mark.parametrize("wrong", [1, "yes", None])
def test_the_option_is_true_or_false(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"`HostOptimizer\(skip_nonfinite=...\)` must be True or False"):
        HostOptimizer("sgd", [np.ones(2)], skip_nonfinite=wrong)


@each_name
@each_path
@pytest.mark.parametrize("what", ["parameter", "slot"])
def test_an_array_that_is_given_other_memory_is_stepped_there(name: str, kernel: str, what: str) -> None:
    """It stays the same object; a kernel that knew its old address would write to memory that is gone."""
    mine = walk(HostOptimizer(name, params(), kernel=kernel, threads=1), 2)
    wanted = walk(HostOptimizer(name, params(), kernel=kernel, threads=1), 2)
    for key in mine.params:
        for x in [mine.params[key]] if what == "parameter" else mine.state[key].values():
            x.__setstate__(x.copy().__reduce__()[2])
    assert_same(walk(mine, 2, first=3), walk(wanted, 2, first=3))
