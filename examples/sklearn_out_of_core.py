"""scikit-learn, out of core: a linear classifier learns from a file that is larger than the memory it takes.

The rows lie in a file. `partial_fit` is given one chunk of them after the other, each mapped into memory and unmapped
again. What is printed is the accuracy on rows that were not trained on, the size of the file, and the most memory that
arrays took at once: it is that of a few chunks, however long the file is. Run it with
`python examples/sklearn_out_of_core.py`, or with a number of rows, such as 100_000_000 for a file of 13 GB.
"""

import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scirs2_adapters.core.schedules import InverseSqrt
from scirs2_adapters.sklearn import Adam, LinearClassifier

FEATURES, CHUNK, MB = 32, 10_000, 1e6
Rows = np.dtype([("x", np.float32, FEATURES), ("y", np.int8)])


def write(path: Path, rows: int) -> None:
    """Rows of two classes that a plane separates, but for noise, made and written a chunk at a time."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=FEATURES)
    with path.open("wb") as file:
        for start in range(0, rows, CHUNK):
            chunk = np.empty(min(CHUNK, rows - start), Rows)
            chunk["x"] = rng.normal(size=(len(chunk), FEATURES))
            chunk["y"] = chunk["x"] @ plane + rng.normal(size=len(chunk)) > 0
            chunk.tofile(file)


def chunks(path: Path, first: int, last: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows from `first` to `last`, by chunks. Only the rows of a chunk are mapped."""
    for start in range(first, last, CHUNK):
        rows = np.memmap(path, Rows, "r", offset=start * Rows.itemsize, shape=min(CHUNK, last - start))
        yield np.ascontiguousarray(rows["x"]), np.ascontiguousarray(rows["y"])


def train(path: Path, rows: int, epochs: int) -> LinearClassifier:
    """A classifier that has seen these rows so many times."""
    model = LinearClassifier(Adam(), learning_rate=InverseSqrt(0.01, timescale=200), batch_size=500, random_state=0)
    for _ in range(epochs):
        for X, y in chunks(path, 0, rows):
            model.partial_fit(X, y, classes=[0, 1])
    return model


def main(rows: int = 200_000, epochs: int = 2) -> None:
    """Train on the first nine tenths of a file, and judge by the rest."""
    known = rows - rows // 10
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        write(path, rows)
        tracemalloc.start()
        model = train(path, known, epochs)
        right = sum(int((model.predict(X) == y).sum()) for X, y in chunks(path, known, rows))
        peak = tracemalloc.get_traced_memory()[1]
        print(
            f"accuracy {right / (rows - known):.3f}, file {path.stat().st_size / MB:.1f} MB, memory {peak / MB:.1f} MB"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
