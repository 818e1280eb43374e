"""Hugging Face: a BERT classifier whose learning rate falls from the last layer to the embeddings.

It tells the lines of one module of the standard library from those of another. Run it with
`python examples/hf_bert.py`.
"""

import email.message
import inspect
import json.decoder
import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from scirs2_adapters.hf import LayerDecay, with_optimizer

LENGTH = 32


def data() -> list[dict[str, torch.Tensor]]:
    """Lines as bytes, with the number of their module."""
    rows = []
    for label, module in enumerate((json.decoder, email.message)):
        lines = [line.strip().encode() for line in inspect.getsource(module).splitlines()]
        for line in [line for line in lines if len(line) >= LENGTH][:96]:
            rows.append({"input_ids": torch.tensor(list(line[:LENGTH])), "labels": torch.tensor(label)})
    return rows


def main(steps: int = 40) -> float:
    """The part of lines whose module is found."""
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=256,
        max_position_embeddings=LENGTH, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model, rows = BertForSequenceClassification(config), data()
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, max_steps=steps, learning_rate=5e-3, per_device_train_batch_size=32, logging_steps=10,
            use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        BertTrainer = with_optimizer(Trainer, "adamw", lr_by={r"embeddings|layer\.(\d+)": LayerDecay(0.8)})
        trainer = BertTrainer(model, args, train_dataset=rows)
        trainer.train()
        predicted = torch.as_tensor(trainer.predict(rows).predictions).argmax(-1)
    return float((predicted == torch.stack([row["labels"] for row in rows])).float().mean())


if __name__ == "__main__":
    print(f"hf_bert: accuracy {main():.3f}")
