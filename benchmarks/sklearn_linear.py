"""scikit-learn: whole fits of `LinearClassifier` beside `SGDClassifier`, and the accuracy on held-out rows of both."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import make_classification
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from scirs2_adapters.sklearn import Adagrad, LinearClassifier

from .row import Row, measure

SKIPPED = {"site-packages", "test", "idlelib", "lib2to3"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def rows(quick: bool) -> Iterator[Row]:
    """Dense rows with the defaults of both, then words in a million features, for as long as it takes to be as good."""
    warnings.simplefilter("ignore")  # of fits that are ended before they converge
    count = 4_000 if quick else 100_000
    X, y = make_classification(count * 5 // 4, 100, n_informative=30, random_state=0)
    X, words = scale(X), _docstrings(20, 2_000 if quick else None)
    for loss in ("log_loss", "hinge"):
        ours, theirs = LinearClassifier(loss=loss, random_state=0), SGDClassifier(loss=loss, random_state=0)
        yield from fits("sklearn linear", f"{loss}, {count:,} x 100", (ours, theirs), X, y, quick)
        ours = LinearClassifier(Adagrad(learning_rate=0.3), loss=loss, penalty=None, max_iter=2, random_state=0)
        case = f"{loss}, {words[0].shape[0]:,} hashed docstrings"
        yield from fits("sklearn linear", case, (ours, theirs), *words, quick)


def fits(group: str, case: str, models: tuple[Any, Any], X: Any, y: np.ndarray, quick: bool) -> Iterator[Row]:
    """Fits of our model and of scikit-learn's, with the accuracy of both on a fifth of the rows, which is held out."""
    ours, theirs = models
    X, held_out, y, answers = train_test_split(X, y, test_size=0.2, random_state=0)
    baselines = {f"{type(theirs).__name__}()": lambda: theirs.fit(X, y)}
    for row in measure(group, case, lambda: ours.fit(X, y), baselines, (2 if quick else 7, 1)):
        accuracy = 100 * ours.score(held_out, answers), 100 * theirs.score(held_out, answers)
        yield replace(row, parts={"accuracy, %": accuracy})


def _docstrings(classes: int, most: int | None) -> tuple[Any, np.ndarray]:
    """The docstrings of the standard library as hashed words, and the modules that have most of them."""
    root, docstrings = Path(sysconfig.get_paths()["stdlib"]), list[tuple[str, str]]()
    for file in sorted(root.rglob("*.py")):
        module = file.relative_to(root).parts[0]
        if module not in SKIPPED:
            nodes = ast.walk(ast.parse(file.read_bytes()))
            texts = (ast.get_docstring(node) for node in nodes if isinstance(node, DOCUMENTED))
            docstrings += [(text, module) for text in texts if text and len(text) > 20]
    largest = {module for module, _ in Counter(module for _, module in docstrings).most_common(classes)}
    kept = [(text, module) for text, module in docstrings if module in largest]
    kept = kept if most is None else kept[:: max(1, len(kept) // most)]
    return HashingVectorizer().transform(text for text, _ in kept), np.array([module for _, module in kept])
