"""Losses of a small language model in float32 and in each format of fewer bits: `python -m benchmarks.loss_curves`.

A transformer of two layers learns the bytes of the Python files of the standard library for 1,000 steps of AdamW, from
the same start and on the same batches. Printed are the mean losses of the last 100 steps, on batches that it learns
from and on files that it never sees, and how far the parameters end from float32's, as a share of the way that
float32's have gone. A second run in float32, whose first parameter differs by one unit in the last place, says what
such a distance means. The curves go into `docs/loss-curves.png`.
"""

from __future__ import annotations

import argparse
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn

from scirs2_adapters import torch as ours

STEPS, BATCH, CONTEXT, WIDTH = 1000, 16, 64, 128
NARROW = {"state_dtype": "int8"}
#: What is compared: the dtype of the parameters, and options of AdamW.
RUNS: dict[str, tuple[torch.dtype, dict[str, str]]] = {
    "float32": (torch.float32, {}),
    "float32, another rounding": (torch.float32, {}),
    "bfloat16 state": (torch.float32, {"state_dtype": "bfloat16"}),
    "int8 state": (torch.float32, NARROW),
    "bfloat16 model, nearest": (torch.bfloat16, {"rounding": "nearest", "state_dtype": "float32"}),
    "bfloat16 model, stochastic, int8 state": (torch.bfloat16, {"rounding": "stochastic", **NARROW}),
    "bfloat16 model, compensated, int8 state": (torch.bfloat16, {"rounding": "compensated", **NARROW}),
}


class Model(nn.Module):
    """Predicts the next byte."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.places = nn.Embedding(256, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 256)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT))

    def forward(self, text: Tensor) -> Tensor:
        """The mean loss of all places."""
        x = self.bytes(text[:, :-1]) + self.places.weight
        logits = self.head(self.layers(x, mask=self.mask.to(x.dtype), is_causal=True))
        return nn.functional.cross_entropy(logits.flatten(0, 1).float(), text[:, 1:].flatten())


def corpus() -> tuple[Tensor, Tensor]:
    """The bytes of the standard library: nine files of ten to learn from, and the tenth."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    parts = [b"".join(f.read_bytes() for f in files[k::10]) for k in range(10)]
    learned, unseen = b"".join(parts[1:]), parts[0]
    return torch.tensor(list(learned)), torch.tensor(list(unseen))


def batches(text: Tensor, seed: int) -> Iterator[Tensor]:
    """Random stretches of the text."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(text) - CONTEXT - 1, (BATCH,), generator=generator)
        yield torch.stack([text[i : i + CONTEXT + 1] for i in starts.tolist()])


def flat(model: nn.Module) -> Tensor:
    """All parameters in float64, one after another."""
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


def run(name: str, learned: Tensor, unseen: Tensor) -> tuple[list[float], float, Tensor]:
    """The losses, the last one on unseen files, and the way of the parameters."""
    dtype, options = RUNS[name]
    torch.manual_seed(0)
    model = Model()
    begun = flat(model)
    if name.endswith("another rounding"):
        weight = model.head.weight.data
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(1.0))
    model = model.to(dtype)
    optimizer = ours.AdamW(model.parameters(), lr=1e-3, **options)
    losses = []
    for _, batch in zip(range(STEPS), batches(learned, 1), strict=False):
        optimizer.zero_grad()
        loss = model(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        last = mean(model(batch).item() for _, batch in zip(range(100), batches(unseen, 2), strict=False))
    return losses, last, flat(model) - begun


def figure(curves: dict[str, list[float]], path: Path) -> None:
    """Means over 25 steps, and beside them how far they are from float32's."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    smooth = {name: torch.tensor(c).unfold(0, 25, 5).mean(1) for name, c in curves.items()}
    shown, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for name, curve in smooth.items():
        steps = 25 + 5 * torch.arange(len(curve))
        style = {"linestyle": "--" if "nearest" in name else "-", "linewidth": 1.4}
        left.plot(steps, curve, label=name, **style)
        right.plot(steps, curve - smooth["float32"], label=name, **style)
    left.set(title="loss of a character model", xlabel="step", ylabel="mean of 25 steps", ylim=(1.5, 4))
    right.set(title="the same minus float32's", xlabel="step", ylim=(-0.1, 0.3))
    left.legend(frameon=False, fontsize=9)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    shown.savefig(path, dpi=110)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loss_curves", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs"), help="folder of the figure")
    output = parser.parse_args().output
    learned, unseen = corpus()
    curves, usual = {}, torch.empty(0)
    print("| run | loss of the last 100 steps | unseen files | distance |\n|---|---:|---:|---:|")
    for name in RUNS:
        curves[name], last, way = run(name, learned, unseen)
        usual = way if name == "float32" else usual
        distance = ((way - usual).norm() / usual.norm()).item()
        print(f"| {name} | {mean(curves[name][-100:]):.3f} | {last:.3f} | {distance:.3f} |", flush=True)
    figure(curves, output / "loss-curves.png")


if __name__ == "__main__":
    main()
