"""What outlives a step of a Keras optimizer is what outlives one of Keras' own, on each backend: no gradient, no model,
and the variables that it was built with for as long as it lives.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.boundaries.support import ROOT

#: `make test-lowest` has TensorFlow alone; `make test` fails at once without the others.
BACKENDS = [name for name in ("tensorflow", "jax", "torch") if find_spec(name)]
WALK = """
import gc, json, sys, warnings, weakref
warnings.simplefilter("ignore")
import keras, numpy as np
from keras import ops
import scirs2_adapters as s2
import scirs2_adapters.tf as adapter

x = np.random.default_rng(2).normal(size=(32, 6)).astype("float32")
alive = lambda refs: sum(ref() is not None for ref in refs)

def network(optimizer):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(optimizer, loss="mse", jit_compile=False, run_eagerly=keras.backend.backend() == "tensorflow")
    model.fit(x, x[:, :1], batch_size=16, verbose=0)
    return model

def dropped(make):
    '''Of a model, its layers and variables what is alive when the optimizer is, then of the optimizer's and of all.'''
    optimizer = make()
    model = network(optimizer)
    layers = [weakref.ref(model), *map(weakref.ref, model.layers)]
    variables = [weakref.ref(v) for v in model.trainable_variables]
    references = [weakref.ref(optimizer), *map(weakref.ref, optimizer.variables)]
    del model
    gc.collect()
    seen = [alive(layers), alive(variables)]
    count = len(references) - 1
    del optimizer
    gc.collect()
    return [*seen, alive(references), alive(variables), count > 0]

def kept_by_model(make):
    '''Whether an optimizer that another one has replaced is alive.'''
    model = network(make())
    references = [weakref.ref(model.optimizer), *map(weakref.ref, model.optimizer.variables)]
    model.compile("sgd", loss="mse")
    gc.collect()
    return alive(references)

def gradients(make):
    '''How many gradients are alive after a step, and after another one with others.'''
    xs = [keras.Variable(np.ones((3, 2), "float32")), keras.Variable(np.ones(4, "float32"))]
    optimizer, counts = make(), []
    for _ in range(2):
        grads = [ops.convert_to_tensor(np.full(v.shape, 0.5, "float32")) for v in xs]
        refs = [weakref.ref(g) for g in grads]
        optimizer.apply(grads, xs)
        del grads
        gc.collect()
        counts.append(alive(refs))
    return counts

network("sgd")
gc.collect()
gc.freeze()  # what there was before: collecting what is new is then fast

kept = {}
for name in ("adamw", "prodigy", "muon"):  # of one pass, of sums over the model, of matrices and routing
    cls = s2.get(name)
    ours = getattr(adapter, cls.__name__)
    theirs = getattr(keras.optimizers, cls.__name__, keras.optimizers.Adam)
    if name == "muon" and keras.__version__.startswith("3.10."):  # its Muon steps only variables that have a path
        theirs = keras.optimizers.Adam
    for options in ({}, {"skip_nonfinite": True}, {"global_clipnorm": 1.0}):
        known = {k: v for k, v in options.items() if k != "skip_nonfinite"}
        pair = [lambda: ours(**options), lambda: theirs(**known)]
        kept[f"{name} {options}"] = [[f(make) for f in (dropped, kept_by_model, gradients)] for make in pair]
print(json.dumps(kept))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_more_is_kept_than_by_keras(backend: str) -> None:
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", WALK], capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-5000:]
    kept = json.loads(done.stdout.splitlines()[-1])
    assert kept
    for case, (ours, theirs) in kept.items():
        assert ours == theirs, (case, ours, theirs)
        (layers, _, optimizer, variables, counted), replaced, gradients = ours
        assert (layers, optimizer, variables, counted, replaced, gradients) == (0, 0, 0, True, 0, [0, 0]), case
