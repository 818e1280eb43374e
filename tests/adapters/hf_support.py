"""What the Hugging Face tests share: tiny models with random weights, a task they can learn, and a silent Trainer.

Nothing is fetched: the hub is switched off before transformers is loaded.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from transformers.utils import logging

import scirs2_adapters as s2
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf

logging.set_verbosity_error()
logging.disable_progress_bar()

#: Those that take the dense gradients of these models.
NAMES = [name for name in s2.names() if s2.get(name).sparse != "rows"]


def _kind(name: str) -> tuple[Any, ...]:
    """What a Trainer could tell apart: how memory is shaped, what a step sums over, whether a rule wraps another."""
    rule = s2.get(name)()
    program = record(rule.route(Leaf((4, 3))), Leaf((4, 3)))
    return (*sorted({s.extent.name for s in program.slots}), program.levels, hasattr(rule, "base"))


#: One of each kind, for whole runs of a Trainer, which take seconds.
KINDS = sorted({_kind(name): name for name in NAMES}.values())

WORDS, LENGTH = 16, 8
_SMALL = {"vocab_size": WORDS, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
_GPT2 = {"n_positions": LENGTH, "n_embd": 16, "n_layer": 1, "n_head": 2}
_LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_DRY = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


def gpt2(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(**_SMALL, **_GPT2, **_DRY))


def llama(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**_SMALL, **_LAYERS, max_position_embeddings=LENGTH))


def bert(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    dry = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(BertConfig(**_SMALL, **_LAYERS, **dry, max_position_embeddings=LENGTH))


MODELS: dict[str, Callable[..., torch.nn.Module]] = {"gpt2": gpt2, "llama": llama, "bert": bert}


def rows(model: torch.nn.Module, count: int = 16) -> list[dict[str, torch.Tensor]]:
    """Runs of consecutive words; a classifier is asked whether the first is in the upper half."""
    ids = [torch.arange(start, start + LENGTH) % WORDS for start in range(count)]
    if isinstance(model, BertForSequenceClassification):
        return [{"input_ids": i, "labels": (i[0] >= WORDS // 2).long()} for i in ids]
    return [{"input_ids": i, "labels": i} for i in ids]


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    """Four steps on the CPU that write nothing unless they are asked to."""
    quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "dataloader_pin_memory": False}
    run = {"use_cpu": True, "max_steps": 4, "per_device_train_batch_size": 4, "logging_steps": 1, "learning_rate": 4e-3}
    return TrainingArguments(str(folder), **{**quiet, **run, **changes})


def trainer(model: torch.nn.Module, args: TrainingArguments, cls: type[Trainer] = Trainer, **keywords: Any) -> Trainer:
    if not {"train_dataset", "model_init"} & keywords.keys():
        keywords["train_dataset"] = rows(model)
    made = cls(model, args, **keywords)
    made.pop_callback(PrinterCallback)
    return made


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same_bits(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
