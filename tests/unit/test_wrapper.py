"""A wrapper's own slots and fields follow the same rules as a rule's."""

import numpy as np
import pytest

import scirs2_adapters as s2
from scirs2_adapters.core import HostOptimizer, Lookahead, Mechanize, Wrapper
from scirs2_adapters.core.fields import flag, fraction
from scirs2_adapters.core.registry import with_value
from scirs2_adapters.core.slots import Leaf, slot


class Averaged(Wrapper):
    """The base, and a running average of the parameters beside it where it is asked for."""

    default_base = "sgd"
    extra = flag(True, "keep the average")
    pull = fraction(0.5, "weight of the newest parameters")

    def wrap_coefficients(self, math, t):  # type: ignore[no-untyped-def]
        return {"pull": self.pull}

    def wrap(self, xp, p, avg: slot("extra"), /, pull):  # type: ignore[no-untyped-def, valid-type]
        return p, avg + pull * (p - avg) if self.extra else None


@pytest.mark.parametrize("kernel", ["host", "traced"])
def test_a_wrappers_slot_exists_only_where_its_field_asks_for_it(kernel: str) -> None:
    for extra in (True, False):
        opt = HostOptimizer(Averaged(extra=extra, learning_rate=1.0), [np.ones(3)], kernel=kernel)
        opt.step([np.full(3, 0.5)])
        np.testing.assert_array_equal(opt.params[0], np.full(3, 0.5))
        assert set(opt.state[0]) == ({"avg"} if extra else set())
        if extra:
            np.testing.assert_array_equal(opt.state[0]["avg"], np.full(3, 0.25))


def test_wrappers_that_keep_other_slots_are_other_variants() -> None:
    assert Averaged(extra=True).kernel_key() != Averaged(extra=False).kernel_key()
    assert Averaged(momentum=0.9).slots(Leaf((3,))) != Averaged().slots(Leaf((3,)))


@pytest.mark.parametrize(("field", "value"), [("num_betas", 3), ("s_init", 0.1), ("mechanic_decay", 1.0)])
def test_what_is_learned_for_all_parameters_is_learned_alike_in_all_groups(field: str, value: float) -> None:
    groups = [{"params": [1], field: value}]
    with pytest.raises(ValueError, match=rf"`Mechanize\({field}=...\)` must be .* as in the first group.*{value}"):
        HostOptimizer(Mechanize("sgd"), [np.ones(3), np.ones(3)], groups=groups)
    nested = Lookahead(Mechanize("sgd", **{field: value}))
    HostOptimizer(nested, [np.ones(3), np.ones(3)], groups=groups)
    with pytest.raises(ValueError, match="as in the first group"):
        HostOptimizer(Lookahead(Mechanize("sgd")), [np.ones(3), np.ones(3)], groups=groups)


WRAPPERS = [n for n in s2.names() if issubclass(s2.get(n), Wrapper)]
AVERAGES = [n for n in WRAPPERS if s2.get(n).evaluation is not None]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("base", ["lionn", "mars(lionn)", "mars(lion", "mars()", "lion)", "", "lion(sgd)", "lbfgs", 3])
def test_a_base_that_is_no_optimizer_is_refused_with_what_may_stand_there(wrapper: str, base: object) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        s2.get(wrapper)(base)
    text = str(caught.value)
    assert text.split("`")[1] in {f"{s2.get(name).__name__}(base=...)" for name in (wrapper, "mars")}
    assert 'as "lion" or "mars(lion)"' in text
    assert "Received: " in text
    assert ("Did you mean `lion`?" in text) == ("lionn" in str(base) or base == "lion)")
    assert ("`Lion` goes around no other." in text) == (base == "lion(sgd)")


@pytest.mark.parametrize("name", [n for n in s2.names() if n not in WRAPPERS])
def test_another_frameworks_optimizer_as_base_is_answered_with_its_name(name: str) -> None:
    theirs = type(s2.get(name).__name__, (), {})
    for base in (theirs, theirs()):
        with pytest.raises(TypeError, match=rf'Write `base="{name}"`'):
            Lookahead(base)


@pytest.mark.parametrize("wrapper", [n for n in WRAPPERS if n not in AVERAGES and n != "mechanize"])
@pytest.mark.parametrize("average", AVERAGES)
def test_an_average_inside_is_refused_with_a_text_that_is_taken(wrapper: str, average: str) -> None:
    with pytest.raises(ValueError, match="is the outermost") as caught:
        s2.get(wrapper)(f"{average}(adamw)")
    written = str(caught.value).partition("Write `")[2].partition("`")[0]
    outer, _, base = written.partition("(")
    assert s2.get(outer)(base.removesuffix(")")).label == written


@pytest.mark.parametrize("base", [*s2.names(), *with_value()])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_steps_any_base_or_says_why_it_does_not(wrapper: str, base: str) -> None:
    try:
        rule = s2.get(wrapper)(base)
    except ValueError as error:
        assert "(base=...)` must be an optimizer" in str(error) or "cautious_decay" in str(error)  # noqa: PT017
        return
    params = {"w": np.ones((4, 3)), "b": np.ones(3), "c": np.ones(())}
    optimizer = HostOptimizer(rule, params, kernel="traced")
    for t in range(2):
        optimizer.step({k: p + t for k, p in params.items()}, **({"value": 1.0} if rule.needs_value else {}))
    assert all(np.isfinite(p).all() for p in params.values())
