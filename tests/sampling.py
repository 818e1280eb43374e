"""With `--sample`, a test that runs over all optimizers runs over some of different kinds, others each week. Without
it, or with `-k`, it runs over all. Never sampled is what holds formulas to their twins and peers: every option of every
formula beside its twin, and beside the framework's own optimizer.

A kind is read from the formula: whether it wraps another, works on matrices, takes gradients of rows, keeps numbers
for the whole model or for a tensor, or knows single elements only. A test takes one optimizer of each of a third of
the kinds, and a test that goes over optimizers by itself one of each kind, chosen by the seed and the test's name: so a
week's run takes each optimizer through many tests, and all weeks together through all, and an optimizer more costs
hardly any time.

Other cases are alike too, and a sampled run takes one of them: those of a test with the mark `one_of_each`, which names
the parameters that they have in common, and those of another library's suite, which say it by their `alike`.
"""

from __future__ import annotations

import functools
import os
import zlib
from collections import defaultdict
from collections.abc import Hashable, Iterable
from datetime import date
from pathlib import Path

import pytest

from scirs2_adapters.core import Rule, get, names
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.registry import plain, with_value
from scirs2_adapters.core.slots import Extent, Leaf
from scirs2_adapters.core.wrapper import Wrapper

#: The seed of a run; the processes that a run starts inherit it.
SEED = "SCIRS2_TEST_SEED"
#: Folders and files whose tests take every optimizer in any case.
PROOFS = {"peers", "boundaries", "test_jax_optax_suite.py", "test_tf_keras_suite.py"}
PROOFS |= {"test_lint.py", "test_reference.py", "test_complex.py", "test_one_file.py", "test_layouts.py"}
TESTS = Path(__file__).parent
#: The mark of a file that runs optimizers together, in processes of their own: its tests take the same ones.
TOGETHER = "sampled_together"
#: The mark of a test of whose cases with the same values of some parameters, named by the mark, one is taken.
ONE_OF_EACH = "one_of_each"


def add_option(parser: pytest.Parser) -> None:
    parser.addoption("--sample", action="store_true", help="some optimizers of different kinds, others each week")


def settle_seed() -> None:
    """The week, unless a seed is set."""
    year, week, _ = date.today().isocalendar()
    os.environ.setdefault(SEED, f"{year}-W{week:02}")


def samples(config: pytest.Config) -> bool:
    """Whether this run leaves optimizers out."""
    return bool(config.getoption("--sample")) and not config.getoption("keyword")


@functools.cache
def kind(name: str) -> str:
    """What the formula of an optimizer has in common with others."""
    rule, leaf = get(name)(), Leaf((8, 4), "float32", "weight")
    program, slots = record(rule, leaf), rule.slots(leaf)
    extents = {s.extent for s in slots} | {n.extent for n in program.nodes if n.reduces}
    signs = {
        "wrapper": isinstance(rule, Wrapper),
        "matrix": any(n.op == "matrix" for n in program.nodes),
        "rows": rule.sparse == "rows",
        "model": Extent.MODEL in extents,
        "tensor": bool(extents - {Extent.FULL}),
    }
    return next((sign for sign, seen in signs.items() if seen), "elements")


def optimizers_in(item: pytest.Item) -> tuple[str, ...]:
    """The optimizers that a case is about, by the values of its parameters: rules, names of rules or of classes, or
    what has such a name as its `rule`.
    """
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    values = [value.get("base") if isinstance(value, dict) else value for value in values]
    values = [value.name if _is_rule(value) else getattr(value, "rule", value) for value in values]
    flat = (x for value in values for x in (value if isinstance(value, tuple) else (value,)))
    named = (plain(x) for x in flat if isinstance(x, str))
    return tuple(dict.fromkeys(x for x in named if x in known()))


def _is_rule(value: object) -> bool:
    return isinstance(value, Rule) or (isinstance(value, type) and issubclass(value, Rule))


@functools.cache
def known() -> frozenset[str]:
    return frozenset((*names(), *with_value()))


def draw(names: Iterable[str], seed: str) -> str:
    """The one of these names that the seed draws."""
    return min(names, key=lambda name: (zlib.crc32(f"{seed} {name}".encode()), name))


def turn(name: str, parts: int) -> int:
    """Which of so many parts has its turn this week, for what is called so."""
    week = os.environ[SEED].rpartition("W")[2]
    return (zlib.crc32(name.encode()) + (int(week) if week.isdigit() else zlib.crc32(week.encode()))) % parts


def chosen(test: str, optimizers: Iterable[tuple[str, ...]], seed: str, *, third: bool = False) -> set[tuple[str, ...]]:
    """Of the optimizers that a test runs over, or of pairs of them, those that it takes: one of each kind, or one of
    each of a `third` of the kinds.
    """
    by_kind: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for members in optimizers:
        by_kind[f"{test} {[*map(kind, members)]}"][f"{test} {members}"] = members
    kinds = sorted(by_kind, key=lambda name: zlib.crc32(f"{seed} {name}".encode()))
    taken = kinds[: (len(kinds) + 2) // 3] if third else kinds
    return {by_kind[name][draw(by_kind[name], seed)] for name in taken}


def left_out(items: list[pytest.Item]) -> list[pytest.Item]:
    """The cases that a sampled run leaves out."""
    others = _of_optimizers(items)
    gone = {item.nodeid for item in others}
    return [*others, *_alike([item for item in items if item.nodeid not in gone])]


def _alike(items: list[pytest.Item]) -> list[pytest.Item]:
    """Of cases that are alike, all but one."""
    groups: dict[Hashable, dict[str, pytest.Item]] = defaultdict(dict)
    for item in items:
        if (common := _in_common(item)) is not None:
            groups[item.nodeid.partition("[")[0], common][item.nodeid] = item
    taken = {draw(group, os.environ[SEED]) for group in groups.values()}
    return [item for group in groups.values() for name, item in group.items() if name not in taken]


def _in_common(item: pytest.Item) -> Hashable | None:
    """What a case has in common with those that are alike; None if it is like no other."""
    if not hasattr(item, "callspec"):
        return None
    if mark := item.get_closest_marker(ONE_OF_EACH):
        return tuple(repr(item.callspec.params[name]) for name in mark.args)
    return getattr(item.callspec.params.get("case"), "alike", None)


def _of_optimizers(items: list[pytest.Item]) -> list[pytest.Item]:
    """Of cases that are about other optimizers of one kind, all but those chosen."""
    tests: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if not PROOFS & set(item.path.relative_to(TESTS).parts) and optimizers_in(item):
            together = item.get_closest_marker(TOGETHER) is not None
            tests[item.nodeid.partition("::" if together else "[")[0]].append(item)
    out = []
    for test, cases in tests.items():
        taken = chosen(test, map(optimizers_in, cases), os.environ[SEED], third=True)
        out += [case for case in cases if optimizers_in(case) not in taken]
    return out


def taken(request: pytest.FixtureRequest, names: Iterable[str]) -> list[str]:
    """Of these optimizers, those that a test takes which goes over them by itself."""
    cases = [(name,) for name in names]
    wanted = chosen(request.node.nodeid, cases, os.environ[SEED]) if samples(request.config) else cases
    return sorted(name for (name,) in wanted)


def asked_for(request: pytest.FixtureRequest, names: Iterable[str]) -> list[str]:
    """Of these optimizers, those that some case of a fixture's file is about."""
    cases = [item for item in request.session.items if item.path == request.path]
    wanted = {x for case in cases for x in optimizers_in(case)}
    return [name for name in names if plain(name) in wanted]
