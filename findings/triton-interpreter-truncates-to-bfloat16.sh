#!/usr/bin/env bash
# triton 3.7.1, TRITON_INTERPRET=1: a float32 number stored as bfloat16 is cut off, where compiled kernels round it.
# Seen: 1.00390625 + 2^-10, which is nearest to 1.0078125, is stored as 1.0. A kernel that is right on a card may seem
# wrong by a unit in the last place under the interpreter.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check triton==3.7.1 torch==2.13.0 numpy==2.4.6
cat > "$folder/kernel.py" <<'PYTHON'
import torch
import triton
import triton.language as tl


@triton.jit
def copy(source, target, n: tl.constexpr):
    places = tl.arange(0, n)
    tl.store(target + places, tl.load(source + places))


x = torch.tensor([1.00390625 + 2**-10, -(1.00390625 + 2**-10), 3.0, 1e-3])
stored = torch.empty(4, dtype=torch.bfloat16)
copy[(1,)](x, stored, 4)
print(f"triton {triton.__version__}: {x.tolist()} is stored as {stored.tolist()}, torch has {x.bfloat16().tolist()}")
assert triton.__version__ == "3.7.1"
assert stored[:2].tolist() == [1.0, -1.0]
assert x.bfloat16()[:2].tolist() == [1.0078125, -1.0078125]
PYTHON
TRITON_INTERPRET=1 "$folder/venv/bin/python" "$folder/kernel.py"
echo "as seen before: the interpreter cuts off"
