"""
Restarts and snapshots
======================

A schedule with warm restarts visits several minima. The weights at the end of each cycle are
snapshots, and the mean of their predictions is an ensemble for the price of one run (Huang et al.
2017).
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits

import loganneal_jax

# %%
# The schedule has three cycles of 100, 200, and 400 steps. Within each, it falls from its peak to
# its end, here along a cosine. ``restarts`` takes any shape of ``loganneal_jax.shapes``, or your
# own.

STEPS = 700
schedule = loganneal_jax.restarts(
    loganneal_jax.shapes.cosine, 0.05, 0.0, restart_interval=100, restart_multiplier=2.0
)
rates = np.asarray(schedule(np.arange(STEPS)))

# %%
# A cycle ends where the learning rate rises in the next step.

ends = [*np.flatnonzero(np.diff(rates) > 0).tolist(), STEPS - 1]
print(ends)

# %%
# The task is to classify the digits of scikit-learn, from 200 examples.

images, labels = load_digits(return_X_y=True)
images = jnp.asarray(images / 16, jnp.float32)
labels = jnp.asarray(labels)
train, test = slice(0, 200), slice(200, None)


def logits(params, images):
    """Returns the logits of a network with one hidden layer."""
    return jax.nn.relu(images @ params["w"] + params["b"]) @ params["v"]


def loss(params, batch):
    """Returns the mean loss of a batch, given as indices of examples."""
    return optax.softmax_cross_entropy_with_integer_labels(
        logits(params, images[batch]), labels[batch]
    ).mean()


first, last, batches = jax.random.split(jax.random.key(0), 3)
params = {
    "w": jax.random.normal(first, (64, 32)) / 8,
    "b": jnp.zeros(32),
    "v": jax.random.normal(last, (32, 10)) / 6,
}
optimizer = optax.sgd(schedule, momentum=0.9)
state = optimizer.init(params)


@jax.jit
def update(params, state, key):
    """Returns the parameters and the state after a step, and the test accuracy."""
    batch = jax.random.choice(key, train.stop, (32,))
    updates, state = optimizer.update(jax.grad(loss)(params, batch), state, params)
    params = optax.apply_updates(params, updates)
    guesses = jnp.argmax(logits(params, images[test]), axis=1)
    return params, state, jnp.mean(guesses == labels[test])


snapshots, accuracies = [], []
for step, key in enumerate(jax.random.split(batches, STEPS)):
    params, state, accuracy = update(params, state, key)
    accuracies.append(float(accuracy))
    if step in ends:
        snapshots.append(params)

# %%
# The ensemble averages the probabilities of the snapshots.

probabilities = [jax.nn.softmax(logits(each, images[test])) for each in snapshots]
together = jnp.argmax(sum(probabilities), axis=1)
ensemble = float(jnp.mean(together == labels[test]))
for end in ends:
    print(f"snapshot of step {end}: {accuracies[end]:.1%}")
print(f"ensemble: {ensemble:.1%}")

# %%
# One run does not show which is better. The experiments evaluate snapshots and two other averages
# of the weights over many seeds: see :doc:`/averaging`.

figure, (top, bottom) = plt.subplots(2, sharex=True)
top.plot(accuracies)
top.plot(ends, [accuracies[end] for end in ends], "o", label="snapshot")
top.axhline(ensemble, color="C5", linestyle="--", label="ensemble")
top.set(ylabel="test accuracy", ylim=(0.7, 1.0))
top.legend(loc="lower right")
bottom.plot(rates)
bottom.plot(ends, rates[ends], "o")
bottom.set(ylabel="learning rate", xlabel="step", ylim=0)
plt.show()
