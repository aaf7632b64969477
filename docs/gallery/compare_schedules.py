"""
Comparing schedules on your own task
====================================

``experiments.compare`` trains every schedule at every peak with every seed in one compiled
program. A fair comparison gives each schedule its own best peak, and several seeds.
"""

import jax.numpy as jnp
import numpy as np

import loganneal_jax
from experiments.compare import compare, draw
from experiments.tasks.arrays import from_losses

# %%
# A task is a function that makes parameters, the loss of each example, and arrays. This one is a
# linear model of eight inputs.


def init(key):
    """Returns the parameters before training."""
    return {"kernel": jnp.zeros(8), "bias": jnp.zeros(())}


def losses(params, batch):
    """Returns the squared error of each example."""
    predictions = batch["x"] @ params["kernel"] + params["bias"]
    return (predictions - batch["y"]) ** 2


def generate(num_examples, seed):
    """Returns examples whose noise has a variance of 0.25."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_examples, 8)).astype(np.float32)
    noise = 0.5 * rng.normal(size=num_examples).astype(np.float32)
    return {"x": x, "y": x @ np.arange(8, dtype=np.float32) + noise}


task = from_losses(init, losses, generate(1000, seed=0), generate(2000, seed=1))

# %%
# A schedule is a function from a peak to an ``optax.Schedule``.

STEPS = 600
schedules = {
    "constant": lambda peak: loganneal_jax.constant_schedule(peak),
    "cosine": lambda peak: loganneal_jax.cosine_decay_schedule(peak, 0.0, STEPS),
    "log": lambda peak: loganneal_jax.log_annealing_schedule(peak, 0.0, STEPS),
}
table = compare(
    task,
    schedules,
    seeds=range(5),
    num_steps=STEPS,
    peaks=(0.003, 0.01, 0.03),
    batch_size=16,
)

# %%
# The result is a pandas table with one row per trial. This is the mean loss over the seeds:

table.pivot_table(index="peak", columns="schedule", values="test_loss")

# %%
# ``draw`` shows the means over the seeds with their 95% intervals, at every peak and at the best
# one of each schedule.

figure = draw(table)

# %%
# The best peak is chosen on the same examples that the figure shows. For a result that you
# publish, pass a validation split as the test split here, or use a sweep, which tunes on examples
# that it holds out: see :doc:`/comparing`.
