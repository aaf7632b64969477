"""Linear regression on Gaussian inputs whose spectrum is a power law, with new data at every step.

`expected_risk` computes exactly what the runs of this task are on average.
"""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics

from experiments.program.state import TrainState
from experiments.program.steps import Examples
from experiments.tasks.accumulation import accumulate
from experiments.tasks.expected_risk import power_law
from experiments.tasks.task import Data, Floor, Metric, Task

EPOCH_EXAMPLES = 4096  # data have no end, so the length of an epoch is only a unit


@flax.struct.dataclass
class Metrics(clu_metrics.Collection):
    """Loss of the examples, and exact excess risk of the weights."""

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]
    risk: clu_metrics.Average.from_output("risk")  # type: ignore[valid-type]

    def compute(self) -> dict[str, jax.Array]:
        """Returns the value of each metric by name."""
        # clu divides a float by an integer.
        with jax.numpy_dtype_promotion("standard"):
            return super().compute()


def make_task(
    *,
    dimensions: int,
    exponent: float,
    noise: float,
    num_validation: int = 0,
    accumulate_steps: int = 1,
    axis_name: str | None = None,
) -> Task:
    """Makes the task of linear regression by SGD on data that are never seen twice.

    The inputs x are Gaussian with variances i**-exponent along the axes i = 1, ..., dimensions, and
    the labels are the sum of the inputs plus noise. So the true weights are 1, and training begins
    at 0. The loss of an example is (x @ w - y)^2 / 2. The excess risk of weights w, over that of
    the true ones, is the sum of i**-exponent (w_i - 1)^2 / 2; evaluation computes it exactly.

    Args:
      dimensions: number of inputs.
      exponent: decay of the spectrum.
      noise: standard deviation of the noise of the labels.
      num_validation: examples by which an epoch is shorter while a sweep tunes. Evaluation needs no
        examples, so it is the same.
      accumulate_steps: micro-batches per step.
      axis_name: the mapped axis along which devices share a batch.

    Returns:
      The task. Its batches have `x` float32 [batch, dimensions] and `y` float32 [batch].
    """
    spectrum = power_law(dimensions, exponent).astype(np.float32)
    deviations = np.sqrt(spectrum)

    def load() -> Data:
        return Data(
            train={"index": np.arange(EPOCH_EXAMPLES - num_validation, dtype=np.int32)},
            test={"index": np.arange(max(1, num_validation), dtype=np.int32)},
        )

    def batch(split: Examples, indices: jax.Array, key: jax.Array) -> Examples:
        """Draws the examples with these indices in the epoch of the key."""

        def example(index: jax.Array) -> tuple[jax.Array, jax.Array]:
            drawn = jax.random.normal(jax.random.fold_in(key, index), (dimensions + 1,))
            x = drawn[1:] * deviations
            return x, x.sum() + noise * drawn[0]

        x, y = jax.vmap(example)(split["index"][indices])
        return {"x": x, "y": y}

    def init(key: jax.Array, optimizer: optax.GradientTransformation) -> TrainState:
        params = {"kernel": jnp.zeros(dimensions)}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats={},
            opt_state=optimizer.init(params),
            key=key,
        )

    def risk(params: Mapping[str, jax.Array]) -> jax.Array:
        return jnp.sum(spectrum * jnp.square(params["kernel"] - 1)) / 2

    def train_step(
        state: TrainState, batch: Examples, optimizer: optax.GradientTransformation
    ) -> tuple[TrainState, Metrics]:
        def gradients_of(batch_stats: Any, key: jax.Array, batch: Examples) -> tuple[Any, Any, Any]:
            def mean_loss(params: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
                losses = jnp.square(batch["x"] @ params["kernel"] - batch["y"]) / 2
                return losses.mean(), losses

            gradients, losses = jax.grad(mean_loss, has_aux=True)(state.params)
            risks = jnp.full_like(losses, risk(state.params))
            metrics = Metrics.single_from_model_output(loss=losses, risk=risks)
            return gradients, batch_stats, metrics

        gradients, _, metrics = accumulate(
            gradients_of,
            accumulate_steps,
            params=state.params,
            batch_stats={},
            key=state.key,
            batch=batch,
            no_metrics=Metrics.empty(),
        )
        if axis_name:
            gradients = jax.lax.pmean(gradients, axis_name)
            metrics = jax.lax.psum(metrics, axis_name)
        return state.apply_gradients(gradients, optimizer), metrics

    def eval_step(state: TrainState, batch: Examples) -> Metrics:
        risks = jnp.full(batch["mask"].shape, risk(state.params))
        metrics = Metrics.single_from_model_output(
            loss=risks + noise**2 / 2, risk=risks, mask=batch["mask"]
        )
        return jax.lax.psum(metrics, axis_name) if axis_name else metrics

    at_zero = float(spectrum.sum(dtype=np.float64)) / 2
    return Task(
        data=f"i^-{exponent:g}, noise {noise:g}",
        model=f"linear, {dimensions} inputs",
        num_train=EPOCH_EXAMPLES - num_validation,
        load=load,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        collection=Metrics,
        metrics={
            "loss": Metric("min", chance=at_zero + noise**2 / 2),
            "risk": Metric("min", chance=at_zero),
        },
        objective="risk",
        batch=batch,
        floors=lambda: {"loss": Floor(noise**2 / 2, "loss of the true weights")},
    )
