"""The interface of a task: how its metrics are read, and how it describes itself."""

import json

import jax
import pytest
from clu import metrics as clu_metrics
from flax import struct

from experiments.tasks.task import Metric, Task


@struct.dataclass
class Metrics(clu_metrics.Collection):
    loss: clu_metrics.Average.from_output("loss")
    error: clu_metrics.Average.from_output("error")


TASK = Task(
    data="points",
    model="line",
    num_train=3,
    load=None,
    init=None,
    train_step=None,
    eval_step=None,
    collection=Metrics,
    metrics={"loss": Metric("min"), "error": Metric("min", percent=True, chance=0.5)},
    objective="error",
)


@pytest.mark.parametrize(("direction", "best"), [("max", 0.9), ("min", 0.1)])
def test_best_value_depends_on_the_direction(direction, best):
    assert Metric(direction).best([0.5, 0.9, 0.1]) == best


def test_text_of_a_fraction_is_in_percent():
    assert Metric("max", percent=True).text(0.98765) == "98.77%"
    assert Metric("max").text(0.98765) == "0.9877"
    assert Metric("min").text(12345.6) == "1.235e+04"


def test_description_is_what_a_summary_stores():
    assert json.loads(json.dumps(TASK.description())) == {
        "data": "points",
        "model": "line",
        "metrics": {
            "loss": {"direction": "min", "percent": False, "chance": None},
            "error": {"direction": "min", "percent": True, "chance": 0.5},
        },
        "objective": "error",
    }


def test_metrics_of_no_examples_are_neutral_in_a_merge():
    some = Metrics.single_from_model_output(loss=2.0, error=0.25)
    merged = jax.device_get(TASK.no_metrics().merge(some)).compute()
    assert merged == {"loss": 2.0, "error": 0.25}
