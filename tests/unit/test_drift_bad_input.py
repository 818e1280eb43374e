"""Recordings that cannot be compared, or not as they are, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.drift import compare
from tests.unit.test_drift import Arrays, cli, ran


def test_samples_of_other_places_are_not_compared(tmp_path: Path) -> None:
    a, b = (ran(tmp_path / str(most), shapes={"w": (40, 30)}, most=most) for most in (64, 100))
    with pytest.raises(ValueError, match="the `largest` of A: of w it has"):
        compare(a, b)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_runs_that_diverge_alike_do_not_differ(value: float, tmp_path: Path) -> None:
    """What is not finite is compared, and does not hide what is."""

    def diverges(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
        grads["w"][0, 0] = value if step > 1 else grads["w"][0, 0]

    def other(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
        diverges(step, optimizer, grads)
        grads["w"][2, 1] += step == 3

    a, b, c = (ran(tmp_path / n, change=f) for n, f in (("a", diverges), ("b", diverges), ("c", other)))
    assert compare(a, b).step is None
    drift = compare(a, c)
    assert (drift.step, drift.quantity, drift.parameter) == (3, "grad", "w")


def test_a_run_that_was_stopped_while_it_wrote_is_refused(tmp_path: Path) -> None:
    """The last step lacks a group; names of parameters say so."""
    apart: dict[str, object] = {"groups": [{"params": ["b"], "learning_rate": 0.1}]}
    a, b = (ran(tmp_path / n, options=apart) for n in "ab")
    groups = sorted(b.glob("00000005.*"))
    assert len(groups) == 2
    groups[1].unlink()
    for one, other in ((a, b), (b, a)):
        with pytest.raises(ValueError, match=r"\((A|B)=...\).*step 5 lacks b.*remove its files"):
            compare(one, other)


@pytest.mark.parametrize("text", [None, "{", "[]", '{"x": 1}'])
def test_names_that_cannot_be_read_name_the_option(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "names.json").write_text(text)
    code, said = cli("a", "b", "--names", str(tmp_path / "names.json"))
    assert (code, said.startswith("`--names` must be a file with a JSON object")) == (2, True)
