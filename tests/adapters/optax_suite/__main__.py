"""`python -m tests.adapters.optax_suite` prints the page's part about optax's tests, `write` writes it there. `ours`
and `theirs` run every case, with our factories or optax's, and print which do not end as is said of them. `sharding`
runs the tests that need eight devices, which a process has to have from its start.
"""

from __future__ import annotations

import json
import sys

from . import page
from .cases import cases
from .expected import expected, outcome
from .factories import factories, optaxs
from .listed import sharding


def main(what: str = "") -> None:
    """What the head of this file says."""
    if what == "sharding":
        print(json.dumps({"ours": sharding(factories()), "theirs": sharding(optaxs())}))
    elif what == "write":
        page.write()
    elif what in ("ours", "theirs"):
        theirs = what == "theirs"
        for case in cases():
            if not (theirs and case.match) and (came := outcome(case, theirs)) != expected(case, theirs):
                print(f"{case}: {came}", flush=True)
    else:
        print(page.text())


if __name__ == "__main__":
    main(*sys.argv[1:])
