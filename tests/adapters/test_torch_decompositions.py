"""Optimizers that decompose matrices every so many steps do so in no other step, with torch's operations too."""

from typing import Any

import pytest
import torch

from scirs2_adapters import torch as adapter

#: Which of the first twelve steps decompose, with a period of 5.
DUE = {"SOAP": {1, 6, 11}, "Shampoo": {5, 10}, "GaLore": {1, 6, 11}}
OPTIONS: dict[str, dict[str, Any]] = {
    "SOAP": {"precondition_frequency": 5},
    "Shampoo": {"precondition_frequency": 5, "start_preconditioning_step": 5},
    "GaLore": {"update_proj_gap": 5, "rank": 2},
}


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("name", DUE)
def test_a_step_decomposes_where_that_is_due(name: str, capturable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    decomposed, step = set(), 0

    def watched(function: Any) -> Any:
        def called(*args: Any, **options: Any) -> Any:
            decomposed.add(step)
            return function(*args, **options)

        return called

    for function in ("eigh", "qr"):
        monkeypatch.setattr(torch.linalg, function, watched(getattr(torch.linalg, function)))
    torch.manual_seed(0)
    p = torch.randn(6, 4, requires_grad=True)
    optimizer = getattr(adapter, name)([p], kernel="traced", capturable=capturable, **OPTIONS[name])
    for step in range(1, 13):  # noqa: B007
        p.grad = torch.randn(6, 4)
        optimizer.step()
    assert decomposed == DUE[name]
