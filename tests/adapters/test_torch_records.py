"""torch's records of its own optimizers drive ours: what torch's test suite walks, refuses and switches, for each name.

Parameters and memory follow torch's own class; an error is of torch's type and holds torch's sentence.
"""

from __future__ import annotations

import copy
import inspect
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from .torch_records import ALLOWED, RECORDS, Refusal, Walk, allowed, flags, refusals, walks
from .torch_support import CLOSE, distance, each_path, ours, params_of, plain, same, theirs, walk

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def checked() -> Iterator[None]:
    """torch warns of sparse tensors unless it is told whether to check them."""
    with torch.sparse.check_sparse_tensor_invariants():
        yield


each_record = pytest.mark.parametrize("info", RECORDS, ids=lambda info: info.name)
each_walk = pytest.mark.parametrize("row", walks(), ids=str)
MATRICES = ((5, 3), (3, 4))
SHAPES = ((5, 3), (7,), (2, 3, 4, 4), ())


def params(info: Any, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """torch's Muon takes matrices only, and a number has no rows that a sparse gradient could be of."""
    return plain(dtype, MATRICES if info.name == "Muon" else SHAPES[: 3 if info.only_supports_sparse_grads else None])


def lay(info: Any) -> Any:
    """The form in which gradients are given."""
    return lambda g, p: g.to_sparse() if info.only_supports_sparse_grads else g


@pytest.fixture
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """In which torch counts steps and keeps the numbers of one parameter, whatever the parameter's own."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("exact_muon", "default_dtype")
@each_path
@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
@each_walk
def test_torchs_options_give_torchs_trajectory(row: Walk, dtype: torch.dtype, kernel: str) -> None:
    name = row.info.name
    mine = ours(name)(params(row.info, dtype), kernel=kernel, **row.arguments(dtype))
    torchs = theirs(name)(params(row.info, dtype), **row.arguments(dtype))
    for i in range(4):  # compared more than once: a late step can hide the error of an early one
        walk(mine, torchs, steps=2, seed=i, lay=lay(row.info))
        assert distance(mine, torchs) < CLOSE[dtype]


@pytest.mark.usefixtures("exact_muon")
@each_walk
def test_a_dict_goes_on_in_the_other_class_in_mid_run(row: Walk) -> None:
    name = row.info.name
    for first, second in ((ours, theirs), (theirs, ours)):
        donor = first(name)(params(row.info), **row.arguments())
        walk(donor, steps=3, lay=lay(row.info))
        heir = second(name)([p.detach().clone().requires_grad_() for p in params_of(donor)])
        heir.load_state_dict(copy.deepcopy(donor.state_dict()))
        walk(donor, heir, steps=2, seed=6, lay=lay(row.info))
        assert distance(donor, heir) < CLOSE[torch.float32]


@pytest.mark.parametrize("refusal", [r for r in refusals() if not allowed(r)], ids=str)
def test_what_torch_refuses_is_refused_in_torchs_words(refusal: Refusal) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(refusal.raises) as error:
            refusal.trial(ours(refusal.info.name))()
    assert re.search(refusal.sentence, str(error.value))


@pytest.mark.parametrize("line", ALLOWED, ids=lambda line: f"{line.name}-{line.what}")
def test_what_is_allowed_here_alone_is_refused_in_torch_and_works_here(line: Any) -> None:
    covered = [r for r in refusals() if line.covers(r)]
    assert covered
    for refusal in covered:
        with pytest.raises(refusal.raises, match=refusal.sentence):
            refusal.trial(theirs(refusal.info.name))()
        refusal.trial(ours(refusal.info.name))()


@each_path
@pytest.mark.parametrize(("info", "flag"), list(flags()), ids=lambda v: getattr(v, "name", v))
def test_every_implementation_of_torchs_can_be_asked_for_and_changes_nothing(info: Any, flag: str, kernel: str) -> None:
    if flag == "differentiable":
        kernel = "auto"  # the host kernel is no operation that torch could follow
    if flag == "fused" and kernel == "traced":
        return  # asks for both paths at once
    pair = [ours(info.name)(params(info), weight_decay=0.1, kernel=kernel, **{flag: on}) for on in (False, True)]
    for optimizer in pair if flag == "differentiable" else ():
        optimizer.param_groups[0]["params"] = [p.detach() for p in params_of(optimizer)]  # no leaf may be written to
    walk(*pair, steps=4, lay=lay(info))
    assert distance(*pair) < 1e-6 if flag == "differentiable" else same(*pair)


#: Strict: what stands here must differ.
OTHER_ARGUMENTS = {
    ("Adam", "decoupled_weight_decay"): "an Adam with decoupled decay is AdamW, and only that",
    ("Muon", "adjust_lr_fn"): "torch's None stands for what ours says, and ours takes None as well",
}


@each_record
def test_every_argument_of_torchs_is_taken_with_torchs_default(info: Any) -> None:
    mine, torchs = (inspect.signature(f(info.name)).parameters for f in (ours, theirs))
    other = {k for k, p in torchs.items() if k not in mine or mine[k].default != p.default}
    assert other == {argument for name, argument in OTHER_ARGUMENTS if name == info.name}


@each_record
def test_capturable_on_a_cpu_steps_as_usual(info: Any) -> None:
    """torch refuses it there by an assertion; a model that is moved between devices is not stopped here."""
    pair = [ours(info.name)(params(info), capturable=flag) for flag in (False, True)]
    walk(*pair, steps=3, lay=lay(info))
    assert same(*pair)


@pytest.mark.parametrize("first", [ours, theirs], ids=["ours", "torchs"])
@each_walk
def test_dicts_older_than_the_flags_load(row: Walk, first: Any) -> None:
    """As torch itself tests it: each flag that came after the first release is missing, alone and with the others."""
    info, young = row.info, row.info.not_og_supported_flags
    for asked in ({}, *({flag: True} for i, flag in flags() if i is info and flag != "differentiable")):
        if asked.get("foreach") and any(isinstance(v, torch.Tensor) for v in row.arguments().values()):
            continue  # torch takes no tensor there
        donor = first(info.name)(params(info), **(row.arguments() | asked))
        walk(donor, steps=2, lay=lay(info))
        for missing in [*((flag,) for flag in young), young]:
            saved = copy.deepcopy(donor.state_dict())
            for flag in missing:
                saved["param_groups"][0].pop(flag, None)
            mine = ours(info.name)([p.detach().clone().requires_grad_() for p in params_of(donor)])
            mine.load_state_dict(saved)
            assert mine.param_groups[0].keys() >= mine.defaults.keys()
            walk(mine, steps=1, lay=lay(info))


@each_record
def test_complex_parameters_are_stepped_where_torch_steps_them(info: Any) -> None:
    def made() -> list[torch.Tensor]:
        return plain(torch.complex64, ((3, 2), (4,)))

    def tilted(g: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return g * (1 + 2j)

    if not info.supports_complex:
        with pytest.raises((RuntimeError, ValueError), match="not support complex"):
            walk(ours(info.name)(made()), steps=1, lay=tilted)
        return
    options = {"weight_decay": 0.1} if "weight_decay" in inspect.signature(theirs(info.name)).parameters else {}
    mine, torchs = ours(info.name)(made(), **options), theirs(info.name)(made(), **options)
    walk(mine, torchs, steps=5, lay=tilted)
    for p, q in zip(params_of(mine), params_of(torchs), strict=True):
        assert torch.allclose(p, q, rtol=1e-4, atol=1e-6)
        for key, x in torchs.state.get(q, {}).items():
            assert torch.allclose(mine.state[p][key], x, rtol=1e-4, atol=1e-6), key
