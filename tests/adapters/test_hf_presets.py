"""Names that configurations for transformers use: each is served by a rule of ours, or the error says who has it."""

import contextlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Adafactor, Trainer, trainer_optimizer
from transformers.training_args import OptimizerNames

import scirs2_adapters as s2
import scirs2_adapters.torch as adapter
from scirs2_adapters.adapters.hf.presets import served
from scirs2_adapters.hf import optim, register, with_optimizer
from tests.adapters.hf_support import NAMES, arguments, gpt2, trainer
from tests.boundaries.support import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")
THEIRS = sorted(name.value for name in OptimizerNames if not name.value.startswith("scirs2_"))
SERVED = sorted(served())
#: Those that project what `optim_target_modules` names, of which test_hf_targets.py has more.
TARGETED = sorted(name for name, preset in served().items() if preset.targets)
each_served = pytest.mark.parametrize("name", SERVED)


def chosen(way: str, name: str, folder: Path, **changes: Any) -> tuple[type, dict[str, Any]]:
    """Class and keywords by one of our ways."""
    changes = {"optim_target_modules": "all-linear"} | changes
    if way == "optim":
        return optim(name, arguments(folder, **changes))
    if way == "register":
        register()
        return Trainer.get_optimizer_cls_and_kwargs(arguments(folder, optim=f"scirs2_{name}", **changes))
    return with_optimizer(Trainer, name).get_optimizer_cls_and_kwargs(arguments(folder, **changes))


each_way = pytest.mark.parametrize("way", ["optim", "register", "with_optimizer"])


@pytest.mark.parametrize("name", THEIRS)
def test_every_name_is_served_or_the_error_says_by_whom(name: str, tmp_path: Path) -> None:
    if name in TARGETED:
        assert optim(name, arguments(tmp_path, optim_target_modules="all-linear"))[1]["rank"] == 128
        return
    if name in SERVED or name in NAMES:
        cls, keywords = optim(name, arguments(tmp_path))
        assert issubclass(cls, getattr(adapter, s2.get(served()[name].rule if name in SERVED else name).__name__))
        assert isinstance(cls([torch.zeros(2, requires_grad=True)], **keywords), torch.optim.Optimizer)
        return
    register()
    ways = {"optim(name=...)": lambda: optim(name, arguments(tmp_path)), "with_optimizer(name=...)": _subclass(name)}
    ways["TrainingArguments(optim=...)"] = lambda: arguments(tmp_path, optim=f"scirs2_{name}")
    for call, make in ways.items():
        with pytest.raises(ValueError, match=rf"`{re.escape(call)}`.*`{name}` is in the package [\w-]+\..*optim="):
            make()


def test_the_documentation_lists_every_name_that_is_served() -> None:
    text = (ROOT / "docs" / "hf.md").read_text(encoding="utf-8")
    section = text[text.index("## Names of Transformers") : text.index("## Watching the optimizer")]
    assert [name for name in THEIRS if (name in SERVED or name in NAMES) and f"`{name}`" not in section] == []


def _subclass(name: str) -> Any:
    return lambda: with_optimizer(Trainer, name)


@each_way
@each_served
def test_a_name_says_how_memory_is_stored(name: str, way: str, tmp_path: Path) -> None:
    stored = chosen(way, name, tmp_path)[1].get("state_dtype")
    as_parameters = ("adamw_torch", "apollo", "galore", "schedule", "stable")
    bits = "int8" if "8bit" in name else None if name.startswith(as_parameters) else "float32"
    assert stored == bits


def test_a_member_of_the_enumeration_is_its_name(tmp_path: Path) -> None:
    args = arguments(tmp_path, optim="adamw_8bit")
    assert optim(args.optim, args)[1] == optim("adamw_8bit", args)[1]


def their_keywords(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, model: torch.nn.Module | None = None, **changes: Any
) -> dict[str, Any]:
    """What transformers itself would pass to the package of this name; the packages are empty ones."""
    free = ("AdamWScheduleFree", "RAdamScheduleFree", "SGDScheduleFree")
    low_rank = ("APOLLOAdamW", "GaLoreAdafactor", "GaLoreAdamW", "GaLoreAdamW8bit")
    made = ("AdEMAMix", "AdamW", "Lion", "RMSprop", "StableAdamW", *free, *low_rank)
    classes = dict.fromkeys(made, torch.optim.SGD)
    for package in ("bitsandbytes", "bitsandbytes.optim", "schedulefree", "optimi", "galore_torch", "apollo_torch"):
        monkeypatch.setitem(sys.modules, package, SimpleNamespace(**classes))
    for package in ("bitsandbytes", "schedulefree", "torch_optimi", "galore_torch", "apollo_torch"):
        monkeypatch.setattr(trainer_optimizer, f"is_{package}_available", lambda *_: True)
    return Trainer.get_optimizer_cls_and_kwargs(arguments(folder, optim=name, **changes), model)[1]


@each_way
@pytest.mark.parametrize(
    "name",
    ["ademamix"] + [n for n in SERVED if n in THEIRS and not n.endswith(("xla", "npu_fused")) and n not in TARGETED],
)
def test_values_come_from_where_transformers_takes_them(
    name: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-5, "warmup_steps": 3, "weight_decay": 0.1}
    if name not in ("adamw_torch_8bit", "adamw_anyprecision"):  # which look for a package in other ways
        theirs = their_keywords(name, tmp_path, monkeypatch, **changes)
    else:
        theirs = {"betas": (0.8, 0.95), "eps": 1e-5, "lr": 4e-3}
    ours = chosen(way, name, tmp_path, **changes)[1]
    cls = chosen(way, name, tmp_path, **changes)[0]
    group = cls([torch.zeros(2, requires_grad=True)], **ours).param_groups[0]
    shared = theirs.keys() & group.keys() - {"fused"}
    assert "lr" in shared
    assert {word: group.get(word, ours.get(word)) for word in shared} == {word: theirs[word] for word in shared}


@each_way
@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("adamw_torch_8bit", "bf16_stochastic_round=True,block_size=256", {"rounding": "stochastic"}),
        ("adamw_torch_8bit", "bf16_stochastic_round=False", {"state_dtype": "int8"}),
        (
            "adamw_anyprecision",
            "use_kahan_summation=True,momentum_dtype=bfloat16",
            {"rounding": "compensated", "state_dtype": {"exp_avg": "bfloat16", "exp_avg_sq": "float32"}},
        ),
        ("rmsprop_bnb", "alpha=0.9,momentum=0.5", {"alpha": 0.9, "momentum": 0.5}),
        ("schedule_free_adamw", "r=1.0,weight_lr_power=1.5", {"r": 1.0, "weight_lr_power": 1.5}),
        ("stable_adamw", "kahan_sum=True", {"rounding": "compensated"}),
        ("adamw_8bit", "state_dtype=bfloat16", {"state_dtype": "bfloat16"}),
        ("adamw", "betas=(0.8;0.95)", {"betas": (0.8, 0.95)}),
        ("lion_8bit", "betas=0.8;0.95", {"betas": (0.8, 0.95)}),
        ("ademamix", "betas=(0.8;0.95;0.99),t_alpha=10", {"betas": (0.8, 0.95, 0.99), "t_alpha": 10}),
        (
            "ademamix_8bit",
            "beta3=0.99,alpha=3.0,t_beta3=20",
            {"betas": (0.9, 0.999, 0.99), "alpha": 3.0, "t_beta3": 20},
        ),
        ("rprop", "etas=(0.4;1.1)", {"etas": (0.4, 1.1)}),
    ],
)
def test_optim_args_are_read(name: str, text: str, expected: dict[str, Any], way: str, tmp_path: Path) -> None:
    keywords = chosen(way, name, tmp_path, optim_args=text)[1]
    assert {word: keywords.get(word) for word in expected} == expected


@each_way
@pytest.mark.parametrize("text", ["betas=(0.8,0.95)", "betas=(0.8, 0.95), eps=1e-5", "eps=1e-5,betas=0.8,0.95"])
def test_a_tuple_may_have_commas(text: str, way: str, tmp_path: Path) -> None:
    assert chosen(way, "adamw", tmp_path, optim_args=text)[1]["betas"] == (0.8, 0.95)


class Words(dict[str, str]):
    """`optim_args` that notes which words are asked for, and has none."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, word: str, default: Any = None) -> Any:
        self.asked.add(word)
        return default

    pop = get

    def __contains__(self, word: object) -> bool:
        self.asked.add(str(word))
        return False

    def __bool__(self) -> bool:
        return True


#: What says in each word of transformers what is done here in any case.
SAID = {"block_size": "256", "gamma": "0", "max_lr": "none", "momentum_dtype": "bfloat16", "variance_dtype": "bfloat16"}
SAID |= {"compensation_buffer_dtype": "bfloat16", "weight_decay": "0.0", "t_alpha": "3", "t_beta3": "3"}
SAID |= {"rank": "4", "update_proj_gap": "5", "proj": "random", "proj_type": "std", "scale_type": "tensor"}
FLAGS = ("nesterov", "centered", "kahan_sum", "decouple_lr", "use_kahan_summation", "bf16_stochastic_round")
SAID |= dict.fromkeys(FLAGS, "no")


@each_way
@pytest.mark.parametrize("name", [name for name in THEIRS if name in SERVED or name in NAMES])
def test_every_word_that_transformers_reads_for_a_name_is_taken(
    name: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = Words()
    monkeypatch.setattr("transformers.trainer._parse_optim_args", lambda _: words)
    with contextlib.suppress(ImportError, ValueError):  # of packages that cannot be replaced by empty ones
        their_keywords(name, tmp_path, monkeypatch)
    texts = [f"{word}={SAID.get(word, '0.5')}" for word in sorted(words.asked)]
    cls, keywords = chosen(way, name, tmp_path, optim_args=",".join(texts))
    assert issubclass(cls, torch.optim.Optimizer)
    read = [word for word in words.asked & keywords.keys() if SAID.get(word, "0.5") == "0.5"]
    assert {word: keywords[word] for word in read} == dict.fromkeys(read, 0.5)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("adamw", "beta3=0.9", r"`optim` has no argument `beta3` for `optim_args`"),
        ("adamw", "rank=4", r"`optim` has no argument `rank`"),
        ("adamw", "nonsense", r"`TrainingArguments\(optim_args=...\)` must be pairs.*Received: 'nonsense'"),
        ("adamw_torch_8bit", "block_size=64", r"must have block_size=256, or leave .*: 'block_size=64'. Blocks of"),
        (
            "stable_adamw",
            "decouple_lr=1",
            r"must have decouple_lr=False, or leave .*: 'decouple_lr=1'. Weight decay is",
        ),
        ("stable_adamw", "kahan_sum=perhaps", r"must have True or False as kahan_sum. Received: 'kahan_sum=perhaps'"),
        ("grokadamw", "gamma=0.1", r"must have gamma=0, or leave gamma out. Received: 'gamma=0.1'. beta1 does not"),
        ("adamw", "eps=1e-5,eps=1e-6", r"must have one value of eps. Received: 'eps=1e-5,eps=1e-6'"),
        ("adamw_8bit", "bf16_stochastic_round=1", r"has no argument `bf16_stochastic_round`"),
        ("schedule_free_adamw", "r=fast", r"`optim\(r=...\)` must be a finite number >= 0. Received: 'fast'"),
    ],
)
def test_bad_optim_args_are_refused_by_every_way(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        optim(name, arguments(tmp_path, optim_args=text))


def test_warm_up_is_counted_in_steps(tmp_path: Path) -> None:
    for warmup, steps in ((3, 3), (3.0, 3), (0.5, 2), (0, 0)):
        assert chosen("optim", "schedule_free_adamw", tmp_path, warmup_steps=warmup)[1]["warmup_steps"] == steps
    with pytest.raises(ValueError, match=r"warmup_steps=...\)` must be a number of steps.*Received: 0.5"):
        chosen("optim", "schedule_free_adamw", tmp_path, warmup_steps=0.5, max_steps=-1)


def test_eight_bits_are_what_a_run_stores(tmp_path: Path) -> None:
    model = gpt2()
    model.resize_token_embeddings(4096 // model.config.n_embd)
    made = trainer(model, arguments(tmp_path), with_optimizer(Trainer, "paged_lion_8bit"))
    made.train()
    stored = {state["exp_avg"].dtype for state in made.optimizer.state.values()}
    assert stored == {torch.int8, torch.float32}


@pytest.mark.parametrize(
    "words",
    [
        {"lr": 1e-2, "relative_step": False, "scale_parameter": False, "weight_decay": 0.1},
        {},
        {"warmup_init": True, "beta1": 0.9},
    ],
)
def test_adafactor_can_be_that_of_transformers(words: dict[str, Any]) -> None:
    """As docs/hf.md says: the name is that of our rule, whose defaults are torch's."""
    torch.manual_seed(0)
    start = [torch.randn(8, 6).double(), torch.randn(6).double()]
    params, others = ([torch.nn.Parameter(p.clone()) for p in start] for _ in range(2))
    ours, theirs = (
        cls(ps, eps=(1e-30, 1e-3), **words) for cls, ps in ((adapter.Adafactor, params), (Adafactor, others))
    )
    for _ in range(4):
        for p, q in zip(params, others, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        ours.step()
        theirs.step()
    for p, q, before in zip(params, others, start, strict=True):
        assert (p - q).norm() < 1e-6 * (q - before).norm()
