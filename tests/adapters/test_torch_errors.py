"""What is refused, when, and in which words: ours and torch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scirs2_adapters.adapters.torch.optimizer import optimizer
from scirs2_adapters.core import Wrapper, get, names, with_closure, with_value

from .torch_support import ids, ours, plain, theirs

NAN = float("nan")


def refused(params: Any) -> Any:
    """Parameters that must not be touched before the arguments have been checked."""
    raise AssertionError
    yield params


BAD = [
    ("AdamW", {"lr": -1}, "`AdamW(lr=...)` must be a finite number >= 0. Received: -1. Invalid learning rate: -1"),
    ("AdamW", {"lr": NAN}, "Invalid learning rate: nan"),
    ("AdamW", {"betas": (1.0, 0.9)}, "`AdamW(betas[0]=...)` must be in [0, 1). Received: 1.0."),
    ("Adam", {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
    ("Adam", {"betas": (0.9, 1.5)}, "Invalid beta parameter at index 1: 1.5"),
    ("SGD", {"weight_decay": -1}, "Invalid weight_decay value: -1"),
    ("SGD", {"momentum": -0.5}, "Invalid momentum value: -0.5"),
    ("SGD", {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
    ("RMSprop", {"eps": -1}, "Invalid epsilon value: -1"),
    ("RMSprop", {"alpha": -1}, "Invalid alpha value: -1"),
    ("Adafactor", {"lr": -1}, "Learning rate should be >= 0 but is: -1"),
    ("AdamW", {"lr": torch.zeros(2)}, "Tensor lr must be 1-element"),
    ("AdamW", {"kernel": "hots"}, "Did you mean `host`?"),
    ("AdamW", {"state_dtype": "int3"}, "`AdamW(state_dtype=...)` must be None, one of"),
    ("AdamW", {"match": "mxnet"}, "`AdamW(match=...)` must be None or one of"),
]


@pytest.mark.parametrize(("name", "options", "text"), BAD, ids=ids)
def test_a_bad_value_is_refused_before_the_parameters_are_touched(name: str, options: Any, text: str) -> None:
    with pytest.raises(ValueError, match="Received") as error:
        ours(name)(refused([]), **options)
    assert text in str(error.value)


def test_a_bad_name_and_a_bad_type_are_refused() -> None:
    with pytest.raises(TypeError, match=r"has no argument `weigth_decay`\. Did you mean `weight_decay`\?"):
        ours("AdamW")(refused([]), weigth_decay=0.1)
    with pytest.raises(TypeError, match=r"AdamW\(lr=...\).*\(str\)"):
        ours("AdamW")(refused([]), lr="fast")
    with pytest.raises(TypeError, match=r"AdamW\(foreach=...\)"):
        ours("AdamW")(refused([]), foreach="yes")
    with pytest.raises(TypeError, match="twice"):
        ours("AdamW")(refused([]), 0.1, lr=0.1)


@pytest.mark.parametrize("params", [[], torch.zeros(2), [1], [torch.zeros(2, requires_grad=True) * 2]], ids=str)
def test_bad_parameters_are_refused_as_in_torch(params: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as mine:
        ours("AdamW")(params)
    with pytest.raises(type(mine.value)) as torchs:
        theirs("AdamW")(params)
    assert str(mine.value) == str(torchs.value)


def test_flags_that_contradict_one_another_are_refused() -> None:
    with pytest.raises(RuntimeError, match="`fused` and `foreach` cannot be `True` together"):
        ours("AdamW")(refused([]), fused=True, foreach=True)
    with pytest.raises(RuntimeError, match="`fused` does not support `differentiable`"):
        ours("AdamW")(refused([]), fused=True, differentiable=True)
    with pytest.raises(
        ValueError, match=r"AdamW\(kernel=...\)` must be the host kernel where `fused=True` asks for it"
    ):
        ours("AdamW")(refused([]), fused=True, kernel="traced")
    with pytest.raises(ValueError, match="lr as a Tensor is not supported for capturable=False and foreach=True"):
        ours("AdamW")(refused([]), lr=torch.tensor(0.1), foreach=True)


def test_a_groups_own_value_is_checked_too() -> None:
    with pytest.raises(ValueError, match="Invalid learning rate: -2"):
        ours("AdamW")([{"params": plain(), "lr": -2}])


def test_the_host_kernel_where_it_cannot_run_is_an_error_that_says_what_to_do() -> None:
    for p in (torch.zeros(2, device="meta"), torch.zeros(2, dtype=torch.complex64)):
        with pytest.raises(ValueError, match=r'AdamW\(kernel=...\)` cannot be the host kernel here.*kernel="traced"'):
            ours("AdamW")([p.requires_grad_()], kernel="host")


def test_sparse_gradients_are_refused_and_change_nothing() -> None:
    p, q = torch.nn.Parameter(torch.ones(4, 2)), torch.nn.Parameter(torch.ones(2))
    optimizer = ours("AdamW")([q, p])
    p.grad, q.grad = torch.ones(4, 2).to_sparse(), torch.ones(2)
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        optimizer.step()
    assert torch.equal(q, torch.ones(2))
    p.grad = torch.ones(4, 2)
    optimizer.step()
    p.grad = torch.ones(4, 2).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


@pytest.mark.parametrize("kernel", ["auto", "traced"])
def test_whole_numbers_are_no_parameters(kernel: str) -> None:
    p = torch.full((3,), 10)
    p.grad = torch.ones_like(p)
    optimizer = ours("SGD")([p], lr=0.5, kernel=kernel)
    with pytest.raises(RuntimeError, match=r"steps floating point and complex parameters\. Received: torch\.int64"):
        optimizer.step()
    assert p.tolist() == [10, 10, 10]


def test_a_word_of_the_core_is_answered_with_torchs() -> None:
    with pytest.raises(TypeError, match=r"has no argument `learning_rate`\. Did you mean `lr`\?"):
        ours("AdamW")(refused([]), learning_rate=0.1)
    with pytest.raises(TypeError, match=r"has no argument `beta2`\. Did you mean `betas`\?"):
        ours("AdamW")(refused([]), beta2=0.9)


def test_without_parameters_the_class_is_named() -> None:
    with pytest.raises(TypeError, match=r"^AdamW\.__init__\(\) missing"):
        ours("AdamW")()  # type: ignore[call-arg]


def test_a_step_that_is_refused_leaves_no_memory() -> None:
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    p.grad = torch.ones_like(p)
    opt = ours("SGD")([p], lr=0.1, momentum=0.9, dampening=0.5)
    opt.param_groups[0]["kernel"] = "host"
    with pytest.raises(ValueError, match="traced"):
        opt.step()
    assert not opt.state
    opt.param_groups[0]["kernel"] = "auto"
    opt.step()  # counts as the first one: the buffer is the gradient, undampened
    torch.testing.assert_close(opt.state[p]["momentum_buffer"], p.grad)


@pytest.mark.parametrize("state_dict", [{}, {"state": {}}], ids=str)
def test_what_is_no_state_dict_is_told_so(state_dict: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"AdamW\.load_state_dict\(state_dict=...\)` must be a dict with the keys"):
        ours("AdamW")(plain()).load_state_dict(state_dict)


@pytest.mark.parametrize("name", [*names(), *with_value(), *with_closure()])
def test_an_optimizer_in_the_place_of_parameters_is_refused(name: str) -> None:
    cls = optimizer(name)
    inner = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    with pytest.raises(TypeError, match=rf"`{cls.__name__}\(params=...\)` must be parameters .*'SGD'") as caught:
        cls(inner)
    assert ("Write `" in str(caught.value)) == issubclass(cls.rule_class, Wrapper)


@pytest.mark.parametrize("name", [n for n in names() if issubclass(get(n), Wrapper) and n != "cautiousdecay"])
def test_a_wrapper_of_an_optimizer_is_written_with_its_name(name: str) -> None:
    cls, parameters = optimizer(name), [torch.nn.Parameter(torch.ones(2))]
    with pytest.raises(TypeError, match=rf'Write `{cls.__name__}\(parameters, base="adagrad"\)`'):
        cls(torch.optim.Adagrad(parameters))
    assert cls(parameters, base="adagrad").param_groups[0]["params"] == parameters
