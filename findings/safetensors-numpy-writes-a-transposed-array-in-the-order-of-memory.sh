#!/usr/bin/env bash
# safetensors 0.8.0: `safetensors.numpy.save` takes an array's shape and the bytes as they lie in memory. Of a transposed array the
# file has the right shape and the numbers in another order, without an error; `safetensors.torch.save` refuses such a tensor.
# Seen: [[0, 1, 2], [3, 4, 5]] transposed, as kernels are on their way from torch to Keras or Flax, comes back as [[0, 1], [2, 3],
# [4, 5]]; after `np.ascontiguousarray` it is [[0, 3], [1, 4], [2, 5]].
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check safetensors==0.8.0 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import safetensors
import torch
from safetensors import numpy as for_numpy
from safetensors import torch as for_torch

kernel = np.arange(6.0, dtype="float32").reshape(2, 3).T
came = for_numpy.load(for_numpy.save({"kernel": kernel}))["kernel"]
copied = for_numpy.load(for_numpy.save({"kernel": np.ascontiguousarray(kernel)}))["kernel"]
try:
    for_torch.save({"kernel": torch.arange(6.0).reshape(2, 3).T})
    refusal = None
except ValueError as error:
    refusal = str(error)
print(f"safetensors {safetensors.__version__}, numpy {np.__version__}")
print(f"saved {kernel.tolist()}, loaded {came.tolist()}, after a copy {copied.tolist()}")
print(f"the same tensor of torch: {refusal and refusal[:70]}")
assert safetensors.__version__ == "0.8.0"
assert came.shape == kernel.shape and not np.array_equal(came, kernel)
assert came.ravel().tolist() == [0, 1, 2, 3, 4, 5]
assert np.array_equal(copied, kernel)
assert refusal is not None and "non contiguous" in refusal
print("as seen before: the numbers of a transposed array are written in the order of memory, and nothing says so")
PYTHON
