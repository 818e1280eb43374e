"""The programs that the section on integration compares, as a user would write them, and what times them.

A program finds N parameters `p` and their gradients `g` in float32 (in JavaScript: `n` and the array `gradients`), and
defines `step`; at the end `p` is what it has made of them. It is short and whole, so that its lines may be counted.
"""

from __future__ import annotations

NUMPY = """\
from scirs2_adapters.core import AdamW, HostOptimizer

optimizer = HostOptimizer(AdamW(), {"w": p})

def step():
    optimizer.step({"w": g})
"""

TORCH = """\
import torch
from scirs2_adapters.torch import AdamW

weight = torch.nn.Parameter(torch.from_numpy(p))
weight.grad = torch.from_numpy(g)
optimizer = AdamW([weight])

def step():
    optimizer.step()
"""

JAX = """\
import jax
from scirs2_adapters.jax import adamw, step as fused

tx = adamw()
p, g = jax.numpy.array(p), jax.numpy.array(g)
state = tx.init(p)
train = jax.jit(lambda p, state: fused(tx, g, state, p), donate_argnums=(0, 1))

def step():
    global p, state
    p, state = jax.block_until_ready(train(p, state))
"""

SERVICE = """\
from scirs2_adapters.serve import Client

client = Client(ADDRESS, TOKEN)
client.create("adamw", {"w": p})

def step():
    global p
    p = client.step({"w": g})["w"]
"""

CTYPES = """\
import ctypes

library = ctypes.CDLL(LIBRARY)
n = ctypes.c_int64(p.size)
slots = np.empty_like(p), np.empty_like(p)
weight, grad, first, second = (ctypes.c_void_p(x.ctypes.data) for x in (p, g, *slots))
hyper = (ctypes.c_double * 6)(1e-3, 0.9, 0.999, 1e-8, 0.0, 0.01)
library.scirs2_adamw_begin(weight, first, second, n, hyper)
count = 0

def step():
    global count
    count += 1
    library.scirs2_adamw_step(weight, grad, first, second, n, hyper, ctypes.c_int64(count))
"""

NODE = """\
import {readFileSync} from "node:fs";
import {load} from "./scirs2_adamw.mjs";

const adamw = await load(readFileSync("scirs2_adamw.wasm"));
const weight = adamw.tensor(n);
adamw.begin(weight);
weight.g.set(gradients);
const step = () => adamw.step(weight);
"""

BEFORE_PYTHON = """\
import numpy as np
N, STEPS, LIBRARY, ADDRESS, TOKEN = {numbers}, {steps}, {library!r}, {address!r}, {token!r}
p = np.zeros(N, "float32")
g = ((np.arange(N) * 7919 % 1000 - 499.5) / 1000).astype("float32")
"""

AFTER_PYTHON = """\
import json
import time
from scirs2_adapters.report.memory import peak
step()
ready, seconds = time.time(), []
for _ in range(STEPS):
    start = time.perf_counter()
    step()
    seconds.append(time.perf_counter() - start)
np.asarray(p).tofile({result!r})
print(json.dumps({{"ready": ready, "seconds": seconds, "peak": peak()}}))
"""

BEFORE_NODE = """\
const n = {numbers};
const gradients = Float32Array.from({{length: n}}, (_, i) => (i * 7919 % 1000 - 499.5) / 1000);
"""

AFTER_NODE = """\
import {{existsSync, writeFileSync}} from "node:fs";
step();
const ready = Date.now() / 1000, seconds = [];
for (let k = 0; k < {steps}; k++) {{
    const start = process.hrtime.bigint();
    step();
    seconds.push(Number(process.hrtime.bigint() - start) / 1e9);
}}
writeFileSync({result!r}, weight.p);
const status = "/proc/self/status";
const peak = existsSync(status) ? 1024 * Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync(status, "utf8"))[1]) : null;
console.log(JSON.stringify({{ready, seconds, peak}}));
"""


def lines(program: str) -> int:
    """How many lines are not blank."""
    return sum(1 for line in program.splitlines() if line.strip())
