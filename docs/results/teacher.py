"""A task whose floor is known: a network learns another one from noisy labels, each seen once.

The teacher is a fixed random network with one hidden layer. The student has the same form, so it
can represent the teacher. A label is the teacher's output plus Gaussian noise, and no example comes
twice in an epoch. So the noise of the gradients does not vanish. Evaluation compares with the
teacher itself, without noise: the metric `risk` is the mean squared error, whose floor is 0.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics
from flax import linen as nn
from ml_collections import ConfigDict

from experiments.errors import UserError
from experiments.program.state import TrainState
from experiments.tasks.task import Data, Metric, Task

INPUTS, HIDDEN = 8, 16
NUM_TRAIN, NUM_TEST = 2**19, 2**13
TEACHER_SEED = 0


@flax.struct.dataclass
class Training(metrics.Collection):
    """The metric of a training step: the squared error with noisy labels."""

    loss: metrics.Average.from_output("loss")


@flax.struct.dataclass
class Evaluation(metrics.Collection):
    """The metrics of evaluation: the squared error with the teacher, and that with noisy labels."""

    loss: metrics.Average.from_output("loss")
    risk: metrics.Average.from_output("risk")


class Network(nn.Module):
    """One hidden layer of tanh units, and a linear output."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns outputs [examples] for inputs [examples, INPUTS]."""
        hidden = jnp.tanh(nn.Dense(HIDDEN, kernel_init=nn.initializers.lecun_normal())(x))
        return nn.Dense(1)(hidden)[..., 0]


def examples(num_examples: int, noise: float, seed: int) -> dict[str, np.ndarray]:
    """Draws inputs, and labels whose part from the teacher has a variance of about 1.47.

    Args:
      num_examples: number of examples.
      noise: standard deviation of the labels' noise.
      seed: seed of the draw; the teacher is always the same.

    Returns:
      `x`, float32 [num_examples, INPUTS]; `y`, float32 [num_examples].
    """
    teacher = np.random.default_rng(TEACHER_SEED)
    first = teacher.normal(size=(INPUTS, HIDDEN)).astype(np.float32)
    second = (teacher.normal(size=HIDDEN) / np.sqrt(HIDDEN / 2)).astype(np.float32)
    drawn = np.random.default_rng([TEACHER_SEED, seed])
    x = drawn.normal(size=(num_examples, INPUTS)).astype(np.float32)
    y = np.tanh(x @ first) @ second
    return {"x": x, "y": y + np.float32(noise) * drawn.normal(size=num_examples).astype("f")}


def make_task(config: ConfigDict, axis_name: str | None) -> Task:
    """Returns the task.

    Args:
      config: the config of a run; `task.options.noise` is the standard deviation of the noise.
      axis_name: None, because the task runs on one device.

    Raises:
      UserError: the strategy has several devices.
    """
    if axis_name is not None:
        raise UserError("the teacher's task runs on one device; use parallel.strategy='jit'")
    noise, held_out = config.task.options.noise, config.data.validation_examples
    network = Network()
    of_a_constant = float(np.var(examples(NUM_TEST, 0.0, seed=1)["y"]))

    def load() -> Data:
        # No example of a run is used twice, so other noise-free examples serve for tuning.
        test = examples(NUM_TEST, 0.0, seed=2 if held_out else 1)
        return Data(examples(NUM_TRAIN - held_out, noise, seed=0), test)

    def init(key: jax.Array, optimizer: optax.GradientTransformation) -> TrainState:
        params = network.init(key, jnp.zeros((1, INPUTS)))["params"]
        return TrainState(jnp.zeros((), jnp.int32), params, {}, optimizer.init(params), key)

    def errors(params: optax.Params, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        squares = (network.apply({"params": params}, batch["x"]) - batch["y"]) ** 2
        return squares.mean(), squares

    def train_step(
        state: TrainState, batch: dict[str, jax.Array], optimizer: optax.GradientTransformation
    ) -> tuple[TrainState, Training]:
        gradients, squares = jax.grad(errors, has_aux=True)(state.params, batch)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
        return state, Training.single_from_model_output(loss=squares)

    def eval_step(state: TrainState, batch: dict[str, jax.Array]) -> Evaluation:
        _, squares = errors(state.params, batch)
        return Evaluation.single_from_model_output(
            loss=squares + noise**2, risk=squares, mask=batch["mask"]
        )

    return Task(
        data=f"teacher with noise {noise:g}",
        model="student",
        num_train=NUM_TRAIN - held_out,
        load=load,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        collection=Training,
        evaluation=Evaluation,
        metrics={"loss": Metric("min"), "risk": Metric("min", chance=of_a_constant)},
        objective="risk",
    )
