"""The interface of a task: what is learned, as pure functions and named metrics."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np
import optax
from clu import metrics as clu_metrics

from experiments.data.records import Stream
from experiments.program.state import TrainState
from experiments.program.steps import Batch, Examples, gather


class Metric(NamedTuple):
    """How to read one metric.

    Attributes:
      direction: "max" if higher is better, "min" if lower is better.
      percent: whether the metric is a fraction that tables and messages show in percent.
      chance: expected value of a guess that ignores the input, or None if there is none. A trial
        that ends no better counts as failed.
    """

    direction: Literal["max", "min"]
    percent: bool = False
    chance: float | None = None

    def best(self, values: list[float]) -> float:
        """Returns the best of some values.

        >>> Metric("min").best([0.3, 0.2])
        0.2
        """
        return max(values) if self.direction == "max" else min(values)

    def text(self, value: float) -> str:
        """Returns a value as a message shows it.

        >>> Metric("max", percent=True).text(0.9917), Metric("min").text(0.03125)
        ('99.17%', '0.03125')
        """
        return f"{value:.2%}" if self.percent else f"{value:.4g}"


class Floor(NamedTuple):
    """What a metric is compared with: its best possible value, or that of a reference.

    Attributes:
      value: the value.
      meaning: what it is, such as "entropy rate of the chain".
    """

    value: float
    meaning: str


def no_floors() -> Mapping[str, Floor]:
    """Returns the floors of a task that knows none."""
    return {}


class Data(NamedTuple):
    """A data set on the host, as named arrays.

    Attributes:
      train: what `Task.batch` cuts batches from; by default, the leading axis is the example.
      test: the split that is evaluated; the leading axis is the example.
    """

    train: Mapping[str, np.ndarray]
    test: Mapping[str, np.ndarray]


class Init(Protocol):
    """Makes the state at step 0."""

    def __call__(self, key: jax.Array, optimizer: optax.GradientTransformation) -> TrainState:
        """Returns the state, from a typed PRNG key and the optimizer that will update it."""


class TrainStep(Protocol):
    """Makes one update."""

    def __call__(
        self, state: TrainState, batch: Examples, optimizer: optax.GradientTransformation
    ) -> tuple[TrainState, Any]:
        """Returns the state after the update and the batch's metrics before it."""


class Sampling(NamedTuple):
    """How to continue a text.

    Attributes:
      prompt: the text to continue; None starts with a token of the task's choice.
      length: number of tokens to draw.
      temperature: divides the logits; 0 always takes the most likely token.
      top_k: only this many of the most likely tokens are drawn; None allows all.
      seed: seed of the draw.
    """

    prompt: str | None
    length: int
    temperature: float
    top_k: int | None
    seed: int


class Task(NamedTuple):
    """What is learned. Everything outside `tasks/` uses only these fields.

    Attributes:
      data: name of the data set, as tables show it.
      model: name of the model, as tables show it.
      num_train: examples in the training split.
      load: reads the data set into memory; may take long, and is called once per run.
      init: (key, optimizer) -> state at step 0.
      train_step: (state, batch, optimizer) -> (state, metrics); one update. The optimizer follows
        the learning-rate schedule.
      eval_step: (state, batch) -> metrics of the examples where the batch's `mask` is True.
      collection: the clu Collection that both steps return. It has a field `loss`, which the guard
        watches during training.
      metrics: how to read each metric of evaluation, by name.
      objective: the metric that a sweep tunes and a report ranks by.
      batch: (training split, indices of examples, key of the epoch) -> batch. The indices are below
        `num_train`. The key is a pure function of (seed, epoch).
      floors: computes what metrics are compared with, by name of the metric. It may take long; a
        run calls it once, after `load`.
      evaluation: the Collection that `eval_step` returns, if it has more than `collection`.
      pictures: state -> uint8 images [height, width, channels] by name, with 1 or 3 channels; each
        epoch of a run writes them. None for none.
      predict: what `experiments.predict` prints for a trained state, or None if the task predicts
        nothing.
      stream: the data set if it stays on disk, in place of `load`; None if it is loaded.
      inputs: the content of the file that a run stores, so that its network can be used without the
        data set; called after the data are read. None if there is none.
      loading: one sentence that says whether the data set stays on disk, and why; empty if there is
        no choice.
    """

    data: str
    model: str
    num_train: int
    load: Callable[[], Data]
    init: Init
    train_step: TrainStep
    eval_step: Callable[[TrainState, Examples], Any]
    collection: type[clu_metrics.Collection]
    metrics: Mapping[str, Metric]
    objective: str
    batch: Batch = gather
    floors: Callable[[], Mapping[str, Floor]] = no_floors
    evaluation: type[clu_metrics.Collection] | None = None
    pictures: Callable[[TrainState], Mapping[str, jax.Array]] | None = None
    predict: Callable[[TrainState, Sampling], str] | None = None
    stream: Stream | None = None
    inputs: Callable[[], bytes] | None = None
    loading: str = ""

    def no_metrics(self) -> Any:
        """Returns the metrics of no training examples."""
        return self.collection.empty()

    def no_evaluation(self) -> Any:
        """Returns the metrics of an evaluation of no examples."""
        return (self.evaluation or self.collection).empty()

    def description(self) -> dict[str, Any]:
        """Returns what a summary stores about the task, for the report to read."""
        return {
            "data": self.data,
            "model": self.model,
            "metrics": {name: metric._asdict() for name, metric in self.metrics.items()},
            "objective": self.objective,
        }
