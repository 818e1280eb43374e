"""What is checked when the class of a rule is made: traits, rows of `matches`, and the first values of slots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .errors import did_you_mean
from .slots import Slot


def check_names(cls: type, traits: Iterable[str], matches: Mapping[str, Iterable[str]], slots: Iterable[Slot]) -> None:
    """Refuse a trait, an entry of `matches` or a first value that the rule does not have: nothing would read it."""
    for trait in traits:
        _check(cls, f"class {cls.__name__}(..., {trait}=...)", trait, "a trait of `Rule`")
    for framework, row in matches.items():
        for name in row:
            _check(cls, f'{cls.__name__}.matches["{framework}"]', name, "a field or trait of the rule")
    for slot in slots:
        if isinstance(slot.initial, str) and slot.initial != "parameter":
            _check(
                cls, f"{cls.__name__}.update({slot.name}: ...)", slot.initial, "a field of the rule that is its start"
            )


def _check(cls: type, place: str, name: str, role: str) -> None:
    if not hasattr(cls, name):
        known = [n for n in dir(cls) if not n.startswith("_")]
        raise TypeError(f"`{place}` names {name!r}, which must be {role}. {did_you_mean(name, known)}".strip())
