"""Trainers of other packages with our optimizers: TRL's SFT, DPO and Reward, LoRA, and a loss of sentence-transformers.

Their packages are an optional group of 230 MB: `make test-trainers` installs it and runs this file.
"""

from pathlib import Path
from typing import Any

import pytest

REASON = "in the optional group: make test-trainers"
trl = pytest.importorskip("trl", reason=REASON)
peft = pytest.importorskip("peft", reason=REASON)
sentence_transformers = pytest.importorskip("sentence_transformers", reason=REASON)

import torch  # noqa: E402
from datasets import Dataset, disable_progress_bars  # noqa: E402
from transformers import GPT2Config, GPT2ForSequenceClassification, PreTrainedTokenizerFast, Trainer  # noqa: E402

import scirs2_adapters.torch as adapter  # noqa: E402
from scirs2_adapters.core import get  # noqa: E402
from scirs2_adapters.hf import optim, with_optimizer  # noqa: E402
from tests.adapters.hf_support import KINDS, gpt2, weights  # noqa: E402
from tests.adapters.test_examples import ALL, printed  # noqa: E402
from tests.boundaries.support import ROOT  # noqa: E402

# PEFT reads names that transformers 5.23 is about to drop.
pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.usefixtures("one_thread")]
disable_progress_bars()


def tokenizer() -> PreTrainedTokenizerFast:
    """The words w0 ... w15 of the tiny models; one of them is the end."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({f"w{i}": i for i in range(16)}, unk_token="w2"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="w2", pad_token="w2", eos_token="w1")


def text(start: int) -> str:
    return " ".join(f"w{3 + (start + i) % 13}" for i in range(3))


def arguments(cls: Any, folder: Path, name: str, **changes: Any) -> Any:
    """Two steps at a rate at which every optimizer moves."""
    quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "dataloader_pin_memory": False}
    run = {"use_cpu": True, "bf16": False, "max_steps": 2, "per_device_train_batch_size": 4, "weight_decay": 0.1}
    run |= {"learning_rate": max(4e-3, get(name)().learning_rate), "activation_checkpointing": False, "max_length": 8}
    return cls(str(folder), **quiet, **run, **changes)


PAIRS = {"prompt": [text(i) for i in range(8)]} | {
    "chosen": [f" {text(i + 3)}" for i in range(8)],
    "rejected": [f" {text(2 * i)}" for i in range(8)],
}


def sft(folder: Path, name: str, peft_config: Any = None, **hyper: Any) -> Trainer:
    args = arguments(trl.SFTConfig, folder, name)
    data, pair = Dataset.from_dict({"text": [text(i) for i in range(8)]}), optim(name, args, **hyper)
    return trl.SFTTrainer(gpt2(), args, train_dataset=data, processing_class=tokenizer(), peft_config=peft_config,
                          optimizer_cls_and_kwargs=pair)  # fmt: skip


def dpo(folder: Path, name: str) -> Trainer:
    """It takes no `optimizer_cls_and_kwargs`."""
    args = arguments(trl.DPOConfig, folder, name)
    cls = with_optimizer(trl.DPOTrainer, name)
    data = Dataset.from_dict(PAIRS)
    return cls(gpt2(), gpt2(), args=args, train_dataset=data, processing_class=tokenizer())


def reward(folder: Path, name: str) -> Trainer:
    args = arguments(trl.RewardConfig, folder, name)
    torch.manual_seed(0)
    sizes = {"vocab_size": 16, "n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 2, "num_labels": 1}
    model = GPT2ForSequenceClassification(GPT2Config(**sizes, pad_token_id=2, bos_token_id=0, eos_token_id=1))
    data, pair = Dataset.from_dict(PAIRS), optim(name, args)
    return trl.RewardTrainer(model, args, train_dataset=data, processing_class=tokenizer(),
                             optimizer_cls_and_kwargs=pair)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("way", "name"), [((sft, dpo, reward)[i % 3], name) for i, name in enumerate(KINDS)])
def test_trainers_of_trl_train_with_every_kind_of_optimizer(way: Any, name: str, tmp_path: Path) -> None:
    made = way(tmp_path, name)
    before = weights(made.model)
    made.train()
    assert type(made.optimizer.optimizer) is getattr(adapter, get(name).__name__)
    assert made.state.global_step == 2
    assert any(not torch.equal(before[n], p) for n, p in made.model.named_parameters())
    assert [group["weight_decay"] for group in made.optimizer.param_groups] == [0.1, 0.0]


def lora(modules: list[str] | str) -> Any:
    return peft.LoraConfig(r=2, target_modules=modules, fan_in_fan_out=True, task_type="CAUSAL_LM")


@pytest.mark.slow
@pytest.mark.parametrize(("modules", "layers"), [(["c_attn"], 1), ("all-linear", 4)])
def test_only_the_matrices_of_lora_are_in_the_groups_and_move(
    modules: list[str] | str, layers: int, tmp_path: Path
) -> None:
    made = sft(tmp_path, "adamw", lora(modules))
    before = weights(made.model)
    made.train()
    moved = {n for n, p in made.model.named_parameters() if not torch.equal(before[n], p)}
    ids = {id(p) for group in made.optimizer.param_groups for p in group["params"]}
    held = {n for n, p in made.model.named_parameters() if id(p) in ids}
    assert moved == held == {n for n in before if "lora_" in n}
    assert len(held) == len(made.optimizer.state) == 2 * layers


@pytest.mark.slow
def test_the_second_matrices_of_lora_have_the_rate_of_lora_plus(tmp_path: Path) -> None:
    made = sft(tmp_path, "adamw", lora("all-linear"), lr_by={"lora_B": 0.064})
    names = {id(p): n for n, p in made.model.named_parameters()}
    groups = made.create_optimizer().param_groups
    rates = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
    assert rates == {n: 0.064 if "lora_B" in n else made.args.learning_rate for n in names.values() if "lora_" in n}
    assert {*rates.values()} == {0.064, 4e-3}


@pytest.mark.slow
def test_the_examples_of_lora_and_of_sentences_learn() -> None:
    typed = [[str(ROOT / "examples" / name)] for name in ("hf_lora.py", "hf_sentences.py")]
    lines = printed("-W", "ignore::FutureWarning", "-c", ALL.format(typed), HF_HUB_OFFLINE="1").splitlines()
    words = {line.split(":")[0]: line.split() for line in lines if line.startswith(("hf_lora:", "hf_sentences:"))}
    assert float(words["hf_lora"][4]) < 0.92 * float(words["hf_lora"][2])
    assert float(words["hf_sentences"][4].strip(";")) < 0.9 * float(words["hf_sentences"][2])
    assert float(words["hf_sentences"][-1]) > 0.1
    assert [line for line in lines if line.startswith("  ln_f no decay ") and line.endswith("kernel")]
