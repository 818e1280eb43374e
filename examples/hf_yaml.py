"""Hugging Face: a configuration in YAML names the optimizer, and its hyperparameters as text.

Run it with `python examples/hf_yaml.py`, or `python examples/hf_yaml.py my.yaml`.
"""

import inspect
import json.decoder
import sys
import tempfile
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, HfArgumentParser, Trainer, TrainingArguments

from scirs2_adapters.hf import register

CONTEXT = 64
CONFIGURATION = r"""
max_steps: 30
learning_rate: 0.003
weight_decay: 0.1
adam_beta2: 0.99
optim: scirs2_adamw_8bit
optim_args: lr_by=wte|wpe:1e-3;h\.(\d+):LayerDecay(0.9)
per_device_train_batch_size: 16
logging_steps: 1
use_cpu: true
report_to: none
save_strategy: "no"
disable_tqdm: true
"""


def data() -> list[dict[str, torch.Tensor]]:
    """The bytes of a module of the standard library, in rows."""
    text = torch.tensor(list(inspect.getsource(json.decoder).encode()))
    rows = text[: len(text) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    return [{"input_ids": row, "labels": row} for row in rows]


def main(file: Path) -> list[float]:
    """The losses."""
    register()
    (args,) = HfArgumentParser(TrainingArguments).parse_yaml_file(str(file))
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2, n_head=2, n_embd=64, vocab_size=256, n_positions=CONTEXT, bos_token_id=0, eos_token_id=0
    )
    trainer = Trainer(GPT2LMHeadModel(config), args, train_dataset=data())
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        default = Path(folder, "args.yaml")
        default.write_text(f"{CONFIGURATION}output_dir: {folder}\n")
        losses = main(Path(sys.argv[1]) if sys.argv[1:] else default)
    print(f"hf_yaml: loss {losses[0]:.3f} -> {losses[-1]:.3f}")
