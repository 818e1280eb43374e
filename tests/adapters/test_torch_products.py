"""Products of matrices in torch's host memory, of every layout that a step has, against those in float64."""

import pytest
import torch

from scirs2_adapters.adapters.torch.executors import products

OPS = products.OPS
ROWS, BETWEEN, COLUMNS = 200, 136, 264


def laid(name: str, rows: int, columns: int) -> torch.Tensor:
    """A matrix that lies so in memory."""
    numbers = torch.randn(rows + columns, rows + columns, generator=torch.Generator().manual_seed(rows))
    part = numbers[3 : 3 + rows, 5 : 5 + columns]
    turned = numbers[3 : 3 + columns, 5 : 5 + rows].t()
    return {"rows": part.contiguous(), "columns": turned.t().contiguous().t(), "part": part, "turned part": turned}[
        name
    ]


LAYOUTS = ("rows", "columns", "part", "turned part")


def assert_near(result: torch.Tensor, exact: torch.Tensor) -> None:
    assert result.dtype == torch.float32
    assert (result.double() - exact).norm() <= 1e-6 * exact.norm()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The arguments of each call of oneDNN's product, which is in its place where this processor has it."""
    arguments: list[tuple[torch.Tensor, torch.Tensor]] = []
    linear = products._linear() or (lambda a, b, *_: a @ b.t())

    def remembered(a, b, *others):
        assert b.is_contiguous() or b.t().is_contiguous()  # else oneDNN's slow reference loop runs
        arguments.append((a, b))
        return linear(a, b, *others)

    monkeypatch.setattr(products, "_linear", lambda: remembered)
    return arguments


@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_a_product_of_any_layout_is_exact_to_rounding_and_given_to_onednn_without_gaps(left, right, calls):
    a, b = laid(left, ROWS, BETWEEN), laid(right, BETWEEN, COLUMNS)
    assert_near(OPS.matmul(a, b), a.double() @ b.double())
    assert len(calls) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("beta", "alpha"), [(1.0, 1.0), (0.75, 0.25), (3.0, -2.0)])
def test_sums_with_products_are_those_of_their_definitions(layout, beta, alpha, calls):
    a, b, x = laid(layout, ROWS, ROWS), laid(layout, ROWS, ROWS).t(), laid("rows", ROWS, ROWS)
    with torch.no_grad():
        for one, first, second in ((x, a, b), (a, a, b), (b, a, b)):
            exact = beta * one.double() + alpha * first.double() @ second.double()
            assert_near(OPS.addmm(one, first, second, beta, alpha), exact)
    assert len(calls) == 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_symmetric_and_triangular_products_in_blocks(layout, calls):
    a, x = laid(layout, 520, 530), laid("rows", 520, 520)
    x = x + x.t()
    upper = torch.triu(laid("rows", 520, 520))
    with torch.no_grad():
        assert_near(OPS.syrk(a, x, 0.5, 2.0), 0.5 * x.double() + 2.0 * a.double() @ a.double().t())
        assert_near(OPS.trmm(upper, upper, upper, 0.5), upper.double() + 0.5 * upper.double() @ upper.double())
    assert calls


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_triangle_is_solved_by_halves(layout, calls):
    triangle = torch.tril(laid("rows", 400, 400)) / 40 + torch.eye(400)
    b = laid(layout, 400, 130)
    exact = torch.linalg.solve_triangular(triangle.double(), b.double(), upper=False)
    assert_near(OPS.solve_triangular(triangle, b), exact)
    assert calls


def test_small_float64_and_stacked_matrices_stay_with_torch(calls):
    for a in (torch.ones(4, 4), torch.ones(ROWS, ROWS, dtype=torch.float64), torch.ones(3, ROWS, ROWS)):
        assert torch.equal(OPS.matmul(a, a), torch.matmul(a, a))
    assert not calls
