"""A node: trains on its own digits. The one line that protects what it replies is the mod."""

import task
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from secagg.integrations.flower import SecureMod

app = ClientApp(mods=[SecureMod()])


def own_digits(context: Context):
    return task.partition(context.node_config["partition-id"], context.node_config["num-partitions"])


@app.train()
def train(message: Message, context: Context) -> Message:
    x, y = own_digits(context)
    model, loss = task.train(task.from_record(message.content["arrays"]), x, y, epochs=2, rate=0.5)
    records = {
        "arrays": task.to_record(model),
        "metrics": MetricRecord({"num-examples": len(y), "train-loss": loss}),
    }
    return Message(RecordDict(records), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    x, y = own_digits(context)
    loss, accuracy = task.test(task.from_record(message.content["arrays"]), x, y)
    metrics = MetricRecord({"num-examples": len(y), "loss": loss, "accuracy": accuracy})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
