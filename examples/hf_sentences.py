"""Hugging Face: a sentence-transformer from scratch, and the softmax layer of its loss, which is trained with it.

It tells whether two lines of the standard library come from the same module. Needs
`pip install "sentence-transformers[train]"`. Run it with `python examples/hf_sentences.py`.
"""

import email.message
import inspect
import json.decoder
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import SoftmaxLoss
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from scirs2_adapters.hf import with_optimizer

MODULES = (json.decoder, email.message)


def lines() -> list[tuple[str, int]]:
    """Lines of both modules, one of each in turn, with the number of their module."""
    texts = [[line.strip() for line in inspect.getsource(m).splitlines() if len(line) > 30] for m in MODULES]
    return [(text, i) for pair in zip(*texts, strict=False) for i, text in enumerate(pair)]


def data() -> Dataset:
    """Pairs of lines that stand near each other, and whether they are of one module."""
    texts = lines()
    pairs = [(a, b) for step in (1, 2, 4, 5) for a, b in zip(texts, texts[step:], strict=False)]
    columns = {"first": [a for (a, _), _ in pairs], "second": [b for _, (b, _) in pairs]}
    return Dataset.from_dict({**columns, "label": [int(i == j) for (_, i), (_, j) in pairs]})


def encoder(folder: Path) -> SentenceTransformer:
    """A small BERT over words and the mean of its outputs; written to a folder first, as the library reads models."""
    words = sorted({w for text, _ in lines() for w, _ in pre_tokenizers.Whitespace().pre_tokenize_str(text)})
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["[PAD]", "[UNK]", *words])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(**sizes, vocab_size=len(words) + 2, max_position_embeddings=64)).save_pretrained(folder)
    transformer = Transformer(str(folder))
    return SentenceTransformer(modules=[transformer, Pooling(32)], device="cpu")


def main(steps: int = 60) -> tuple[list[float], float]:
    """The losses, and how far the layer of the loss has moved."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        model = encoder(Path(folder, "bert"))
        loss = SoftmaxLoss(model, sentence_embedding_dimension=32, num_labels=2)
        before = loss.classifier.weight.detach().clone()
        args = SentenceTransformerTrainingArguments(
            folder, max_steps=steps, learning_rate=3e-3, weight_decay=0.01, per_device_train_batch_size=32,
            logging_steps=1, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        SentenceTrainer = with_optimizer(SentenceTransformerTrainer, "adamw")
        trainer = SentenceTrainer(model, args, train_dataset=data(), loss=loss)
        trainer.train()
    moved = float((loss.classifier.weight.detach() - before).norm())
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], moved


if __name__ == "__main__":
    losses, moved = main()
    first, last = (sum(part) / len(part) for part in (losses[:10], losses[-10:]))
    print(f"hf_sentences: loss {first:.3f} -> {last:.3f}; the layer of the loss moved by {moved:.3f}")
