"""PyTorch: a bfloat16 network learns scikit-learn's digits with 8-bit state; the line that asks for it is marked.

Run it with `python examples/int8_torch.py`.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from scirs2_adapters.torch import AdamW


def main(steps: int = 300) -> float:
    """The accuracy on images that were not trained on."""
    images, digits = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.bfloat16), torch.tensor(digits)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)).to(torch.bfloat16)
    optimizer = AdamW(model.parameters(), lr=2e-3, state_dtype="int8", rounding="compensated")  # <- this one
    for _ in range(steps):
        batch = torch.randint(1200, (128,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]).float(), y[batch]).backward()
        optimizer.step()
    narrow, whole = optimizer.state[model[0].weight], model[0].weight.numel()
    print("state, bytes a parameter:", sum(s.nbytes for s in narrow.values()) / whole)
    with torch.no_grad():
        return (model(x[1200:]).argmax(1) == y[1200:]).float().mean().item()


if __name__ == "__main__":
    print(f"accuracy {main():.3f}")
