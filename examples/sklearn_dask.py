"""scikit-learn and Dask: a network learns from a table that is larger than the memory it takes.

The table lies in a folder of `.npy` files, as Dask writes one. It is scaled by the means and spreads of its columns,
which Dask works out file by file, and `partial_fit` is given one block of scaled rows after the other. What is printed
is the accuracy on rows that were not trained on, the size of the table, and the most memory that arrays took at once: a
block or two for each thread of Dask, however long the table is. Run it with `python examples/sklearn_dask.py`, or with
a number of rows, such as 10_000_000 for a table of 2.6 GB.
"""

import sys
import tempfile
import tracemalloc
from collections.abc import Iterator

import dask
import dask.array as da
import numpy as np

from scirs2_adapters.sklearn import AdamW, MLPClassifier

FEATURES, BLOCK, MB = 32, 10_000, 1e6


def write(folder: str, rows: int) -> None:
    """Rows of two classes that a plane separates, with columns of very different spreads."""
    rng = da.random.default_rng(0)
    X = rng.normal(size=(rows, FEATURES), chunks=(BLOCK, FEATURES))
    y = X @ np.random.default_rng(1).normal(size=(FEATURES, 1)) > 0
    da.to_npy_stack(folder, da.hstack([X * np.logspace(-2, 2, FEATURES), y]).rechunk((BLOCK, FEATURES + 1)))


def blocks(X: da.Array, y: da.Array) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows, a block at a time."""
    for pair in zip(X.to_delayed().ravel(), y.to_delayed().ravel(), strict=True):
        yield dask.compute(*pair)


def train(X: da.Array, y: da.Array, epochs: int) -> MLPClassifier:
    """A network that has seen these rows so many times."""
    network = MLPClassifier((32,), optimizer=AdamW(0.01), random_state=0)
    for _ in range(epochs):
        for rows, answers in blocks(X, y):
            network.partial_fit(rows, answers, classes=[0, 1])
    return network


def main(rows: int = 100_000, epochs: int = 2) -> None:
    """Train on the first nine tenths of a table, and judge by the rest."""
    with tempfile.TemporaryDirectory() as folder, dask.config.set(scheduler="threads", num_workers=2):
        write(folder, rows)
        tracemalloc.start()
        table = da.from_npy_stack(folder, mmap_mode="r")
        X, y = table[:, :FEATURES], table[:, FEATURES].astype(int)
        known = rows - rows // 10
        mean, spread = dask.compute(X[:known].mean(axis=0), X[:known].std(axis=0))
        X = (X - mean) / spread
        network = train(X[:known], y[:known], epochs)
        right = sum(int((network.predict(X) == y).sum()) for X, y in blocks(X[known:], y[known:]))
        peak = tracemalloc.get_traced_memory()[1]
        print(f"accuracy {right / (rows - known):.3f}, table {table.nbytes / MB:.1f} MB, memory {peak / MB:.1f} MB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
