"""Schedules as values, and `HostOptimizer` under a schedule and with parameter groups, for every rule."""

import copy
import json
import pickle
import re
from typing import Any

import numpy as np
import optax.contrib
import pytest
import torch

from scirs2_adapters import get, names
from scirs2_adapters.core import AdamW, HostOptimizer, evaluation_params, schedules
from tests.unit.host_support import assert_same, params, walk

each_name = pytest.mark.parametrize("name", names())
COSINE = schedules.Warmup(schedules.Cosine(0.1, steps=6, end_value=0.01), warmup_steps=3)
EXAMPLES = [
    schedules.Constant(0.1),
    schedules.Linear(0.1, steps=5, end_value=0.2),
    schedules.Polynomial(0.1, steps=5, end_value=0.02, power=2.0),
    schedules.Cosine(0.1, steps=5),
    schedules.Exponential(0.1, decay_rate=0.5, steps=2),
    schedules.InverseSqrt(0.1, timescale=4),
    schedules.Piecewise(boundaries=(2, 4), values=(0.1, 0.2, 0.0)),
    schedules.OneCycle(0.1, steps=8),
    schedules.WSD(0.1, warmup_steps=2, stable_steps=3, decay_steps=4, decay="1-sqrt"),
    COSINE,
    schedules.ReduceOnPlateau(0.1, factor=0.5, patience=2, cooldown=1),
]
#: How far a schedule is; None before the first metric, which may be any number.
PROGRESS = ("rate", "best")
each_schedule = pytest.mark.parametrize("schedule", EXAMPLES, ids=lambda s: type(s).__name__)


def test_every_schedule_has_an_example() -> None:
    assert {type(schedule).__name__ for schedule in EXAMPLES} == schedules.Schedule.known.keys()


@each_schedule
def test_a_schedule_is_a_value(schedule: Any) -> None:
    config = json.loads(json.dumps(schedule.get_config()))
    for same in (schedules.from_config(config), copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert same == schedule
        assert hash(same) == hash(schedule)
        assert repr(same) == repr(schedule)
        assert [same(t) for t in range(12)] == [schedule(t) for t in range(12)]
    with pytest.raises(AttributeError):
        schedule.value = 1.0


@each_schedule
def test_a_schedule_gives_learning_rates(schedule: Any) -> None:
    rates = [schedule(t) for t in range(30)]
    assert all(type(rate) is float for rate in rates)
    assert 0 <= min(rates) <= max(rates) <= 0.2
    assert schedule(10**6) == pytest.approx(schedule(10**9), abs=1e-3)


@each_schedule
def test_a_schedule_refuses_what_is_no_number_of_its_kind(schedule: Any) -> None:
    """Whatever parameter it is, by its name."""
    for name, value in vars(schedule).items():
        for wrong in (float("nan"), "fast") if name in PROGRESS else (-1.0, float("nan"), "fast", None):
            call = re.escape(f"`{type(schedule).__name__}({name}")
            with pytest.raises((ValueError, TypeError), match=rf"{call}.*must.*Received"):
                type(schedule)(**{**vars(schedule), name: wrong})
        assert type(schedule)(**{**vars(schedule), name: np.float64(value) if type(value) is float else value})


def test_pieces_must_fit_together() -> None:
    for boundaries, values, word in (((3, 3), (1.0, 1.0, 1.0), "boundaries"), ((3,), (1.0,), "values")):
        with pytest.raises(ValueError, match=rf"Piecewise\({word}=.*must"):
            schedules.Piecewise(boundaries, values)


def test_an_unknown_schedule_and_a_function_have_no_config() -> None:
    with pytest.raises(ValueError, match=r"Received: 'Cosin'. Did you mean `Cosine`\?"):
        schedules.from_config({"name": "Cosin"})
    with pytest.raises(TypeError, match="must be one of our schedules"):
        schedules.Warmup(lambda t: 0.1, 3).get_config()


def test_a_stable_phase_lies_between_warm_up_and_decay() -> None:
    for decay in ("linear", "cosine", "1-sqrt"):
        rate = schedules.WSD(1.0, warmup_steps=4, stable_steps=5, decay_steps=6, end_value=0.25, decay=decay)
        assert [rate(t) for t in (0, 2, 4, 8, 9)] == [0.0, 0.5, 1.0, 1.0, 1.0]
        assert [rate(t) for t in (15, 99)] == [0.25, 0.25]
        assert 0.25 < rate(12) < 1.0


PLATEAUS = [
    {"mode": mode, "threshold_mode": kind, "threshold": threshold, "cooldown": cooldown, "eps": eps}
    for mode in ("min", "max")
    for kind, threshold in (("rel", 1e-4), ("rel", 0.1), ("abs", 0.1))
    for cooldown, eps in ((0, 1e-8), (3, 1e-8), (0, 0.02))
]


@pytest.mark.parametrize("options", PLATEAUS, ids=lambda o: "-".join(map(str, o.values())))
def test_a_rate_falls_as_torchs_does(options: dict[str, Any]) -> None:
    """Rate and all that it remembers, by every metric, through JSON."""
    sgd = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, min_lr=0.004, factor=0.5, patience=2, **options)
    ours: Any = schedules.ReduceOnPlateau(0.1, min_value=0.004, factor=0.5, patience=2, **options)
    for metric in np.append(np.random.default_rng(0).standard_normal(60), [np.nan, np.inf, 0.0]):
        theirs.step(metric)
        ours = schedules.from_config(json.loads(json.dumps(ours.after(metric).get_config())))
        assert ours(0) == sgd.param_groups[0]["lr"]
        best = theirs.mode_worse if ours.best is None else ours.best
        assert (best, ours.bad, ours.waiting) == (theirs.best, theirs.num_bad_epochs, theirs.cooldown_counter)
    assert ours.rate < 0.1


def test_optax_falls_one_metric_earlier() -> None:
    """The one difference where its options say the same."""
    rate = schedules.ReduceOnPlateau(1.0, patience=2, factor=0.5, eps=0.0)
    transform = optax.contrib.reduce_on_plateau(patience=3, factor=0.5)
    state = transform.init(np.zeros(1, np.float32))
    for metric in np.random.default_rng(0).standard_normal(40):
        rate = rate.after(metric)
        _, state = transform.update(np.zeros(1, np.float32), state, value=metric)
        assert rate(0) == pytest.approx(float(state.scale), rel=1e-6)
    assert rate(0) < 1.0


def test_a_metric_is_a_number() -> None:
    rate = schedules.ReduceOnPlateau(0.1)
    assert rate.after(np.float32(2.0)) == rate.after(torch.tensor(2.0)) == rate.after(2)
    for wrong in ("low", None, [1.0], True):
        with pytest.raises(TypeError, match=r"`ReduceOnPlateau.after\(metric=...\)` must be a number"):
            rate.after(wrong)


def test_metrics_reach_a_plateau_behind_a_warm_up_and_others_take_no_notice() -> None:
    inner = schedules.ReduceOnPlateau(0.1, patience=0)
    rate = schedules.Warmup(inner, warmup_steps=3)
    for metric in (1.0, 2.0):
        rate = rate.after(metric)
    assert rate(3) == inner(0) * 0.1
    assert rate.begun() == schedules.Warmup(inner, warmup_steps=3)
    assert COSINE.after(1.0) == COSINE.begun() == COSINE


# -- HostOptimizer under a schedule


def at_each_step(optimizer: HostOptimizer, schedule: Any, steps: int, first: int = 1) -> HostOptimizer:
    """The same by hand."""
    for t in range(first, first + steps):
        optimizer.replace(learning_rate=schedule(t - 1))
        walk(optimizer, 1, first=t)
    return optimizer


@each_name
@pytest.mark.parametrize("kernel", ["host", "traced"])
def test_a_schedule_sets_the_rate_of_each_step(name: str, kernel: str) -> None:
    ours = walk(HostOptimizer(name, params(), kernel=kernel, learning_rate=COSINE), 7)
    by_hand = HostOptimizer(get(name)().replace(learning_rate=COSINE(0)), params(), kernel=kernel)
    assert_same(ours, at_each_step(by_hand, COSINE, 7))
    assert ours.step_count == 7
    assert ours.rule.learning_rate == COSINE(6)


@each_name
def test_a_schedule_goes_on_after_a_state_dict_and_a_pickle(name: str) -> None:
    whole, half = (HostOptimizer(name, params(), learning_rate=COSINE) for _ in range(2))
    walk(whole, 7)
    walk(half, 4)
    loaded = HostOptimizer(name, {k: p.copy() for k, p in half.params.items()}, learning_rate=COSINE)
    loaded.load_state_dict(half.state_dict())
    for other in (pickle.loads(pickle.dumps(half)), loaded):
        assert_same(walk(other, 3, first=5), whole)


def test_a_state_of_an_earlier_version_has_taken_the_steps_of_its_parameters() -> None:
    optimizer = walk(HostOptimizer("adamw", params(), learning_rate=COSINE), 4)
    old = optimizer.state_dict()
    del old["step_count"]
    fresh = HostOptimizer("adamw", params(), learning_rate=COSINE)
    fresh.load_state_dict(old)
    assert fresh.step_count == 4
    pickled = optimizer.__getstate__()
    for word in ("step_count", "learning_rate", "groups"):
        del pickled[word]
    older = HostOptimizer.__new__(HostOptimizer)
    older.__setstate__(pickled)
    assert (older.step_count, older.learning_rate) == (4, None)


def test_a_plateau_lowers_the_rate_of_the_steps_to_come() -> None:
    optimizer = HostOptimizer("sgd", {"w": np.zeros(1)}, learning_rate=schedules.ReduceOnPlateau(0.5, patience=0))
    for loss in (1.0, 1.0, 1.0):
        optimizer.step({"w": np.ones(1)})
        optimizer.replace(learning_rate=optimizer.learning_rate.after(loss))
        optimizer = pickle.loads(pickle.dumps(optimizer))
    np.testing.assert_allclose(optimizer.params["w"], -(0.5 + 0.5 + 0.05))


def test_the_count_is_of_steps_taken() -> None:
    seen: list[int] = []
    both = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = HostOptimizer("sgd", both, skip_nonfinite=True, learning_rate=lambda t: seen.append(t) or 0.5)
    for grads in ({"a": np.ones(2)}, {"b": np.ones(2)}, {"a": np.full(2, np.nan)}, {}, {"b": np.ones(2)}):
        optimizer.step(grads)
    assert optimizer.step_count == 3
    assert seen == [0, 0, 1, 2, 2, 2]
    assert np.array_equal(both["a"], [0.5, 0.5])
    assert np.array_equal(both["b"], [0.0, 0.0])


def test_a_rate_by_hand_takes_the_place_of_a_schedule() -> None:
    optimizer = HostOptimizer("sgd", [np.ones(1)], learning_rate=schedules.Constant(0.25))
    optimizer.replace(momentum=0.0)
    optimizer.step([np.ones(1)])
    optimizer.replace(learning_rate=0.5)
    optimizer.step([np.ones(1)])
    assert optimizer.params[0] == 0.25
    optimizer.replace(learning_rate=schedules.Constant(0.125))
    optimizer.step([np.ones(1)])
    assert optimizer.params[0] == 0.125
    with pytest.raises(TypeError, match="learning_rate"):
        optimizer.replace(learning_rate=None)
    assert optimizer.learning_rate == schedules.Constant(0.125)
    assert HostOptimizer("sgd", [np.ones(1)], learning_rate=0.125).rule.learning_rate == 0.125


@pytest.mark.parametrize("wrong", [-0.1, float("inf"), float("nan"), "fast", None, True], ids=str)
def test_a_bad_rate_is_refused_before_anything_moves(wrong: Any) -> None:
    weights = {"w": np.ones(3)}
    with pytest.raises((ValueError, TypeError), match=r"HostOptimizer\(learning_rate=.*at step count 0"):
        HostOptimizer("adamw", weights, learning_rate=lambda t: wrong)
    later = HostOptimizer("adamw", weights, learning_rate=lambda t: 0.1 if t == 0 else wrong)
    later.step({"w": np.ones(3)})
    moved, state = weights["w"].copy(), later.state_dict()
    with pytest.raises((ValueError, TypeError), match="at step count 1"):
        later.step({"w": np.ones(3)})
    assert np.array_equal(weights["w"], moved)
    assert str(later.state_dict()) == str(state)


# -- parameter groups


@pytest.mark.parametrize("name", [n for n in names() if not get(n)().model_slots()])
@pytest.mark.parametrize("rate", [None, COSINE], ids=["rule", "schedule"])
def test_a_group_is_stepped_as_an_optimizer_of_its_own(name: str, rate: Any) -> None:
    """Beside parameters of no group; with one number for the whole model there is no such thing."""
    start = params()
    chosen = list(start)[:2]
    changes = {k: 0.0 for k in get(name)().fields if k == "weight_decay"}
    groups = [{"params": chosen, "learning_rate_factor": 0.5, **changes}]
    together = walk(HostOptimizer(name, params(), groups=groups, learning_rate=rate), 4)
    rule = get(name)()
    usual = rate or (lambda t: rule.learning_rate)
    apart = walk(HostOptimizer(rule.replace(**changes), params(), learning_rate=lambda t: 0.5 * usual(t)), 4)
    others = walk(HostOptimizer(rule, params(), learning_rate=usual), 4)
    shown, expected = evaluation_params(together), evaluation_params(apart)
    for key, p in together.params.items():
        np.testing.assert_array_equal(p, (apart if key in chosen else others).params[key])
        np.testing.assert_array_equal(shown[key], (expected if key in chosen else evaluation_params(others))[key])
    assert_same(walk(pickle.loads(pickle.dumps(together)), 1, first=5), walk(together, 1, first=5))


BAD_GROUPS: dict[str, tuple[Any, str]] = {
    "no list": ({"params": ["w"]}, r"HostOptimizer\(groups=.*must be a list of dicts"),
    "no names": ([{"weight_decay": 0.0}], r"groups\[0\]\['params'\]=.*must be a list of names"),
    "an unknown name": ([{"params": ["v"]}], r"groups\[0\]\['params'\]=.*must name parameters that are there"),
    "twice": ([{"params": ["w"]}, {"params": ["w"]}], r"groups\[1\]\['params'\]=.*each in one group"),
    "a bad factor": ([{"params": ["w"], "learning_rate_factor": -1}], "learning_rate_factor"),
    "an unknown field": ([{"params": ["w"], "lr": 0.1}], "`AdamW` has no argument `lr`"),
    "a bad value": ([{"params": ["w"], "beta1": 2.0}], r"AdamW\(beta1=...\)` must be"),
}


@pytest.mark.parametrize("kind", BAD_GROUPS)
def test_a_bad_group_is_refused(kind: str) -> None:
    groups, words = BAD_GROUPS[kind]
    with pytest.raises((ValueError, TypeError), match=words):
        HostOptimizer(AdamW(), {"w": np.ones(3), "b": np.ones(2)}, groups=groups)


def test_groups_are_told_apart_in_words() -> None:
    groups = [{"params": ["b"], "weight_decay": 0.0}]
    optimizer = HostOptimizer("adamw", {"w": np.ones((3, 2)), "b": np.ones(2)}, groups=groups)
    assert optimizer.rule_of("b").weight_decay == 0.0 < optimizer.rule_of("w").weight_decay
    with pytest.raises(ValueError, match="beta1"):
        optimizer.replace(beta1=2.0)
    assert optimizer.rule_of("w").beta1 == 0.9
