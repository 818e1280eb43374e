"""Checkpoints: a resumed run ends with the bits of an uninterrupted one, and another optimizer's is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

import scirs2_adapters as s2
from scirs2_adapters.hf import optim
from tests.adapters.hf_support import KINDS, arguments, gpt2, same_bits, trainer, weights
from tests.adapters.torch_support import learned

pytestmark = pytest.mark.usefixtures("one_thread")
each_kind = pytest.mark.parametrize("name", KINDS)
PLAIN = (torch.Tensor, str, int, float, bool, type(None))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def run(folder: Path, name: str | None, dtype: str = "float32", resume: bool = False, **hyper: Any) -> Trainer:
    """Four steps with a checkpoint after two, or the last two of them; without a name, by torch's own AdamW."""
    changes = {"save_strategy": "steps", "save_steps": 2, "weight_decay": 0.1}
    args = arguments(folder, **changes, **({} if name else {"optim": "adamw_torch"}))
    hyper |= learned(name) if name and dtype == "bfloat16" else {}
    keywords = {"optimizer_cls_and_kwargs": optim(name, args, **hyper)} if name else {}
    made = trainer(gpt2().to(DTYPES[dtype]), args, **keywords)
    made.train(resume_from_checkpoint=str(folder / "checkpoint-2") if resume else None)
    return made


@each_kind
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_resumed_run_ends_with_the_same_bits(dtype: str, name: str, tmp_path: Path) -> None:
    whole, resumed = run(tmp_path, name, dtype), run(tmp_path, name, dtype, resume=True)
    assert resumed.state.global_step == 4
    assert same_bits(whole.model, resumed.model)


@pytest.mark.parametrize("name", ["adamw", "prodigy"])
def test_memory_keeps_its_dtype_through_a_checkpoint(name: str, tmp_path: Path) -> None:
    whole = run(tmp_path, name, "bfloat16", state_dtype="float32")
    resumed = run(tmp_path, name, "bfloat16", resume=True, state_dtype="float32")
    moments = [state["exp_avg"] for state in resumed.optimizer.state.values()]
    assert {m.dtype for m in moments} == {torch.float32}
    assert same_bits(whole.model, resumed.model)


@each_kind
def test_a_checkpoint_holds_tensors_and_plain_values_only(name: str, tmp_path: Path) -> None:
    run(tmp_path, name)
    saved = torch.load(tmp_path / "checkpoint-2" / "optimizer.pt", weights_only=True)
    assert list(not_plain(saved)) == []


def not_plain(value: Any) -> Any:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from not_plain(item)
    elif type(value) not in PLAIN:
        yield value


def saved_by(name: str) -> dict[str, Any]:
    made, _ = stepped(name)
    return made.state_dict()


def stepped(name: str, **hyper: Any) -> tuple[torch.optim.Optimizer, torch.nn.Parameter]:
    import scirs2_adapters.torch as adapter

    p = torch.nn.Parameter(torch.ones(4, 4))
    made = getattr(adapter, s2.get(name).__name__)([p], **hyper)
    p.grad = torch.ones_like(p)
    made.step()
    return made, p


@each_kind
def test_the_state_of_another_optimizer_is_refused_while_loading(name: str) -> None:
    for other in [n for n in KINDS if n != name]:
        made, p = stepped(name, **({"s_init": 1.0} if name == "mechanize" else {}))  # from 1e-6 nothing moves at once
        before, state = p.detach().clone(), saved_by(other)
        with pytest.raises(ValueError, match=rf"(?i)({name}\b.*\b{other}\b|{other}\b.*\b{name}\b)"):
            made.load_state_dict(state)
        made.step()
        assert not torch.equal(p, before)


@each_kind
def test_the_algorithm_is_written_into_the_state(name: str) -> None:
    assert saved_by(name)["param_groups"][0]["algorithm"].casefold().startswith(name)


def test_the_same_wrapper_around_another_optimizer_is_another_optimizer() -> None:
    first, _ = stepped("lookahead", base="adam")
    second, _ = stepped("lookahead", base="adamw")
    with pytest.raises(ValueError, match=r"saved by Lookahead\(Adam\)"):
        second.load_state_dict(first.state_dict())


@pytest.mark.parametrize(("saved", "loading"), [("adamw", "lion"), ("sgd", "adamw"), ("adam", "adamw")])
def test_resuming_under_another_optimizer_is_refused(saved: str, loading: str, tmp_path: Path) -> None:
    run(tmp_path, saved)
    with pytest.raises(ValueError, match=rf"(?i)({saved}\b.*\b{loading}\b|{loading}\b.*\b{saved}\b)"):
        run(tmp_path, loading, resume=True)


def test_a_run_of_torchs_own_adamw_goes_on(tmp_path: Path) -> None:
    whole = weights(run(tmp_path, None).model)
    resumed = weights(run(tmp_path, "adamw", resume=True).model)
    assert max((whole[k] - resumed[k]).abs().max() for k in whole) < 1e-6


def test_a_run_of_torchs_own_adamw_is_refused_by_another_optimizer(tmp_path: Path) -> None:
    run(tmp_path, None)
    with pytest.raises(ValueError, match=r"(?i)lion"):
        run(tmp_path, "lion", resume=True)
