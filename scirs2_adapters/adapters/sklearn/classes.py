"""What a linear classifier can be taught: the class of each row, or which labels each row has."""

from __future__ import annotations

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from scirs2_adapters.core.errors import bad_value

#: The targets to train with, and the classes or labels.
Targets = tuple[np.ndarray, np.ndarray]


def class_indices(call: str, y: np.ndarray, known: np.ndarray | None) -> Targets:
    """The index of each row's class, among the known ones if there are any."""
    check_classification_targets(y)
    classes = np.unique(y) if known is None else known
    if unknown := np.setdiff1d(y, classes).tolist():
        raise ValueError(f"`y` has classes that were not there before: {unknown}. Known are {classes.tolist()}.")
    if len(classes) < 2:
        raise ValueError(f"`{call}` needs rows of more than one class. Received: {classes.tolist()}.")
    return np.searchsorted(classes, y), classes


def label_columns(call: str, y: np.ndarray, known: np.ndarray | None) -> Targets:
    """A column of 0 and 1 for each label."""
    if others := y[~np.isin(y, (0, 1))].tolist():
        worded = "must hold 0 and 1 alone where it has several columns, one for each label"
        way_out = "For columns of several classes put `MultiOutputClassifier` around the estimator."
        raise bad_value(call, "y", worded, others[0], way_out)
    labels = np.arange(y.shape[1]) if known is None else known
    if len(labels) != y.shape[1]:
        raise ValueError(f"`y` must have a column for each label: {labels.tolist()}. Received: {y.shape[1]} columns.")
    return y.astype(int), labels
