"""Averages of the weights: kept inside the compiled steps, and evaluated beside the last weights.

`ema` is an exponential moving average over steps, `swa` the equal-weight mean over ends of epochs,
and `snapshot` the weights at the end of the last cycle of the learning rate. A task knows nothing
about them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.models.layers import cumulative_batch_norm
from experiments.program.state import TrainState
from experiments.program.steps import (
    Batch,
    Batches,
    Examples,
    Metrics,
    Share,
    epoch_key,
    make_order,
)
from experiments.program.weights import as_they_are, to_evaluate

Averages = dict[str, Any]  # name -> parameters and batch statistics


class Averaging(NamedTuple):
    """Which averages of the weights a run keeps.

    Attributes:
      ema_decay: decay of the exponential moving average, or None without one.
      swa_start_epoch: the first epoch at whose end the weights count in the equal-weight mean, at
        least 1, or None without one.
      cycle_ends: the numbers of updates after which a cycle has ended, a tuple of ints in ascending
        order; or None without snapshots. The programs of a sweep have a traced row in its place,
        int32 [cycles], with zeros at its end.
    """

    ema_decay: float | None = None
    swa_start_epoch: int | None = None
    cycle_ends: Any = None

    @property
    def names(self) -> list[str]:
        """The names of the averages, as metrics show them."""
        kept = {
            "ema": self.ema_decay is not None,
            "swa": self.swa_start_epoch is not None,
            "snapshot": self.cycle_ends is not None,
        }
        return [name for name, is_kept in kept.items() if is_kept]

    def names_after(self, step: int, steps_per_epoch: int) -> list[str]:
        """Returns the names of the averages that exist after a number of updates.

        Args:
          step: number of updates made, at least 1.
          steps_per_epoch: number of steps in an epoch.

        >>> Averaging(ema_decay=0.999, swa_start_epoch=3).names_after(29, steps_per_epoch=10)
        ['ema']
        """
        begins = {
            "ema": 1,
            "swa": (self.swa_start_epoch or 0) * steps_per_epoch,
            "snapshot": np.min(self.cycle_ends) if self.cycle_ends is not None else 0,
        }
        return [name for name in self.names if begins[name] <= step]


OFF = Averaging()


def start(averaging: Averaging, state: TrainState) -> TrainState:
    """Adds the averages to a state at step 0; until they begin, they are its weights.

    Args:
      averaging: which averages to keep.
      state: the state that the task's `init` returned.

    Returns:
      The state with the field `averages`.
    """
    return state.replace(averages={name: _weights(state) for name in averaging.names})


def update(
    averaging: Averaging, averages: Averages, state: TrainState, steps_per_epoch: int
) -> TrainState:
    """Updates the averages after a step.

    The decay of the exponential moving average is `min(ema_decay, (1 + t) / (10 + t))` after t
    updates, so that the first weights do not linger. This is `num_updates` of TensorFlow's
    `tf.train.ExponentialMovingAverage`. The batch statistics are averaged like the parameters, as
    in timm's `ModelEmaV3`.

    The equal-weight mean takes the weights at the end of each epoch (Izmailov et al. 2018,
    arXiv:1803.05407, algorithm 1, with their code's cycle length of an epoch for any schedule, as
    in the example of `torch.optim.swa_utils`).

    Args:
      averaging: which averages to keep.
      averages: the averages before the step.
      state: the state after the step.
      steps_per_epoch: number of steps in an epoch.

    Returns:
      The state with its averages.
    """
    step, weights = state.step, _weights(state)
    updated = {}
    if averaging.ema_decay is not None:
        count = step.astype(jnp.float32)
        decay = jnp.minimum(averaging.ema_decay, (1.0 + count) / (10.0 + count))
        updated["ema"] = _mix(averages["ema"], weights, 1.0 - decay)
    if averaging.swa_start_epoch is not None:
        # Number of weights in the mean, with those after this step.
        number = step // steps_per_epoch - averaging.swa_start_epoch + 1
        updated["swa"] = jax.lax.cond(
            (step % steps_per_epoch == 0) & (number > 0),
            lambda mean, weights: _mix(mean, weights, 1.0 / number.astype(jnp.float32)),
            lambda mean, weights: mean,
            averages["swa"],
            weights,
        )
    if averaging.cycle_ends is not None:
        updated["snapshot"] = jax.lax.cond(
            (jnp.asarray(averaging.cycle_ends, jnp.int32) == step).any(),
            lambda snapshot, weights: weights,
            lambda snapshot, weights: snapshot,
            averages["snapshot"],
            weights,
        )
    return state.replace(averages=updated)


def make_statistics(
    train_step: Callable[[TrainState, Examples], tuple[TrainState, Any]],
    batches: Batches,
    *,
    share: Share,
    batch: Batch,
) -> Callable[[TrainState, Examples], Any]:
    """Makes the function that recomputes batch statistics for other weights.

    Like `torch.optim.swa_utils.update_bn`, it makes one pass over the training split, in the order
    and with the augmentation of the first epoch. A statistic of `flax.linen.BatchNorm` is the
    mean over the batches. Any other one follows its own rule from where it is.

    Args:
      train_step: one update, from a state and a batch. Only the statistics that it computes matter.
      batches: the division of the data set into batches.
      share: from the indices of a batch to those that this program processes.
      batch: cuts a batch from the training split.

    Returns:
      A function (state, training split) -> batch statistics of the state's parameters.
    """

    def statistics(state: TrainState, split: Examples) -> Any:
        first = jnp.zeros_like(state.step)
        order = make_order(batches)(state.replace(step=first))
        key = epoch_key(state.key, first)

        def body(step: jax.Array, batch_stats: Any) -> Any:
            indices = jax.lax.dynamic_slice(
                order, (step * batches.batch_size,), (batches.batch_size,)
            )
            with cumulative_batch_norm(step):
                before = state.replace(step=step, batch_stats=batch_stats)
                after, _ = train_step(before, batch(split, share(indices), key))
            return after.batch_stats

        return jax.lax.fori_loop(0, batches.steps_per_epoch, body, state.batch_stats)

    return statistics


def evaluate(
    names: Sequence[str],
    state: TrainState,
    train: Examples,
    test: Examples,
    *,
    evaluate: Callable[[TrainState, Examples], Metrics],
    statistics: Callable[[TrainState, Examples], Any],
) -> dict[str, Metrics]:
    """Evaluates the last weights and their averages.

    Args:
      names: the averages to evaluate.
      state: the state of a run, or of many trials.
      train: the training split, for the batch statistics of the equal-weight mean.
      test: the split to evaluate.
      evaluate: the compiled program (state, split) -> metrics.
      statistics: the compiled program (state, training split) -> batch statistics.

    Returns:
      Metrics by `test`, and `test_` and the name of the average.
    """
    metrics = {"test": evaluate(state, test)}
    for name in names:
        averaged = state.replace(**state.averages[name])
        if name == "swa" and jax.tree.leaves(state.batch_stats):
            averaged = averaged.replace(batch_stats=statistics(averaged, train))
        metrics[f"test_{name}"] = evaluate(as_they_are(averaged), test)
    return metrics


def to_compare(names: Sequence[str], state: TrainState) -> dict[str, TrainState]:
    """Returns the states to evaluate, with the batch statistics that were kept.

    Args:
      names: the averages to evaluate.
      state: the state of a run.

    Returns:
      States by `test`, and `test_` and the name of the average.
    """
    averaged = {
        f"test_{name}": as_they_are(state.replace(**state.averages[name])) for name in names
    }
    return {"test": state, **averaged}


def find_cycle_ends(learning_rates: np.ndarray) -> tuple[int, ...]:
    """Finds where the cycles of a schedule end: at its minima, after which it rises again.

    Args:
      learning_rates: float32 [num_steps + 1], up to the rate after the last step of the run.

    Returns:
      The numbers of updates after which a cycle has ended.

    >>> find_cycle_ends(np.array([0.1, 0.9, 0.5, 0.1, 0.1, 0.9, 0.5, 0.1, 0.9]))
    (5, 8)
    """
    import scipy.signal  # takes half a second

    # Rounding makes flat parts of a schedule rise by 1e-7 of the rate.
    least = 1e-5 * np.ptp(learning_rates)
    _, found = scipy.signal.find_peaks(-learning_rates, prominence=least or 1.0, plateau_size=1)
    return tuple(int(last) + 1 for last in found["right_edges"])


def _weights(state: TrainState) -> Mapping[str, Any]:
    return {"params": to_evaluate(state).params, "batch_stats": state.batch_stats}


def _mix(average: Any, weights: Any, share: jax.Array) -> Any:
    """Moves an average by a share of the way to other weights; integers are replaced."""

    def mix(old: jax.Array, new: jax.Array) -> jax.Array:
        if not jnp.issubdtype(old.dtype, jnp.inexact):
            return new
        return optax.incremental_update(new, old, share.astype(old.dtype))

    return jax.tree.map(mix, average, weights)
