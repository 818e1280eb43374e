/* A network of two layers, and two spirals that it learns to tell apart; Lion steps it in WebAssembly. */

export const POINTS = 400;
const HIDDEN = 32;
const PARAMETERS = 4 * HIDDEN + 1;

/** Points of two spirals and which one each is on. */
export function spirals() {
    const points = [];
    for (let i = 0; i < POINTS; i++) {
        const radius = Math.floor(i / 2) / (POINTS / 2), angle = 6 * radius + (i % 2 ? Math.PI : 0);
        points.push({x: radius * Math.cos(angle), y: radius * Math.sin(angle), label: i % 2});
    }
    return points;
}

/** Numbers between -1 and 1, the same in each run. */
function* uniform() {
    for (let state = 1; ; ) {
        state = (state * 48271) % 2147483647;
        yield (state / 2147483647) * 2 - 1;
    }
}

export class Network {
    /** `optimizer` is what `load` of an exported module gives. */
    constructor(optimizer) {
        this.optimizer = optimizer;
        this.weight = optimizer.tensor(PARAMETERS);
        const numbers = uniform();
        this.weight.p.set(Float32Array.from({length: PARAMETERS}, () => numbers.next().value));
        optimizer.begin(this.weight);
    }

    /** The probability that a point is on the second spiral; what the hidden layer says of it goes to `hidden`. */
    probability({x, y}, hidden = new Float64Array(HIDDEN)) {
        const p = this.weight.p;
        let logit = p[4 * HIDDEN];
        for (let k = 0; k < HIDDEN; k++) {
            hidden[k] = Math.tanh(4 * (p[2 * k] * x + p[2 * k + 1] * y) + p[2 * HIDDEN + k]);
            logit += p[3 * HIDDEN + k] * hidden[k];
        }
        return 1 / (1 + Math.exp(-logit));
    }

    /** One step on all points with this learning rate; the loss before it. */
    step(points, hyper) {
        const {p, g} = this.weight, hidden = new Float64Array(HIDDEN);
        let loss = 0;
        g.fill(0);
        for (const point of points) {
            const probability = this.probability(point, hidden), error = (probability - point.label) / points.length;
            loss -= Math.log(point.label ? probability : 1 - probability) / points.length;
            g[4 * HIDDEN] += error;
            for (let k = 0; k < HIDDEN; k++) {
                const back = error * p[3 * HIDDEN + k] * (1 - hidden[k] * hidden[k]);
                g[3 * HIDDEN + k] += error * hidden[k];
                g[2 * HIDDEN + k] += back;
                g[2 * k] += 4 * back * point.x;
                g[2 * k + 1] += 4 * back * point.y;
            }
        }
        this.optimizer.step(this.weight, hyper);
        return loss;
    }
}
