"""One small problem for all peers, and what it means for a slow twin to agree with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.reference import reference

STEPS = 20
# No matrix is square, which would hide a transposed factor. The last leaf is zero: a trust ratio has no norm there.
SHAPES = ((4, 3), (3, 6), (5,), (), (2, 3, 4), (7,))
SCALES = (1.0, 1e-1, 1e-2, 1.0, 1e-3, 1.0)
EXACT = 1e-12
#: What a test notes with `record_property`: an optimizer, what it is compared with, and the gap seen. `python -m
#: tests.peers` collects them.
WALK = "walk"
Record = Callable[[str, object], None]


def parameters() -> list[np.ndarray]:
    """Normal starting values; the last leaf is zero."""
    rng = np.random.default_rng(1)
    return [*(np.asarray(rng.normal(size=shape)) for shape in SHAPES[:-1]), np.zeros(SHAPES[-1])]


def gradients() -> list[list[np.ndarray]]:
    """Normal gradients of scales from 1e-3 to 1 around 1.5 scales; two leaves see none during the first two steps.

    The drift makes the way from the start correlate with the gradient, without which Prodigy's estimate would not grow.
    """
    rng = np.random.default_rng(2)
    leaves = list(zip(SCALES, SHAPES, strict=True))
    steps = [[np.asarray(scale * rng.normal(1.5, size=shape)) for scale, shape in leaves] for _ in range(STEPS)]
    for step in steps[:2]:
        step[0], step[2] = np.zeros(SHAPES[0]), np.zeros(SHAPES[2])
    return steps


@dataclass(frozen=True)
class Case:
    """One twin with `hyper`, and the peer with its own spelling of the same."""

    label: str
    twin: str
    hyper: dict
    peer: str
    options: dict


def named(case: Case) -> str:
    """The test's name."""
    return f"{case.peer}: {case.label}"


def close(ours: np.ndarray, theirs: object, what: str, within: float = EXACT) -> float:
    """The largest difference by the largest entry, which must be at most this; a peer may have flattened the array."""
    theirs = np.asarray(theirs, dtype=float)
    assert theirs.size == ours.size, what
    error, size = np.max(np.abs(ours - theirs.reshape(ours.shape))), np.max(np.abs(theirs))
    assert error <= within * size, f"{what}: {error:.2e} of {size:.2e}"
    return float(error / max(size, np.finfo(float).tiny))


def compare(case: Case, theirs: tuple[list, list]) -> float:
    """The largest gap of any parameter, slot and model scalar at any step."""
    gaps = []
    xs, states = reference(case.twin)(parameters(), gradients(), hyper=case.hyper)
    for t, (x, state, peer_x, peer_state) in enumerate(zip(xs, states, *theirs, strict=True), start=1):
        for i, slots in enumerate(state["leaves"]):
            where = f"{named(case)}, step {t}, leaf {i}"
            gaps.append(close(x[i], peer_x[i], f"{where}, parameter"))
            assert set(slots) == set(peer_state["leaves"][i]), where
            for name, slot in slots.items():
                gaps.append(close(slot, peer_state["leaves"][i][name], f"{where}, {name}"))
        assert set(state["model"]) == set(peer_state["model"]), named(case)
        for name, value in state["model"].items():
            gaps.append(close(value, peer_state["model"][name], f"{named(case)}, step {t}, {name}"))
    return max(gaps)
