#!/usr/bin/env bash
# scikit-learn 1.9.1: `ScoringMonitor(scoring=None)` is documented to log the estimator's default score.
# Seen: fit raises TypeError: 'float' object is not iterable, because `check_scoring` gives a scorer of one number and the monitor
# expects one that returns a dict. With scoring=["accuracy"] it works.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import sklearn
from sklearn.callback import ScoringMonitor
from sklearn.linear_model import LogisticRegression

X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]


def logged(scoring: object) -> str:
    monitor = ScoringMonitor(scoring=scoring)
    try:
        LogisticRegression().set_callbacks(monitor).fit(X, y)
    except TypeError as error:
        return f"TypeError: {error}"
    return f"{len(monitor.get_logs().data)} rows"


default, listed = logged(None), logged(["accuracy"])
print(f"scikit-learn {sklearn.__version__}")
print(f"scoring=None: {default}")
print(f"scoring=['accuracy']: {listed}")
assert sklearn.__version__ == "1.9.1"
assert default == "TypeError: 'float' object is not iterable"
assert listed.endswith("rows")
print("as seen before: ScoringMonitor(scoring=None) cannot log the default score")
PYTHON
