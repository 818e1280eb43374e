"""Memory that is one vector over all parameters, in the order in which a search has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from scirs2_adapters.core.errors import bad_value

from .names import bare, listed
from .tensors import Tensor


def reordered(
    call: str, held: Mapping[str, Any], saved: Sequence[str], here: Sequence[str], params: Sequence[Tensor]
) -> Mapping[str, Any]:
    """The memory with its vectors in the order of the parameters here, if both sides have names for all of them."""
    there, mine = [bare(n) for n in saved], [bare(n) for n in here]
    if not all(there) or not all(mine) or there == mine or not set(there) & set(mine):
        return held
    if sorted(there) != sorted(mine):
        only = f"saved only: {listed(sorted({*there} - {*mine}))}; here only: {listed(sorted({*mine} - {*there}))}"
        raise bad_value(call, "state_dict", f"must be of the same parameters; {only}", f"{len(there)} parameters")
    sizes = {n: p.numel() * (2 if p.is_complex() else 1) for n, p in zip(mine, params, strict=True)}
    total = sum(sizes.values())

    def turned(value: Any) -> Any:
        if isinstance(value, list):
            return [turned(x) for x in value]
        if not isinstance(value, Tensor) or value.shape != (total,):
            return value
        pieces = dict(zip(there, value.split([sizes[n] for n in there]), strict=True))
        return torch.cat([pieces[n] for n in mine])

    return {k: turned(v) for k, v in held.items()}
