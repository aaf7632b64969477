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
    accumulate_steps: int = 1,
    axis_name: str | None = None,
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
      accumulate_steps: pieces of the batch whose gradients are computed one after another; it
        divides the batch. Batch norms see one piece, dropout has random numbers for each.
      axis_name: the mapped axis whose devices share the batch, each with its own examples of it;
        gradients and batch statistics are averaged over it, and the state stays the same on all.

    Returns:
      State after the step, and the batch's metrics before the update.
    """
    _, _, augment_key, dropout_key = run_keys(state.key)
    images = normalize(augment(jax.random.fold_in(augment_key, state.step), batch["image"]))
    dropout_key = jax.random.fold_in(dropout_key, state.step)
    if axis_name:
        dropout_key = jax.random.fold_in(dropout_key, jax.lax.axis_index(axis_name))

    def piece_of_step(
        batch_stats: Any, dropout_key: jax.Array, images: jax.Array, labels: jax.Array
    ) -> tuple[Any, Any, Metrics]:
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

    if accumulate_steps == 1:
        gradients, batch_stats, metrics = piece_of_step(
            state.batch_stats, dropout_key, images, batch["label"]
        )
    else:
        gradients, batch_stats, metrics = _accumulated(
            piece_of_step, state, dropout_key, images, batch["label"], accumulate_steps
        )
    if axis_name:
        gradients, batch_stats = jax.lax.pmean((gradients, batch_stats), axis_name)
        metrics = jax.lax.psum(metrics, axis_name)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    new_state = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    return new_state, metrics


def _accumulated(
    piece_of_step: Callable[..., tuple[Any, Any, Metrics]],
    state: TrainState,
    dropout_key: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    accumulate_steps: int,
) -> tuple[Any, Any, Metrics]:
    """Mean gradients, last batch statistics and the metrics of all pieces of a batch."""

    def pieces(examples: jax.Array) -> jax.Array:
        # Every so many-th example, so that of a batch laid out over devices each device has its
        # share of every piece.
        split = examples.reshape(-1, accumulate_steps, *examples.shape[1:])
        return jnp.moveaxis(split, 1, 0)

    def body(
        carry: tuple[Any, Any, Metrics], piece: tuple[jax.Array, ...]
    ) -> tuple[tuple[Any, Any, Metrics], None]:
        sums, batch_stats, metrics = carry
        gradients, batch_stats, piece_metrics = piece_of_step(batch_stats, *piece)
        return (
            jax.tree.map(jnp.add, sums, gradients),
            batch_stats,
            metrics.merge(piece_metrics),
        ), None

    before = (jax.tree.map(jnp.zeros_like, state.params), state.batch_stats, Metrics.empty())
    keys = jax.random.split(dropout_key, accumulate_steps)
    (sums, batch_stats, metrics), _ = jax.lax.scan(
        body, before, (keys, pieces(images), pieces(labels))
    )
    gradients = jax.tree.map(lambda total: total / accumulate_steps, sums)
    return gradients, batch_stats, metrics


def eval_step(
    state: TrainState,
    batch: Batch,
    *,
    model: Module,
    loss: Loss,
    normalize: Normalize,
    axis_name: str | None = None,
) -> Metrics:
    """Metrics of one batch, with running batch statistics.

    Args:
      state: state to evaluate.
      batch: "image", "label" and "mask" of the examples; where the mask is False, none is counted.
      model: Linen module from images to logits.
      loss: loss of each example, from logits and labels.
      normalize: raw images to the model's float input.
      axis_name: the mapped axis whose devices share the batch, each with its own examples of it.

    Returns:
      The batch's metrics.
    """
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits: Any = model.apply(variables, normalize(batch["image"]), train=False)
    metrics = Metrics.single_from_model_output(
        loss=loss(logits, batch["label"]),
        logits=logits,
        labels=batch["label"],
        mask=batch["mask"],
    )
    return jax.lax.psum(metrics, axis_name) if axis_name else metrics
