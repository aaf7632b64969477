"""One training step and one evaluation step: pure functions, the same for every way of running."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics

from experiments.models import Module

Batch = dict[str, jax.Array]  # "image" [batch, h, w, c], "label" int32 [batch], "mask" bool [batch]
Loss = Callable[[jax.Array, jax.Array], jax.Array]  # logits, labels -> [batch]
Normalize = Callable[[jax.Array], jax.Array]  # images as stored -> float32 as a model takes them

# Of the loss of an auxiliary head (Szegedy et al. 2015, arXiv:1409.4842, section 5).
AUXILIARY_WEIGHT = 0.3


class TrainState(flax.struct.PyTreeNode):
    """Everything that training changes, and the key from which every random number comes.

    Attributes:
      step: int32 scalar, the number of updates made.
      params: float32 parameters of the model.
      batch_stats: running statistics of its batch norms.
      opt_state: state of the optax chain.
      key: typed PRNG key of the run, which stays what it is.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    key: jax.Array


@flax.struct.dataclass
class Metrics(clu_metrics.Collection):
    """Mean loss and accuracy over all examples that were counted."""

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]
    accuracy: clu_metrics.Accuracy


def init_state(
    key: jax.Array,
    *,
    model: Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
) -> TrainState:
    """The state before the first step.

    Args:
      key: typed PRNG key of the run.
      model: Linen module from images to logits.
      optimizer: optax chain with the learning-rate schedule in it.
      image_shape: height, width and channels of an image.

    Returns:
      Freshly initialised state at step 0.
    """
    init_key, *_ = run_keys(key)
    variables = model.init(init_key, jnp.zeros((1, *image_shape)), train=False)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        key=key,
    )


def run_keys(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The keys of a run's parameters, its epochs' order, its augmentation and its dropout."""
    init_key, order_key, augment_key, dropout_key = jax.random.split(key, 4)
    return init_key, order_key, augment_key, dropout_key


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: Module,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    augment: Callable[[jax.Array, jax.Array], jax.Array],
    normalize: Normalize,
) -> tuple[TrainState, Metrics]:
    """One update on one batch.

    Args:
      state: state before the step.
      batch: "image" and "label" of the examples.
      model: Linen module from images to logits.
      optimizer: optax chain with the learning-rate schedule in it.
      loss: loss of each example, from logits and labels; auxiliary heads of the model have theirs.
      augment: random transformation of raw images, from a key and images.
      normalize: raw images to the model's float input.

    Returns:
      State after the step, and the batch's metrics before the update.
    """
    _, _, augment_key, dropout_key = run_keys(state.key)
    images = normalize(augment(jax.random.fold_in(augment_key, state.step), batch["image"]))
    rngs = {"dropout": jax.random.fold_in(dropout_key, state.step)}

    def mean_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, changed = model.apply(
            variables, images, train=True, rngs=rngs, mutable=["batch_stats", "auxiliary_logits"]
        )
        losses = loss(logits, batch["label"])
        total = losses.mean()
        for auxiliary_logits in jax.tree.leaves(changed.get("auxiliary_logits", {})):
            total += AUXILIARY_WEIGHT * loss(auxiliary_logits, batch["label"]).mean()
        return total, (losses, logits, changed)

    gradients, (losses, logits, changed) = jax.grad(mean_loss, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    new_state = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=changed.get("batch_stats", {}),
        opt_state=opt_state,
    )
    metrics = Metrics.single_from_model_output(loss=losses, logits=logits, labels=batch["label"])
    return new_state, metrics


def eval_step(
    state: TrainState,
    batch: Batch,
    *,
    model: Module,
    loss: Loss,
    normalize: Normalize,
) -> Metrics:
    """Metrics of one batch, with running batch statistics.

    Args:
      state: state to evaluate.
      batch: "image", "label" and "mask" of the examples; where the mask is False, none is counted.
      model: Linen module from images to logits.
      loss: loss of each example, from logits and labels.
      normalize: raw images to the model's float input.

    Returns:
      The batch's metrics.
    """
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits: Any = model.apply(variables, normalize(batch["image"]), train=False)
    return Metrics.single_from_model_output(
        loss=loss(logits, batch["label"]),
        logits=logits,
        labels=batch["label"],
        mask=batch["mask"],
    )
