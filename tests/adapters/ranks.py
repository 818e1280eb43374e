"""How one of several processes hands over what it found."""

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from torch import distributed


def leave(folder: Path, report: dict[str, Any]) -> NoReturn:
    """Writes the report for the test to judge, and ends the process without finalizing the interpreter.

    A device mesh keeps threads of gloo's beyond `destroy_process_group`, and finalization now and then aborts on them:
    bare PyTorch 2.13 does so too, after data parallel, sharded and divided training, in one run out of twenty.
    """
    (folder / f"rank{distributed.get_rank()}.json").write_text(json.dumps(report))
    distributed.barrier()
    distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
