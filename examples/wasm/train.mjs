/* The same as the page, in Node:
 *
 *     scirs2 export lion -o build --target wasm32
 *     cp examples/wasm/* build && (cd build && node train.mjs)
 */
import {readFileSync} from "node:fs";

import {Network, spirals} from "./network.mjs";
import {DEFAULTS, load} from "./scirs2_lion.mjs";

const network = new Network(await load(readFileSync("scirs2_lion.wasm"))), points = spirals(), steps = 2000;
for (let step = 1; step <= steps; step++) {
    const rate = 0.01 * (1 + Math.cos((Math.PI * step) / steps)) / 2;
    const loss = network.step(points, {...DEFAULTS, learning_rate: rate});
    if (step === 1 || step % 500 === 0) console.log(`step ${step}: loss ${loss.toFixed(4)}`);
}
