"""
A schedule in your own optax chain
==================================

Every schedule of the library is an ``optax.Schedule``, a function from a step count to a learning
rate. It goes wherever optax takes a learning rate. This example needs only the library.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import loganneal_jax

# %%
# The schedule warms up for 50 steps, and then falls logarithmically in two cycles, the second of
# which is twice as long as the first.

schedule = loganneal_jax.cyclical_log_annealing_schedule(
    peak_value=0.1,
    end_value=0.001,
    init_decay_steps=150,
    restart_interval=300,
    warmup_steps=50,
)
optimizer = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.sgd(schedule, momentum=0.9),
)

# %%
# The task is to tell the two arms of a spiral apart. The network has one hidden layer.

rng = np.random.default_rng(0)
label = rng.integers(0, 2, size=1000)
radius = rng.uniform(0.2, 1.0, size=1000)
angle = 4 * radius + np.pi * label
points = radius * np.stack([np.cos(angle), np.sin(angle)])
x = jnp.asarray(points.T + 0.03 * rng.normal(size=(1000, 2)), jnp.float32)
y = jnp.asarray(label, jnp.float32)


def logits(params, x):
    """Returns the logit of the second arm for each point."""
    hidden = jax.nn.relu(x @ params["w"] + params["b"])
    return hidden @ params["v"]


def loss(params):
    """Returns the mean loss of all points."""
    return optax.sigmoid_binary_cross_entropy(logits(params, x), y).mean()


@jax.jit
def update(params, state):
    """Returns the state after a step, with the loss and the learning rate."""
    value, gradients = jax.value_and_grad(loss)(params)
    rate = loganneal_jax.learning_rate_of(state, schedule)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, value, rate


# %%
# ``learning_rate_of`` finds the count of the schedule in the state of the optimizer, and returns
# the learning rate of the next update. The loop therefore needs no step count of its own.

params = {
    "w": jnp.asarray(2 * rng.normal(size=(2, 64)), jnp.float32),
    "b": jnp.zeros(64),
    "v": jnp.asarray(rng.normal(size=64) / 8, jnp.float32),
}
state = optimizer.init(params)
losses, rates = [], []
for _ in range(500):
    params, state, value, rate = update(params, state)
    losses.append(float(value))
    rates.append(float(rate))

accuracy = float(jnp.mean((logits(params, x) > 0) == (y > 0.5)))
print(f"training accuracy: {accuracy:.1%}")

# %%
# The loss falls again after the restart.

figure, (top, bottom) = plt.subplots(2, sharex=True)
top.plot(losses)
top.set(ylabel="loss", yscale="log")
top.minorticks_off()
bottom.plot(rates, color="C1")
bottom.set(ylabel="learning rate", xlabel="step", ylim=0)
plt.show()
