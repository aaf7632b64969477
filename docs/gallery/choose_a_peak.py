"""
Choosing a peak with a range test
=================================

A schedule needs a peak. The range test of Smith (2017) finds one in a single short run: the
learning rate rises from far too small to far too large, and the loss shows where training breaks.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits

import loganneal_jax

# %%
# The task is to classify the handwritten digits of scikit-learn. The learning rates are an argument
# of the training, so one compiled program runs every schedule.

images, labels = load_digits(return_X_y=True)
images = jnp.asarray(images / 16, jnp.float32)
labels = jnp.asarray(labels)
BATCH_SIZE = 64


def init(key):
    """Returns the parameters of a network with one hidden layer."""
    first, last = jax.random.split(key)
    return {
        "w": jax.random.normal(first, (64, 64)) / 8,
        "b": jnp.zeros(64),
        "v": jax.random.normal(last, (64, 10)) / 8,
    }


def loss(params, images, labels):
    """Returns the mean loss of a batch."""
    logits = jax.nn.relu(images @ params["w"] + params["b"]) @ params["v"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@jax.jit
def train(rates):
    """Returns the loss of each step, from the learning rate of each step."""
    optimizer = optax.sgd(loganneal_jax.from_values(rates), momentum=0.9)

    def update(carry, key):
        params, state = carry
        batch = jax.random.randint(key, (BATCH_SIZE,), 0, len(labels))
        value, gradients = jax.value_and_grad(loss)(params, images[batch], labels[batch])
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), value

    start, batches = jax.random.split(jax.random.key(0))
    params = init(start)
    keys = jax.random.split(batches, len(rates))
    return jax.lax.scan(update, (params, optimizer.init(params)), keys)[1]


# %%
# The learning rate rises from 0.0001 to 10 in 300 steps, by the same factor in each.

STEPS = 300
rates = loganneal_jax.tabulate(loganneal_jax.range_test_schedule(1e-4, 10.0, STEPS), STEPS)
losses = np.asarray(train(rates))

# %%
# The loss of a batch is noisy, so average it over the last 20 steps or so. A common choice is the
# rate at which the average is lowest, divided by about 3: beyond that rate, training breaks.

decay = 1 - 1 / 20
weights = decay ** np.arange(STEPS)
average = np.array(
    [np.average(losses[: i + 1][::-1], weights=weights[: i + 1]) for i in range(STEPS)]
)
peak = float(rates[np.nanargmin(average)]) / 3
print(f"peak: {peak:.2g}")

figure, axes = plt.subplots()
axes.plot(rates, losses, ".", alpha=0.3, label="batch")
axes.plot(rates, average, label="average")
axes.axvline(peak, color="C5", linestyle="--", label=f"peak {peak:.2g}")
axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="loss")
axes.legend()
plt.show()

# %%
# A schedule with this peak trains well. A peak that is thirty times as large does not, and one
# that is thirty times as small is slow.

figure, axes = plt.subplots()
for factor in (1 / 30, 1, 30):
    schedule = loganneal_jax.cosine_decay_schedule(factor * peak, 0.0, STEPS)
    losses = train(loganneal_jax.tabulate(schedule, STEPS))
    smooth = np.convolve(losses, np.ones(20) / 20, mode="valid")
    axes.plot(smooth, label=f"peak {factor * peak:.2g}")
axes.set(xlabel="step", ylabel="loss, mean of 20 steps", yscale="log")
axes.legend()
plt.show()

# %%
# The range test is a start, not a comparison. To compare schedules, give each its own best peak,
# as in :doc:`compare_schedules`.
