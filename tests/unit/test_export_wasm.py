"""An exported kernel in WebAssembly steps as the package does, but for the fused additions that WebAssembly has not."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from scirs2_adapters.core import HostOptimizer, get, names
from scirs2_adapters.core.slots import Extent, Leaf
from scirs2_adapters.export import export

from .test_export import exportable

NUMBERS, STEPS = 1001, 20
EXAMPLES = Path(__file__).parents[2] / "examples" / "wasm"
#: Walks all optimizers of a folder over the same gradients and prints the parameters of each.
WALK = """
import {readFileSync} from "node:fs";
const {folder, start, gradients, names} = JSON.parse(readFileSync(0));
const walked = {};
for (const name of names) {
    const {load} = await import(`${folder}/scirs2_${name}.mjs`);
    const optimizer = await load(readFileSync(`${folder}/scirs2_${name}.wasm`));
    const weight = optimizer.tensor(start.length);
    optimizer.tensor(1 << 18);  // memory grows, and the first tensor stays what it was
    weight.p.set(start);
    optimizer.begin(weight);
    for (const gradient of gradients) {
        weight.g.set(gradient);
        optimizer.step(weight);
    }
    walked[name] = Array.from(weight.p);
}
console.log(JSON.stringify(walked));
"""


def fits(name: str) -> bool:
    """Whether WebAssembly takes it: no slot is one number."""
    return exportable(name) and all(s.extent is Extent.FULL for s in get(name)().slots(Leaf((4,))))


@pytest.fixture(scope="module")
def node() -> str:
    program = shutil.which("node")
    if program is None:
        pytest.skip("Node, which runs WebAssembly, is not installed")
    return program


def test_every_optimizer_steps_as_the_package_does(node: str, tmp_path: Path) -> None:
    taken = [name for name in names() if fits(name)]
    for name in taken:
        export(name, tmp_path, target="wasm32")
    rng = np.random.default_rng(0)
    start, gradients = (rng.standard_normal(shape).astype("float32") for shape in (NUMBERS, (STEPS, NUMBERS)))
    request = {"folder": str(tmp_path), "names": taken, "start": start.tolist(), "gradients": gradients.tolist()}
    ran = subprocess.run(
        [node, "--input-type=module", "-e", WALK], input=json.dumps(request), capture_output=True, text=True, check=True
    )
    assert ran.stderr == ""
    walked = json.loads(ran.stdout)
    assert len(taken) > 10
    for name in taken:
        params = {"w": start.copy()}
        host = HostOptimizer(name, params)
        for g in gradients:
            host.step({"w": g})
        path = np.abs(params["w"] - start).max()
        gap = np.abs(np.array(walked[name], dtype="float32") - params["w"])
        # two units in the last place of the parameter a step, and those of a sign or a comparison that turns
        assert np.median(gap) <= 2 * STEPS * 2**-24 * np.abs(start).max(), name
        assert gap.max() <= 1e-4 * path + 2 * STEPS * 2**-23, name


@pytest.mark.parametrize("name", [name for name in names() if exportable(name) and not fits(name)])
def test_slots_of_one_number_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be an optimizer without numbers for a whole tensor"):
        export(name, tmp_path, target="wasm32")
    assert not list(tmp_path.iterdir())


def test_memory_of_16_bits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`export\(dtypes=...\)` must be float32 or float64, for WebAssembly"):
        export("lion", tmp_path, ["float32", "float32", "bfloat16"], target="wasm32")


def test_the_network_of_the_example_learns(node: str, tmp_path: Path) -> None:
    export("lion", tmp_path, target="wasm32")
    for file in EXAMPLES.iterdir():
        shutil.copy(file, tmp_path)
    ran = subprocess.run([node, "train.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True)
    losses = [float(line.split()[-1]) for line in ran.stdout.splitlines()]
    assert losses[0] > 0.6
    assert losses[-1] < 0.1
