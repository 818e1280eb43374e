"""The JavaScript interface of a kernel in WebAssembly: one module without dependencies, for browsers and Node."""

from __future__ import annotations

import json
from string import Template

from scirs2_adapters.core.cpu.layout import Item
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.fields import Field
from scirs2_adapters.core.slots import Extent

from .kernels import Kernels
from .scalars import JAVASCRIPT, Lines, literal

VIEWS = {"float64": "Float64Array", "float32": "Float32Array"}

SCRIPT = Template("""\
/* $title, exported by scirs2 $version.
 *
 *     import {load} from "./$name.mjs";
 *     const $rule = await load(await fetch("$name.wasm").then(r => r.arrayBuffer()));
 *     const weight = $rule.tensor(1000);      // weight.p and weight.g are typed arrays to fill
 *     $rule.begin(weight);                    // after weight.p has its first values
 *     $rule.step(weight);                     // one step in place; weight.t counts
 */

/** Hyperparameters. `step` takes others, which may change from step to step. */
export const DEFAULTS = $defaults;
const ARRAYS = $arrays;
const NUMBERS = {Float32Array, Float64Array};
const PAGE = 65536;

function coefficients(hyper, step) {
$coefficients
}

function item(columns) {
    return BigInt64Array.from([$item]);
}

/** The optimizer, of the bytes of $name.wasm. */
export async function load(bytes) {
    const memory = new WebAssembly.Memory({initial: 4});
    // the first page is the stack, which grows down, and then the words of a call
    const stack = new WebAssembly.Global({value: "i32", mutable: true}, PAGE);
    const power = {pow: (x, y) => x ** y, powf: (x, y) => Math.fround(x ** y)};
    const env = {__linear_memory: memory, __stack_pointer: stack, ...power};
    const {instance} = await WebAssembly.instantiate(bytes, {env});
    const kernel = instance.exports["$kernel"];
    let free = 2 * PAGE;

    function allocate(length) {
        const place = free;
        free += Math.ceil(length / 64) * 64;
        if (free > memory.buffer.byteLength) memory.grow(Math.ceil((free - memory.buffer.byteLength) / PAGE));
        return place;
    }

    /** Memory of n numbers: the parameters p, their gradients g, and what the optimizer remembers. The arrays are views
     * of memory that may grow: read them from the tensor each time. */
    function tensor(n) {
        const places = ARRAYS.map(({view}) => allocate(n * NUMBERS[view].BYTES_PER_ELEMENT));
        const made = {n, t: 0, places};
        ARRAYS.forEach(({name, view}, k) => {
            const get = () => new NUMBERS[view](memory.buffer, places[k], n);
            Object.defineProperty(made, name, {enumerable: true, get});
        });
        return made;
    }

    /** Gives the memory its first values and starts counting anew. */
    function begin(tensor, hyper = DEFAULTS) {
        tensor.t = 0;
        for (const {name, first} of ARRAYS) {
            if (first === "p") tensor[name].set(tensor.p);
            else if (first !== undefined) tensor[name].fill(typeof first === "string" ? hyper[first] : first);
        }
    }

    /** One step in place. */
    function step(tensor, hyper = DEFAULTS) {
        tensor.t += 1;
        const numbers = $compute.from(coefficients(hyper, tensor.t));
        const words = [BigInt64Array.from(tensor.places.map(BigInt)), item(tensor.n), numbers];
        const places = [];
        let place = PAGE;
        for (const array of words) {
            new array.constructor(memory.buffer, place, array.length).set(array);
            places.push(BigInt(place));
            place += array.length * 8;
        }
        kernel(...places, 0n);
    }

    return {tensor, begin, step, memory};
}
""")


def script(kernels: Kernels, name: str, version: str, fields: dict[str, Field]) -> str:
    """The text of the module, for a kernel that numbers between passes do not feed."""
    rule, lines = kernels.rule, Lines(JAVASCRIPT)
    if kernels.before:
        worded = "must be an optimizer without numbers for a whole tensor, for WebAssembly"
        raise bad_value("export", "rule", worded, rule.name)
    dtypes = kernels.dtypes.values()
    if not {*dtypes} <= VIEWS.keys():
        raise bad_value("export", "dtypes", "must be float32 or float64, for WebAssembly", ",".join(dtypes))
    numbers = kernels.numbers(lines, fields, "hyper.", "step")
    body = [*lines.needed_for(numbers), f"return [{', '.join(numbers)}];"]
    words = {Item.ROWS: "1n", Item.COLUMNS: "BigInt(columns)"}
    return SCRIPT.substitute(
        title=type(rule).__name__,
        version=version,
        name=name,
        rule=rule.name,
        kernel=f"{name}_kernel",
        defaults="{" + ", ".join(f"{k}: {literal(getattr(rule, k), JAVASCRIPT)}" for k in fields) + "}",
        arrays=json.dumps([_array(kernels, a.name) for a in kernels.step.arrays]),
        coefficients="\n".join(f"    {line}" for line in body),
        item=", ".join(words.get(word, "0n") for word in Item),
        compute=VIEWS[kernels.compute],
    )


def _array(kernels: Kernels, name: str) -> dict[str, object]:
    """An array of the kernel: its name, its kind, and what it begins with."""
    known: dict[str, object] = {"name": name, "view": VIEWS[kernels.dtypes[name]]}
    slot = next((s for s in kernels.slots if s.name == name), None)
    if slot is None:
        return known
    assert slot.extent is Extent.FULL
    field = slot.initial if slot.initial in kernels.rule.fields else None
    first = "p" if slot.initial == "parameter" else field or slot.initial_value(kernels.rule)
    return known | {"first": first}
