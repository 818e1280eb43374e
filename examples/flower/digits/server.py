"""What runs on the server: rounds of training, each with a step of an optimizer, and the accuracy after each."""

import numpy as np
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from scirs2_adapters.flower import FedOpt

from .task import accuracy, from_record, initial, test_rows, to_record

app = ServerApp()


def measured(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """The accuracy of the global model on rows of no client."""
    return MetricRecord({"accuracy": accuracy(from_record(arrays), *test_rows())})


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and go on from the file of a server that was stopped."""
    run = context.run_config
    strategy = FedOpt(run["optimizer"], learning_rate=run["learning-rate"], path=run["path"], fraction_evaluate=0.0)
    result = strategy.start(grid, to_record(initial()), num_rounds=run["rounds"], evaluate_fn=measured)
    np.savez(run["model"], **from_record(result.arrays))
