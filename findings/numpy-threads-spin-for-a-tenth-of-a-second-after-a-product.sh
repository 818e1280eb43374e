#!/usr/bin/env bash
# numpy 2.4.6 (its wheel's OpenBLAS 0.3.31): after a product of matrices the threads of OpenBLAS spin for 0.1 s and more.
# Seen, on two cores: a process that sleeps for 0.1 s after `a @ a` uses 100 ms of processor time; a thread that is
# started in that time shares its core. With OPENBLAS_THREAD_TIMEOUT=16, read when numpy is imported, it uses less than
# 1 ms. With one processor OpenBLAS has no threads, and the script has nothing to show.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.4.6
cat > "$folder/sleep.py" <<'PYTHON'
import time

import numpy as np

a = np.ones((800, 800))
a @ a
before = time.process_time()
time.sleep(0.1)
print(round(1e3 * (time.process_time() - before)))
PYTHON
unset OPENBLAS_NUM_THREADS OMP_NUM_THREADS
spun=$(OPENBLAS_NUM_THREADS=2 "$folder/venv/bin/python" "$folder/sleep.py")
slept=$(OPENBLAS_NUM_THREADS=2 OPENBLAS_THREAD_TIMEOUT=16 "$folder/venv/bin/python" "$folder/sleep.py")
echo "processor time of a sleep of 100 ms after a product: $spun ms; with OPENBLAS_THREAD_TIMEOUT=16: $slept ms"
test "$spun" -ge 50
test "$slept" -le 10
echo "as seen before: OpenBLAS spins after a product"
