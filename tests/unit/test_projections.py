"""Rules whose memory is of a projection of the gradient: what is projected, along which side, and what it costs."""

import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from scirs2_adapters import state
from scirs2_adapters.core import APOLLO, SOAP, APOLLOMini, GaLore, HostOptimizer, Rule
from scirs2_adapters.core.errors import ArgumentTypeError
from scirs2_adapters.core.matrix import INPUTS_FIRST, OUTPUTS_FIRST, Matrix
from scirs2_adapters.core.ops import Array
from scirs2_adapters.core.projections import onto
from scirs2_adapters.core.slots import Leaf, basis, low
from scirs2_adapters.sklearn import MLPClassifier

RULES: list[type[Rule]] = [GaLore, APOLLO, APOLLOMini]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
each_layout = pytest.mark.parametrize("layout", [OUTPUTS_FIRST, INPUTS_FIRST])
Arrays = dict[str, np.ndarray]


def arrays(seed: int, shapes: dict[str, tuple[int, ...]]) -> Arrays:
    rng = np.random.default_rng(seed)
    return {k: rng.standard_normal(shape) for k, shape in shapes.items()}


def walked(optimizer: HostOptimizer, steps: int, shapes: dict[str, tuple[int, ...]], turn: bool = False) -> Arrays:
    for seed in range(1, steps + 1):
        grads = arrays(seed, shapes)
        optimizer.step({k: np.ascontiguousarray(g.T) for k, g in grads.items()} if turn else grads)
    return {k: p.T if turn else p for k, p in optimizer.params.items()}


# ---------------------------------------------------------------- what is projected

#: shape -> the shapes of memory with rank 2.
MEMORY: dict[tuple[int, ...], list[tuple[int, ...]]] = {
    (6, 4): [(6, 2), (4, 2)],
    (4, 6): [(6, 2), (4, 2)],
    (5, 5): [(5, 2), (5, 2)],
    (4, 3, 2): [(6, 2), (4, 2)],
    (6, 2): [(6, 2)],
    (6, 1): [(6, 1)],
    (6,): [(6,)],
    (): [()],
    (0, 4): [(0, 4)],
}


@pytest.mark.parametrize("shape", MEMORY, ids=str)
def test_the_shorter_side_is_projected_if_it_is_longer_than_the_rank(shape: tuple[int, ...]) -> None:
    slots = {s.name: s.shape(shape) for s in GaLore(rank=2).slots(Leaf(shape))}
    moments, *directions = MEMORY[shape]
    assert (slots["exp_avg"], slots["exp_avg_sq"]) == (moments, moments)
    assert [slots[k] for k in slots if k == "projector"] == directions


def test_a_rank_of_0_leaves_a_group_to_adamw() -> None:
    assert [s.shape((9, 8)) for s in GaLore(rank=0).slots(Leaf((9, 8)))] == [(9, 8), (9, 8)]
    with pytest.raises(ValueError, match=r"`GaLore\(rank=\.\.\.\)` must be a whole number >= 0\. Received: -1"):
        GaLore(rank=-1)


@each_layout
def test_of_a_square_matrix_the_inputs_are_projected(layout: str) -> None:
    view = GaLore(rank=2, layout=layout).view(Leaf((5, 5)))
    assert view is not None
    assert view.outputs == (-1,) if view.projected == -2 else view.inputs == (-1,)


@each_rule
def test_large_matrices_take_the_memory_of_their_rank(rule: type[Rule]) -> None:
    shape, made = (2048, 1024), rule()
    numbers = sum(math.prod(s.shape(shape)) for s in made.slots(Leaf(shape)))
    assert numbers <= (2 * 2048 + 1024) * made.rank + 1


# ---------------------------------------------------------------- layouts

SHAPES = {"tall": (7, 4), "wide": (3, 8), "square": (5, 5)}


@each_rule
def test_a_matrix_that_lies_otherwise_walks_the_same_path(rule: type[Rule]) -> None:
    def optimizer(layout: str) -> HostOptimizer:
        start = arrays(0, SHAPES)
        turned = {k: np.ascontiguousarray(p.T) for k, p in start.items()}
        made = rule(rank=2, update_proj_gap=3, learning_rate=0.1)
        return HostOptimizer(made, turned if layout == INPUTS_FIRST else start, layout=layout)

    wanted = walked(optimizer(OUTPUTS_FIRST), 7, SHAPES)
    transposed = walked(optimizer(INPUTS_FIRST), 7, SHAPES, turn=True)
    assert all(np.allclose(transposed[k], p, rtol=0, atol=1e-13) for k, p in wanted.items())


@each_rule
def test_a_state_goes_on_in_the_other_layout(rule: type[Rule], tmp_path: Path) -> None:
    shapes = {k: (n, m) for k, (n, m) in SHAPES.items() if n != m} | {"small": (6, 2)}
    made = rule(rank=2, update_proj_gap=3, learning_rate=0.1)
    first = HostOptimizer(made, arrays(0, shapes), layout=OUTPUTS_FIRST)
    walked(first, 4, shapes)
    state.save(first, tmp_path / "state")
    other = {k: np.ascontiguousarray(p.T) for k, p in first.params.items()}
    second = HostOptimizer(made, other, layout=INPUTS_FIRST)
    state.load(tmp_path / "state", second)
    wanted, transposed = walked(first, 4, shapes), walked(second, 4, shapes, turn=True)
    assert all(np.allclose(transposed[k], p, rtol=0, atol=1e-13) for k, p in wanted.items())


# ---------------------------------------------------------------- steps


def test_apollo_moves_on_after_a_first_gradient_of_zeros() -> None:
    """Where its authors' limit on growing steps would be 1.01 times nothing."""
    params = {"w": np.zeros((6, 5))}
    optimizer = HostOptimizer(APOLLO(rank=2, learning_rate=0.1), params)
    optimizer.step({"w": np.zeros((6, 5))})
    optimizer.step({"w": np.ones((6, 5))})
    assert np.min(np.abs(params["w"])) > 1e-3


def test_galore_steps_along_its_directions_alone() -> None:
    params = {"w": np.zeros((8, 5))}
    optimizer = HostOptimizer(GaLore(rank=2, learning_rate=0.1), params)
    walked(optimizer, 6, {"w": (8, 5)})
    directions = optimizer.state["w"]["projector"]
    assert np.allclose(directions.T @ directions, np.eye(2), atol=1e-14)
    assert np.allclose(params["w"] @ directions @ directions.T, params["w"], atol=1e-14)
    assert np.linalg.matrix_rank(params["w"]) == 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@each_rule
def test_digits_are_learned_as_well_as_with_adamw(rule: type[Rule]) -> None:
    x, y = load_digits(return_X_y=True)
    scores = [
        MLPClassifier((64,), optimizer=optimizer, max_iter=12, batch_size=64, random_state=0)
        .fit(x[:1300] / 16, y[:1300])
        .score(x[1300:] / 16, y[1300:])
        for optimizer in ("adamw", rule(rank=min(8, rule().rank), update_proj_gap=50, learning_rate=1e-2))
    ]
    assert scores[1] > scores[0] - 0.02


# ---------------------------------------------------------------- what a formula may do with a projection


class _Projecting(Rule):
    """A formula on trial."""

    def coefficients(self, math, t):
        return {}

    def view(self, leaf: Leaf) -> Matrix:
        return Matrix((-1,), (-2,), rank=2, projected=-1)

    def there(self, leaf: Leaf) -> bool:
        return True


def mixed(self: Rule, xp: Array, p: Array, g: Array, exp_avg: low(), /) -> tuple[Array, Array]:
    return g, exp_avg + g


def of_a_side(self: Rule, xp: Array, p: Array, g: Array, exp_avg: low(), side: basis("there"), /) -> tuple[Array, ...]:
    return g, xp.matrix(onto, exp_avg, g, side), side + side


WRONG = {
    "mixed": (mixed, "has a projection and what is none in `add`"),
    "of a side": (of_a_side, "has the matrix of a side in `add`"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_of_another_shape_is_not_computed_with_element_by_element(kind: str) -> None:
    formula, words = WRONG[kind]
    rule = type("Projecting", (_Projecting,), {"update": formula})
    with pytest.raises(ArgumentTypeError, match=words + r".* Write a function of matrices for `xp\.matrix`"):
        rule().explain(Leaf((4, 3)))


def test_explain_says_which_side_is_kept_and_how_large_it_is() -> None:
    view = GaLore(rank=2).view(Leaf((6, 4)))
    assert view is not None
    assert view.told((6, 4)) == "as a matrix of 4 inputs and 6 outputs, projected onto 2 directions"
    assert "exp_avg: low" in GaLore(rank=2).explain(Leaf((6, 4)))
    assert "exp_avg: full" in GaLore(rank=2).explain(Leaf((6, 2)))
    assert "projected" not in str(SOAP().view(Leaf((6, 4))))
