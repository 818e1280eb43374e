"""scikit-learn, out of core: a linear classifier learns from a file that is larger than the memory it takes.

The file is a memory map: `partial_fit` reads one chunk of it at a time, so that only a chunk is ever in memory. Run it
with `python examples/sklearn_out_of_core.py`, or with a number of rows, such as 100_000_000 for a file of 13 GB.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scirs2_adapters.core.schedules import InverseSqrt
from scirs2_adapters.sklearn import Adam, LinearClassifier

FEATURES, CHUNK = 32, 20_000
Rows = np.dtype([("x", np.float32, FEATURES), ("y", np.int8)])


def write(path: Path, rows: int) -> None:
    """Rows of two classes that a plane separates, but for noise, made and written a chunk at a time."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=FEATURES)
    file = np.memmap(path, Rows, "w+", shape=rows)
    for start in range(0, rows, CHUNK):
        chunk = file[start : start + CHUNK]
        chunk["x"] = rng.normal(size=(len(chunk), FEATURES))
        chunk["y"] = chunk["x"] @ plane + rng.normal(size=len(chunk)) > 0
    file.flush()


def chunks(path: Path, first: int, last: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows from `first` to `last`, by chunks; the map is opened anew for each, so that no page of it is kept."""
    for start in range(first, last, CHUNK):
        rows = np.memmap(path, Rows, "r")[start : min(last, start + CHUNK)]
        yield np.ascontiguousarray(rows["x"]), np.ascontiguousarray(rows["y"])


def main(rows: int = 200_000, epochs: int = 2) -> float:
    """The accuracy on the last tenth of the file, which was not trained on."""
    known = rows - rows // 10
    model = LinearClassifier(Adam(), learning_rate=InverseSqrt(0.01, timescale=200), batch_size=500, random_state=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        write(path, rows)
        for _ in range(epochs):
            for X, y in chunks(path, 0, known):
                model.partial_fit(X, y, classes=[0, 1])
        right = sum(int((model.predict(X) == y).sum()) for X, y in chunks(path, known, rows))
    return right / (rows - known)


if __name__ == "__main__":
    print(f"accuracy {main(*map(int, sys.argv[1:])):.3f}")
