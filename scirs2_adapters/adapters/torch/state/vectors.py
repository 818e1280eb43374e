"""Memory that is one vector over all parameters, in the order in which a search has them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scirs2_adapters.core.errors import bad_value

from .names import bare, listed
from .protocols import Saved
from .tensors import Tensor


def reordered(call: str, memory: Saved, saved: Sequence[str], here: Sequence[str], params: Sequence[Tensor]) -> Saved:
    """The memory with its vectors in the order of the parameters here, if both sides have names for all of them."""
    saved, here = [bare(n) for n in saved], [bare(n) for n in here]
    if not all(saved) or not all(here) or saved == here or not set(saved) & set(here):
        return memory
    if sorted(saved) != sorted(here):
        only = f"saved only: {listed(sorted({*saved} - {*here}))}; here only: {listed(sorted({*here} - {*saved}))}"
        raise bad_value(call, "state_dict", f"must be of the same parameters; {only}", f"{len(saved)} parameters")
    sizes = {n: p.numel() * (2 if p.is_complex() else 1) for n, p in zip(here, params, strict=True)}
    return {key: _reordered(value, saved, here, sizes) for key, value in memory.items()}


def _reordered(value: object, saved: Sequence[str], here: Sequence[str], sizes: dict[str, int]) -> object:
    if isinstance(value, list):
        return [_reordered(x, saved, here, sizes) for x in value]
    if not isinstance(value, Tensor) or value.shape != (sum(sizes.values()),):
        return value
    pieces = dict(zip(saved, value.split([sizes[n] for n in saved]), strict=True))
    return torch.cat([pieces[n] for n in here])
