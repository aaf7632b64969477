"""Image classification: a Linen classifier, a loss of logits and labels, and data augmentation."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics

from experiments.data.datasets import Dataset
from experiments.data.records import Stream
from experiments.program.state import TrainState, run_keys
from experiments.program.steps import Examples
from experiments.tasks.accumulation import accumulate
from experiments.tasks.task import Data, Metric, Task

Loss = Callable[[jax.Array, jax.Array], jax.Array]  # logits, labels -> [batch]
Augment = Callable[[jax.Array, jax.Array], jax.Array]  # key, images as stored -> images
Normalize = Callable[[jax.Array], jax.Array]  # images as stored -> float32 input of the model

# Weight of each auxiliary head's loss (Szegedy et al. 2015, arXiv:1409.4842, section 5).
AUXILIARY_WEIGHT = 0.3


@flax.struct.dataclass
class Metrics(clu_metrics.Collection):
    """Mean loss and accuracy over the counted examples."""

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]
    accuracy: clu_metrics.Accuracy

    def compute(self) -> dict[str, jax.Array]:
        """Returns the value of each metric by name."""
        # clu divides a float by an integer.
        with jax.numpy_dtype_promotion("standard"):
            return super().compute()


def metrics_of(num_classes: int) -> dict[str, Metric]:
    """Returns how to read the metrics; a guess gives every class the same probability."""
    return {
        "loss": Metric("min", chance=math.log(num_classes)),
        "accuracy": Metric("max", percent=True, chance=1 / num_classes),
    }


def make_task(
    *,
    data: str,
    model_name: str,
    num_train: int,
    num_classes: int,
    load: Callable[[], tuple[Dataset, Normalize]],
    model: nn.Module,
    image_shape: tuple[int, int, int],
    loss: Loss,
    eval_loss: Loss,
    augment: Augment,
    accumulate_steps: int = 1,
    axis_name: str | None = None,
    stream: Stream | None = None,
    streamed_normalize: Callable[[], Normalize] | None = None,
    inputs: Callable[[], bytes] | None = None,
    loading: str = "",
) -> Task:
    """Makes the task of classifying images.

    Args:
      data: name of the data set.
      model_name: name of the model.
      num_train: images in the training split.
      num_classes: number of classes.
      load: reads the data set, and returns it with the function that normalizes its images. It is
        called more than once and must be cached by the caller.
      model: Linen module from float images to logits, called as `model(images, train=...)`.
      image_shape: height, width, and channels of an image.
      loss: training loss of each example; auxiliary heads of the model use it too.
      eval_loss: loss of each example in evaluation.
      augment: random transformation of stored images.
      accumulate_steps: micro-batches per step. Batch norm sees one micro-batch at a time.
      axis_name: the mapped axis along which devices share a batch. Gradients and batch statistics
        are averaged over it.
      stream: see `Task`.
      streamed_normalize: returns the function that normalizes the images of `stream`; it is called
        more than once and must be cached by the caller.
      inputs: see `Task`.
      loading: see `Task`.

    Returns:
      The task. Its batches have `image` [batch, height, width, channels], `label` int32 [batch],
      and in evaluation `mask` bool [batch].
    """

    def normalize_of_data() -> Normalize:
        return load()[1] if streamed_normalize is None else streamed_normalize()

    def load_arrays() -> Data:
        dataset, _ = load()
        return Data(
            train={"image": dataset.train_images, "label": dataset.train_labels},
            test={"image": dataset.test_images, "label": dataset.test_labels},
        )

    def init(key: jax.Array, optimizer: optax.GradientTransformation) -> TrainState:
        images = jnp.zeros((1, *image_shape))
        variables = model.init(run_keys(key).init, images, train=False)
        params = variables["params"]
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables.get("batch_stats", {}),
            opt_state=optimizer.init(params),
            key=key,
        )

    def train_step(
        state: TrainState, batch: Examples, optimizer: optax.GradientTransformation
    ) -> tuple[TrainState, Metrics]:
        normalize = normalize_of_data()
        keys = run_keys(state.key)
        augment_key = jax.random.fold_in(keys.augment, state.step)
        images = normalize(augment(augment_key, batch["image"]))
        dropout_key = jax.random.fold_in(keys.dropout, state.step)
        if axis_name:
            dropout_key = jax.random.fold_in(dropout_key, jax.lax.axis_index(axis_name))

        def gradients_of(
            batch_stats: Any, dropout_key: jax.Array, batch: Examples
        ) -> tuple[Any, Any, Metrics]:
            images, labels = batch["image"], batch["label"]

            def mean_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]:
                logits, changed = model.apply(
                    {"params": params, "batch_stats": batch_stats},
                    images,
                    train=True,
                    rngs={"dropout": dropout_key},
                    mutable=["batch_stats", "auxiliary_logits"],
                )
                losses = loss(logits, labels)
                total = losses.mean()
                for auxiliary_logits in jax.tree.leaves(changed.get("auxiliary_logits", {})):
                    total += AUXILIARY_WEIGHT * loss(auxiliary_logits, labels).mean()
                return total, (losses, logits, changed)

            gradients, (losses, logits, changed) = jax.grad(mean_loss, has_aux=True)(state.params)
            metrics = Metrics.single_from_model_output(loss=losses, logits=logits, labels=labels)
            return gradients, changed.get("batch_stats", {}), metrics

        gradients, batch_stats, metrics = accumulate(
            gradients_of,
            accumulate_steps,
            params=state.params,
            batch_stats=state.batch_stats,
            key=dropout_key,
            batch={"image": images, "label": batch["label"]},
            no_metrics=Metrics.empty(),
        )
        if axis_name:
            gradients, batch_stats = jax.lax.pmean((gradients, batch_stats), axis_name)
            metrics = jax.lax.psum(metrics, axis_name)
        return state.apply_gradients(gradients, optimizer, batch_stats=batch_stats), metrics

    def eval_step(state: TrainState, batch: Examples) -> Metrics:
        normalize = normalize_of_data()
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        logits: Any = model.apply(variables, normalize(batch["image"]), train=False)
        metrics = Metrics.single_from_model_output(
            loss=eval_loss(logits, batch["label"]),
            logits=logits,
            labels=batch["label"],
            mask=batch["mask"],
        )
        return jax.lax.psum(metrics, axis_name) if axis_name else metrics

    return Task(
        data=data,
        model=model_name,
        num_train=num_train,
        load=load_arrays,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        collection=Metrics,
        metrics=metrics_of(num_classes),
        objective="accuracy",
        stream=stream,
        inputs=inputs,
        loading=loading,
    )
