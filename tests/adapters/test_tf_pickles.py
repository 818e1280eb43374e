"""Pickles name the module that users import from, and those that version 0.1 wrote still load."""

import pickle
import re

from scirs2_adapters.tf import AdamW
from tests.boundaries.support import fresh


def test_a_pickle_names_the_public_module() -> None:
    pickled = pickle.dumps(AdamW(0.5), protocol=0)
    assert set(re.findall(rb"scirs2_adapters[\w.]*", pickled)) == {b"scirs2_adapters.adapters.tf"}


def test_what_version_0_1_pickled_loads_in_a_fresh_process() -> None:
    """The pickle names the old module; the process that loads it has imported nothing."""
    optimizer = AdamW(0.5)
    _, arguments = optimizer.__reduce__()
    old = b"cscirs2_adapters.adapters.tf.native.rules\n_restored\n"
    old += pickle.dumps((AdamW, *arguments), protocol=0).removesuffix(b".") + b"R."
    code = f"import pickle; print(pickle.loads({old!r}).get_config()['learning_rate'])"
    assert fresh(code).stdout.strip() == "0.5"
