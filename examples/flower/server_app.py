"""The server: federated averaging. The one line that lets it see means only is the wrapper."""

import task
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from secagg.integrations.flower import SecureAggregation

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    strategy = FedAvg(min_available_nodes=config["nodes"], min_train_nodes=config["nodes"])
    strategy = SecureAggregation(strategy, peers=config["secagg-peers"])
    strategy.start(
        grid=grid,
        initial_arrays=task.to_record(task.new_model()),
        num_rounds=config["num-server-rounds"],
        evaluate_fn=held_out_accuracy,
    )


def held_out_accuracy(_: int, arrays: ArrayRecord) -> MetricRecord:
    loss, accuracy = task.test(task.from_record(arrays), *task.held_out())
    return MetricRecord({"loss": loss, "accuracy": accuracy})
