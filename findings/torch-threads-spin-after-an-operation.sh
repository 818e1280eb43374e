#!/usr/bin/env bash
# torch 2.13.0 on Linux (libgomp in its wheel): after an operation the threads of OpenMP spin for milliseconds, and a
# thread of another kind that starts meanwhile gets no core where there are as many threads as cores.
# Seen, on two cores: a process that sleeps for 0.1 s after one operation uses 4 to 7 ms of processor time; with
# OMP_WAIT_POLICY=passive, read when torch is imported, less than 1 ms.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$folder/sleep.py" <<'PYTHON'
import time
from statistics import median

import torch

torch.set_num_threads(2)
x, spent = torch.ones(1_000_000), []
for _ in range(9):
    x.sqrt()
    before = time.process_time()
    time.sleep(0.1)
    spent.append(1e3 * (time.process_time() - before))
print(round(median(spent), 1))
PYTHON
unset OMP_NUM_THREADS OMP_WAIT_POLICY GOMP_SPINCOUNT
spun=$("$folder/venv/bin/python" "$folder/sleep.py")
slept=$(OMP_WAIT_POLICY=passive "$folder/venv/bin/python" "$folder/sleep.py")
echo "processor time of a sleep of 100 ms after an operation: $spun ms; with OMP_WAIT_POLICY=passive: $slept ms"
awk "BEGIN { exit !($spun >= 1.5 && $slept <= 1) }"
echo "as seen before: threads of OpenMP spin after an operation of torch"
