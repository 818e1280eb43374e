"""Names of optimizers: ours by file, others' by entry point; clashes and mistakes are told."""

import re
import sys
import types
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import scirs2_adapters
from scirs2_adapters.core import Rule, registry
from scirs2_adapters.core.registry import GROUP, built_in, get, is_listed, names

FILES = Path(registry.__file__).parent / "optimizers"


class Drift(Rule):
    """A rule of another distribution."""

    def coefficients(self, math: Any, t: Any) -> dict[str, Any]:
        return {"lr": self.learning_rate}

    def update(self, xp, p, g, /, lr):  # type: ignore[no-untyped-def]
        return lr * xp.sign(g)


Offer = Callable[..., None]


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Offer]:
    """Pretends that distributions offer these entry points."""
    module = types.ModuleType("their_package")
    vars(module).update(Drift=Drift, number=3)
    monkeypatch.setitem(sys.modules, "their_package", module)

    def make(**points: str) -> None:
        entries = [EntryPoint(name.rstrip("_"), value, GROUP) for name, value in points.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: [p for p in entries if p.group == group])

    forget()
    yield make
    forget()


def forget() -> None:
    registry._offered.cache_clear()
    registry._load.cache_clear()
    is_listed.cache_clear()


def test_the_names_are_the_files() -> None:
    assert list(built_in()) == sorted(f.stem for f in FILES.glob("*.py") if f.stem[0] != "_")
    assert set(built_in()) <= set(names())
    assert names() == sorted(names())
    assert scirs2_adapters.names is names


@pytest.mark.parametrize("name", built_in())
def test_every_name_leads_to_a_rule_of_that_name(name: str) -> None:
    rule = get(name)
    assert issubclass(rule, Rule)
    assert rule.name == name
    assert get(name.upper()) is get(rule.__name__) is get("_".join(name)) is get("-".join(name)) is rule
    assert is_listed(rule)


@pytest.mark.parametrize(("name", "guess"), [("adamm", "adam"), ("lionn", "lion"), ("rmsprp", "rmsprop")])
def test_an_unknown_name_is_refused_with_a_guess_or_the_list(name: str, guess: str) -> None:
    words = f"No optimizer is named `{name}`. Did you mean `{guess}`? `scirs2_adapters.names()` lists all."
    with pytest.raises(ValueError, match=re.escape(words)):
        get(name)


def test_a_name_like_none_gets_the_list_alone() -> None:
    with pytest.raises(ValueError, match=r"No optimizer is named `zzzz`\. There are: acprop, "):
        get("zzzz")


@pytest.mark.parametrize("wrong", [None, 3, Drift, Drift(), b"adam"], ids=str)
def test_a_name_must_be_text(wrong: Any) -> None:
    with pytest.raises(TypeError, match="takes the name of an optimizer as a string"):
        get(wrong)


def test_a_rule_of_another_distribution_is_loaded_when_it_is_asked_for(offer: Offer) -> None:
    offer(drift="their_package:Drift")
    assert "drift" in names()
    assert get("drift") is get("Drift") is Drift
    assert is_listed(Drift)
    import scirs2_adapters.core as core

    assert core.Drift is Drift
    assert "Drift" in dir(core)


def test_an_entry_point_in_capitals_can_be_found(offer: Offer) -> None:
    offer(Drift="their_package:Drift")
    assert get("drift") is get("DRIFT") is Drift


def test_a_rule_that_nobody_offers_is_not_listed(offer: Offer) -> None:
    offer()
    assert not is_listed(Drift)


def test_a_name_of_ours_cannot_be_claimed(offer: Offer) -> None:
    offer(adam="their_package:Drift")
    for ask in (names, lambda: get("their"), lambda: get("drift")):
        with pytest.raises(ValueError, match="`adam` is claimed by two distributions: scirs2 and their_package:Drift"):
            ask()


def test_a_name_that_two_claim_is_an_error_that_names_both(offer: Offer) -> None:
    offer(drift="their_package:Drift", drift_="other:Drift")
    words = "`drift` is claimed by two distributions: their_package:Drift and other:Drift. Uninstall one of them"
    with pytest.raises(ValueError, match=re.escape(words)):
        names()


def test_one_distribution_seen_twice_is_no_clash(offer: Offer) -> None:
    offer(drift="their_package:Drift", drift_="their_package:Drift")
    assert names().count("drift") == 1


def test_an_entry_point_that_is_no_rule_is_an_error(offer: Offer) -> None:
    offer(drift="their_package:number")
    with pytest.raises(TypeError, match=r"The entry point `drift` of .* must be a Rule class. Received: 3"):
        get("drift")


def test_a_broken_distribution_shows_its_own_error_and_hides_nobody_else(offer: Offer) -> None:
    offer(drift="their_missing_package:Drift")
    assert "drift" in names()
    assert get("adam").name == "adam"
    with pytest.raises(ModuleNotFoundError, match="their_missing_package"):
        get("drift")


def test_a_file_of_optimizers_defines_one_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("two_rules")
    for name in ("One", "Two"):
        vars(module)[name] = type(name, (Rule,), {"__module__": "two_rules"})
    monkeypatch.setitem(sys.modules, "two_rules", module)
    with pytest.raises(
        ValueError, match=re.escape("`two_rules` must define exactly one rule. It defines: ['One', 'Two'")
    ):
        registry.rule_in("two_rules")
