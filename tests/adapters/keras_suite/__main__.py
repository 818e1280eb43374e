"""`python -m tests.adapters.keras_suite` prints the page's part about Keras' tests, as JSON. `ours` runs every case on
the backend of the process and prints which do not end as is said of them.
"""

from __future__ import annotations

import json
import sys

from ..wheel_suite import outcome
from . import page
from .cases import cases
from .expected import RAISED, expected


def main(what: str = "") -> None:
    """What the head of this file says."""
    if what == "ours":
        for case in cases():
            if (came := outcome(case.run, RAISED)) != expected(case):
                print(f"{case}: {came}", flush=True)
    else:
        print(json.dumps(page.text()))


if __name__ == "__main__":
    main(*sys.argv[1:])
