/* A network of two layers learns a spiral with AdamW, in C alone.
 *
 *     scirs2 export adamw -o build
 *     cc -O2 -ffp-contract=off -Ibuild examples/c/train.c build/scirs2_adamw.c build/scirs2_adamw_kernel.o -lm -o train
 *     ./train
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scirs2_adamw.h"

enum { POINTS = 400, HIDDEN = 32, PARAMETERS = 4 * HIDDEN + 1, STEPS = 2000 };

/* All parameters of the model lie in one array: w1 (HIDDEN x 2), b1, w2, b2. */
static float parameters[PARAMETERS], gradient[PARAMETERS], exp_avg[PARAMETERS], exp_avg_sq[PARAMETERS];
static float points[POINTS][2], labels[POINTS];

static float uniform(void) { return (float)rand() / (float)RAND_MAX * 2.0f - 1.0f; }

static void make_spirals(void) {
    for (int i = 0; i < POINTS; i++) {
        float radius = (float)(i / 2) / (POINTS / 2), angle = 6.0f * radius + (i % 2 ? 3.1415927f : 0.0f);
        points[i][0] = radius * cosf(angle);
        points[i][1] = radius * sinf(angle);
        labels[i] = (float)(i % 2);
    }
}

/* The mean cross entropy of all points; its derivatives go to `gradient`. */
static float loss_and_gradient(int *right) {
    const float *w1 = parameters, *b1 = w1 + 2 * HIDDEN, *w2 = b1 + HIDDEN, *b2 = w2 + HIDDEN;
    float *dw1 = gradient, *db1 = dw1 + 2 * HIDDEN, *dw2 = db1 + HIDDEN, *db2 = dw2 + HIDDEN, loss = 0.0f;
    memset(gradient, 0, sizeof gradient);
    *right = 0;
    for (int i = 0; i < POINTS; i++) {
        float hidden[HIDDEN], logit = *b2;
        for (int k = 0; k < HIDDEN; k++) {
            hidden[k] = tanhf(4.0f * (w1[2 * k] * points[i][0] + w1[2 * k + 1] * points[i][1]) + b1[k]);
            logit += w2[k] * hidden[k];
        }
        float probability = 1.0f / (1.0f + expf(-logit)), error = (probability - labels[i]) / POINTS;
        loss -= logf(labels[i] > 0.5f ? probability : 1.0f - probability) / POINTS;
        *right += (probability > 0.5f) == (labels[i] > 0.5f);
        *db2 += error;
        for (int k = 0; k < HIDDEN; k++) {
            float back = error * w2[k] * (1.0f - hidden[k] * hidden[k]);
            dw2[k] += error * hidden[k];
            db1[k] += back;
            dw1[2 * k] += 4.0f * back * points[i][0];
            dw1[2 * k + 1] += 4.0f * back * points[i][1];
        }
    }
    return loss;
}

int main(void) {
    scirs2_adamw_hyper hyper = SCIRS2_ADAMW_DEFAULTS;
    int right = 0;
    srand(0);
    make_spirals();
    for (int i = 0; i < PARAMETERS; i++) parameters[i] = uniform();
    scirs2_adamw_begin(parameters, exp_avg, exp_avg_sq, PARAMETERS, &hyper);
    for (int step = 1; step <= STEPS; step++) {
        float loss = loss_and_gradient(&right);
        hyper.learning_rate = 0.02 * (1.0 + cos(3.141592653589793 * step / STEPS)) / 2.0;
        scirs2_adamw_step(parameters, gradient, exp_avg, exp_avg_sq, PARAMETERS, &hyper, step);
        if (step % 500 == 0) printf("step %d: loss %.4f, %d of %d right\n", step, loss, right, POINTS);
    }
    return right < POINTS * 9 / 10;
}
