"""The data and the model: softmax regression in numpy on scikit-learn's digits."""

import numpy as np
from flwr.app import Array, ArrayRecord
from sklearn.datasets import load_digits

Arrays = dict[str, np.ndarray]
#: Rows that no client trains on.
TEST_ROWS = 360


def initial() -> Arrays:
    """The model before the first round."""
    return {"weight": np.zeros((64, 10), np.float32), "bias": np.zeros(10, np.float32)}


def test_rows() -> tuple[np.ndarray, np.ndarray]:
    """Images and labels to measure by."""
    images, labels = load_digits(return_X_y=True)
    return images[:TEST_ROWS].astype(np.float32) / 16, labels[:TEST_ROWS]


def client_rows(partition: int, partitions: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a client: few of the ten digits, as the rows are dealt out in the order of their labels."""
    images, labels = load_digits(return_X_y=True)
    images, labels = images[TEST_ROWS:].astype(np.float32) / 16, labels[TEST_ROWS:]
    rows = np.array_split(np.argsort(labels, kind="stable"), partitions)[partition]
    return images[rows], labels[rows]


def probabilities(model: Arrays, images: np.ndarray) -> np.ndarray:
    """Of each of the ten digits, for each image."""
    logits = images @ model["weight"] + model["bias"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def trained(model: Arrays, images: np.ndarray, labels: np.ndarray, steps: int = 5, rate: float = 0.5) -> Arrays:
    """The model after some steps of gradient descent."""
    targets = np.eye(10, dtype=np.float32)[labels]
    for _ in range(steps):
        wrong = (probabilities(model, images) - targets) / np.float32(len(images))
        gradients = {"weight": images.T @ wrong, "bias": wrong.sum(axis=0)}
        model = {name: x - np.float32(rate) * gradients[name] for name, x in model.items()}
    return model


def accuracy(model: Arrays, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of images that are read right."""
    return float(np.mean(probabilities(model, images).argmax(axis=1) == labels))


def to_record(arrays: Arrays) -> ArrayRecord:
    """Arrays as Flower sends them."""
    return ArrayRecord({name: Array(x) for name, x in arrays.items()})


def from_record(record: ArrayRecord) -> Arrays:
    """Arrays as numpy has them."""
    return {name: x.numpy() for name, x in record.items()}
