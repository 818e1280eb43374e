"""Hugging Face: TRL's SFTTrainer gives a GPT-2 LoRA matrices, and trains them and the last normalization alone.

Needs `pip install trl peft`. Run it with `python examples/hf_lora.py`.
"""

import inspect
import json.decoder
import tempfile

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from scirs2_adapters.hf import OptimizerMonitor, optim

CONTEXT = 64


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte, and one for the end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate([*alphabet, "<end>"])}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", pad_token="<end>")


def data() -> Dataset:
    """The paragraphs of a module of the standard library."""
    paragraphs = inspect.getsource(json.decoder).split("\n\n")
    return Dataset.from_dict({"text": [text for text in paragraphs if len(text) >= CONTEXT]})


def main(steps: int = 40) -> list[float]:
    """The losses."""
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2, n_head=2, n_embd=64, vocab_size=257, n_positions=CONTEXT, bos_token_id=256, eos_token_id=256
    )
    lora = LoraConfig(
        r=16, lora_alpha=32, target_modules=["c_attn", "c_fc", "c_proj"], fan_in_fan_out=True,
        modules_to_save=["ln_f"], task_type="CAUSAL_LM",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        args = SFTConfig(
            folder, max_steps=steps, learning_rate=1e-2, weight_decay=0.01, per_device_train_batch_size=16,
            max_length=CONTEXT, activation_checkpointing=False, bf16=False, use_cpu=True, logging_steps=1, report_to=[],
            save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = SFTTrainer(
            GPT2LMHeadModel(config), args, train_dataset=data(), processing_class=tokenizer(), peft_config=lora,
            optimizer_cls_and_kwargs=optim("adamw", args, lr_by={"ln_f": 3e-2}), callbacks=[OptimizerMonitor(every=10)],
        )  # fmt: skip
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    losses = main()
    print(f"hf_lora: loss {losses[0]:.3f} -> {losses[-1]:.3f}")
