"""Tasks from arrays in memory: a Linen classifier, or any loss of parameters and a batch."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics

from experiments.data.datasets import Dataset
from experiments.errors import UserError
from experiments.program.state import TrainState, run_keys
from experiments.program.steps import Examples
from experiments.tasks import classification
from experiments.tasks.losses import softmax_cross_entropy
from experiments.tasks.task import Data, Metric, Task

Arrays = tuple[np.ndarray, np.ndarray]
Losses = Callable[[Any, Examples], jax.Array]


@flax.struct.dataclass
class Loss(clu_metrics.Collection):
    """Mean loss over the counted examples."""

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]

    def compute(self) -> dict[str, jax.Array]:
        """Returns the loss by name."""
        # clu divides a float by an integer.
        with jax.numpy_dtype_promotion("standard"):
            return super().compute()


def classifier(
    module: nn.Module,
    train: Arrays,
    test: Arrays,
    *,
    loss: classification.Loss = softmax_cross_entropy,
    data: str = "arrays",
    axis_name: str | None = None,
) -> Task:
    """Makes the task of classifying inputs with a Linen module.

    Args:
      module: from inputs to logits, called as `module(inputs, train=...)`. It may have batch norm
        and dropout.
      train: inputs [examples, ...] and labels, integers from 0.
      test: the same, to evaluate.
      loss: from logits and labels to the loss of each example.
      data: name of the data set, as tables show it.
      axis_name: the mapped axis along which devices share a batch, if there is one.

    Returns:
      The task, with the metrics `loss` and `accuracy`. Its objective is the accuracy.

    Raises:
      UserError: the arrays differ in length or in the shape of an input, or there are none.
    """
    (train_inputs, train_labels), (test_inputs, test_labels) = (
        (np.asarray(inputs, np.float32), np.asarray(labels, np.int32))
        for inputs, labels in (train, test)
    )
    _check(
        {"train inputs": train_inputs, "train labels": train_labels},
        {"test inputs": test_inputs, "test labels": test_labels},
    )
    dataset = Dataset(train_inputs, train_labels, test_inputs, test_labels)
    return classification.make_task(
        data=data,
        model_name=type(module).__name__,
        num_train=len(train_labels),
        num_classes=int(np.max(np.concatenate([train_labels, test_labels]))) + 1,
        load=lambda: (dataset, lambda inputs: inputs),
        model=module,
        image_shape=train_inputs.shape[1:],
        loss=loss,
        eval_loss=loss,
        augment=lambda key, inputs: inputs,
        axis_name=axis_name,
    )


def from_losses(
    init: Callable[[jax.Array], Any],
    losses: Losses,
    train: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray],
    *,
    data: str = "arrays",
    model: str = "model",
) -> Task:
    """Makes the task of minimizing a mean loss over examples.

    Args:
      init: from a PRNG key to the initial parameters.
      losses: from parameters and a batch to the loss of each example, float32 [batch].
      train: named arrays whose leading axis is the example.
      test: the same names, to evaluate.
      data: name of the data set, as tables show it.
      model: name of the model, as tables show it.

    Returns:
      The task, whose metric and objective is `loss`.

    Raises:
      UserError: the arrays differ in length or in the shape of an example, or there are none.
    """
    if train.keys() != test.keys():
        raise UserError(
            f"train has the arrays {', '.join(train)}, but test has {', '.join(test)}; both need "
            "the same names"
        )
    splits = Data(*({name: np.asarray(of[name]) for name in of} for of in (train, test)))
    _check(splits.train, splits.test)

    def make_state(key: jax.Array, optimizer: optax.GradientTransformation) -> TrainState:
        params = init(run_keys(key).init)
        return TrainState(jnp.zeros((), jnp.int32), params, {}, optimizer.init(params), key)

    def mean_loss(params: Any, batch: Examples) -> tuple[jax.Array, jax.Array]:
        of_examples = losses(params, batch)
        return of_examples.mean(), of_examples

    def train_step(
        state: TrainState, batch: Examples, optimizer: optax.GradientTransformation
    ) -> tuple[TrainState, Loss]:
        gradients, of_examples = jax.grad(mean_loss, has_aux=True)(state.params, batch)
        state = state.apply_gradients(gradients, optimizer)
        return state, Loss.single_from_model_output(loss=of_examples)

    def eval_step(state: TrainState, batch: Examples) -> Loss:
        examples = {name: array for name, array in batch.items() if name != "mask"}
        of_examples = losses(state.params, examples)
        return Loss.single_from_model_output(loss=of_examples, mask=batch["mask"])

    return Task(
        data=data,
        model=model,
        num_train=len(next(iter(splits.train.values()))),
        load=lambda: splits,
        init=make_state,
        train_step=train_step,
        eval_step=eval_step,
        collection=Loss,
        metrics={"loss": Metric("min")},
        objective="loss",
    )


def _check(train: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray]) -> None:
    """Refuses splits that no batch can be cut from, or that cannot share a model."""
    for name, arrays in (("train", train), ("test", test)):
        lengths = {array: len(values) for array, values in arrays.items() if values.ndim}
        if len(lengths) < len(arrays) or not arrays or len(set(lengths.values())) > 1:
            found = ", ".join(f"{array} {values.shape}" for array, values in arrays.items())
            raise UserError(
                f"the arrays of {name} must have one length, the number of examples; their shapes "
                f"are {found or 'missing'}"
            )
        if not next(iter(lengths.values())):
            raise UserError(f"{name} has no examples; it needs at least one")
    for (ours, first), (theirs, other) in zip(train.items(), test.items(), strict=False):
        if first.shape[1:] != other.shape[1:]:
            raise UserError(
                f"an example of {ours} has the shape {first.shape[1:]}, but one of {theirs} has "
                f"{other.shape[1:]}; both splits must have the same"
            )
