"""What scikit-learn asks of an estimator."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from ..drivers.sklearn import SklearnDriver
from ..outcome import expect
from ..problem import distance, same_bits


def cloned(driver: SklearnDriver) -> None:
    """A clone has the same parameters, and nothing that was learned."""
    estimator = driver.start().estimator
    copied = clone(estimator)
    expect(str(copied.get_params()) == str(estimator.get_params()), "the same parameters", "others")
    expect(not [name for name in vars(copied) if name.endswith("_")], "nothing learned", "something")


def set_params(driver: SklearnDriver) -> None:
    """`set_params` acts as an argument of the constructor."""
    half = {driver.rate(): driver.subject.rate_value / 2}
    x, y = driver.rows()
    run, constructed = driver.start(), driver.start(half)
    run.estimator = driver.create().set_params(**half).fit(x, y)
    constructed.estimator.fit(x, y)
    expect(same_bits(run.params(), constructed.params()), "the same bits", "others")


def fitted_again(driver: SklearnDriver) -> None:
    """A second `fit` begins anew and ends at the same bits."""
    x, y = driver.rows()
    run = driver.fitted(x, y)
    once = run.params()
    run.estimator.fit(x, y)
    expect(same_bits(run.params(), once), "the same bits", "others")


def rows_unchanged(driver: SklearnDriver) -> None:
    """`fit` leaves rows and targets as they were."""
    x, y = driver.rows()
    before = [x.copy(), y.copy()]
    driver.fitted(x, y)
    expect(same_bits([x, y], before), "rows and targets unchanged", "other numbers in them")


def columns_first(driver: SklearnDriver) -> None:
    """Rows that lie column by column are the same rows."""
    x, y = driver.rows()
    gap = distance(driver.fitted(np.asfortranarray(x), y).params(), driver.fitted(x, y).params())
    expect(gap < 1e-5, "the fit of rows that lie one by one", "another fit")


def learns(driver: SklearnDriver) -> None:
    """A fit predicts numbers, one for each row."""
    x, y = driver.rows()
    predicted = driver.fitted(x, y).estimator.predict(x)
    expect(predicted.shape == y.shape and bool(np.isfinite(predicted).all()), "finite predictions", "others")


def own_checks(driver: SklearnDriver) -> None:
    """scikit-learn's `check_estimator` finds nothing."""
    results = check_estimator(driver.create(), on_fail=None, on_skip=None)
    failed = [each["check_name"] for each in results if each["status"] == "failed"]
    expect(not failed, "no failure", ", ".join(failed))


CHECKS = (cloned, set_params, fitted_again, rows_unchanged, columns_first, learns, own_checks)
