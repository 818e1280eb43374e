"""What runs beside the data of a client: some steps from the global model."""

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from .task import client_rows, from_record, to_record, trained

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """The model after training on the rows of this client, and how many these are."""
    node = context.node_config
    images, labels = client_rows(int(node["partition-id"]), int(node["num-partitions"]))
    model = trained(from_record(message.content["arrays"]), images, labels)
    metrics = MetricRecord({"num-examples": len(labels)})
    return Message(RecordDict({"arrays": to_record(model), "metrics": metrics}), reply_to=message)
