#!/usr/bin/env bash
# tensorflow 2.21.0: looking up one row of a variable changes how the variable is read from then on.
# Seen: two `read_value()` of a new variable are one piece of memory. After one `tf.gather(variable, [0])` each read is a
# copy of the whole variable, and `assign` copies as well. `tf.raw_ops.DisableCopyOnRead` ends it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check tensorflow==2.21.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import tensorflow as tf


def shared(variable):
    reads = [variable.read_value(), variable.read_value()]
    return len({np.asarray(memoryview(x)).ctypes.data for x in reads}) == 1


variable = tf.Variable(tf.ones((1000, 64)))
seen = [shared(variable)]
tf.gather(variable, [0])
seen.append(shared(variable))
tf.raw_ops.DisableCopyOnRead(resource=variable.handle)
seen.append(shared(variable))
print(f"tensorflow {tf.__version__}: two reads are one memory: new {seen[0]}, after a gather {seen[1]}, told not to {seen[2]}")
assert tf.__version__ == "2.21.0"
assert seen == [True, False, True]
PYTHON
echo "as seen before: a gather makes all later reads of a variable copies"
