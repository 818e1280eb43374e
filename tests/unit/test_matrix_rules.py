"""What holds for each rule that remembers directions or factors of a matrix: it sees no layout, and it learns."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from scirs2_adapters.core import Dion, Kron, Rule
from scirs2_adapters.core.matrix import INPUTS_FIRST, OUTPUTS_FIRST
from scirs2_adapters.sklearn import MLPClassifier

from .matrix_walks import Arrays, arrays, walked

SHAPES = {"tall": (7, 4), "wide": (3, 8), "square": (5, 5)}
WALKING = [Kron(learning_rate=0.1, memory_save_mode="one_diag"), Dion(learning_rate=0.1, rank_fraction=0.6)]
LEARNING = [Kron(learning_rate=1e-3), Dion(rank_fraction=0.25)]


def named(rule: Rule) -> str:
    return rule.name


def turned(x: Arrays) -> Arrays:
    return {k: np.ascontiguousarray(a.T) for k, a in x.items()}


@pytest.mark.parametrize("rule", WALKING, ids=named)
def test_a_matrix_that_lies_otherwise_walks_the_same_path(rule: Rule) -> None:
    start, gradients = arrays(0, SHAPES), [arrays(seed, SHAPES) for seed in range(1, 8)]
    rows = walked(rule, start, gradients, layout=OUTPUTS_FIRST).params
    columns = walked(rule, turned(start), list(map(turned, gradients)), layout=INPUTS_FIRST).params
    for k, p in rows.items():
        np.testing.assert_allclose(columns[k].T, p, rtol=0, atol=1e-13)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("rule", LEARNING, ids=named)
def test_digits_are_learned_as_well_as_with_adamw(rule: Rule) -> None:
    x, y = load_digits(return_X_y=True)
    scores = [
        MLPClassifier((64,), optimizer=optimizer, max_iter=12, batch_size=64, random_state=0)
        .fit(x[:1300] / 16, y[:1300])
        .score(x[1300:] / 16, y[1300:])
        for optimizer in ("adamw", rule)
    ]
    assert scores[1] > scores[0] - 0.02
