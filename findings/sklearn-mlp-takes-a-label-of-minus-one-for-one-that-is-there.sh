#!/usr/bin/env bash
# scikit-learn 1.9.1: an array of -1 and 1 with a column for each label is a "multilabel-indicator" by `type_of_target`, KNeighborsClassifier
# and MultiOutputClassifier learn it, and `MLPClassifier` learns one such column alone.
# Seen: of several columns `MLPClassifier` takes every number but 0 for a label that is there, -1 too. It predicts 1 for all rows and
# labels, without a word. With 0 and 1 it learns them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.utils.multiclass import type_of_target

X = np.random.default_rng(0).normal(size=(300, 4))
zeros = (X[:, :2] > 0).astype(int)  # two labels, each there in about half of the rows
signs = 2 * zeros - 1
network = MLPClassifier((16,), solver="lbfgs", alpha=0.1, max_iter=500, random_state=0)


def right(model: object, y: np.ndarray) -> float:
    return float((model.fit(X, y).predict(X) == y).mean())


print(f"scikit-learn {sklearn.__version__}, type_of_target of -1 and 1: {type_of_target(signs)}")
assert sklearn.__version__ == "1.9.1"
assert type_of_target(signs) == "multilabel-indicator"
for model in (MultiOutputClassifier(LogisticRegression()), KNeighborsClassifier()):
    accuracy = right(model, signs)
    print(f"{type(model).__name__}, two columns of -1 and 1: {accuracy:.2f} right")
    assert accuracy > 0.9
for what, y in (("two columns of 0 and 1", zeros), ("one column of -1 and 1", signs[:, 0])):
    accuracy = right(network, y)
    print(f"MLPClassifier, {what}: {accuracy:.2f} right")
    assert accuracy > 0.9
accuracy, predicted = right(network, signs), np.unique(network.predict(X)).tolist()
print(f"MLPClassifier, two columns of -1 and 1: {accuracy:.2f} right, predicts {predicted}")
assert predicted == [1]
assert accuracy < 0.6
print("as seen before: MLPClassifier takes a label of -1 for one that is there")
PYTHON
