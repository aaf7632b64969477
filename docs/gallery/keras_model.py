"""
A schedule in Keras
===================

``to_keras`` turns a schedule into a ``LearningRateSchedule``, which every optimizer of Keras
takes. It works with the JAX, TensorFlow, and PyTorch backends. Here it is JAX.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

import keras
import matplotlib.pyplot as plt
import numpy as np

import loganneal_jax

# %%
# The task is to tell the two arms of a spiral apart.

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
label = rng.integers(0, 2, size=1024)
radius = rng.uniform(0.2, 1.0, size=1024)
angle = 4 * radius + np.pi * label
points = radius * np.stack([np.cos(angle), np.sin(angle)])
x = (points.T + 0.03 * rng.normal(size=(1024, 2))).astype(np.float32)

# %%
# With batches of 64 examples, an epoch has 16 steps, so 20 epochs have 320.

schedule = loganneal_jax.trapezoid_schedule(
    peak_value=0.03, end_value=0.0, total_steps=320, warmup_steps=32, cooldown_steps=96
)
model = keras.Sequential(
    [
        keras.Input((2,)),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(1),
    ]
)
model.compile(
    keras.optimizers.Adam(loganneal_jax.to_keras(schedule)),
    keras.losses.BinaryCrossentropy(from_logits=True),
    metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)],
)
history = model.fit(x, label, batch_size=64, epochs=20, verbose=0).history
print(f"training accuracy: {history['binary_accuracy'][-1]:.1%}")

# %%
# A saved model contains the schedule as the name and the arguments of its factory.

print(model.optimizer.get_config()["learning_rate"])

# %%
# The last third of the run is the cooldown.

figure, (top, bottom) = plt.subplots(2, sharex=True)
epochs = np.arange(1, 21)
top.plot(epochs, history["loss"], "o-")
top.set(ylabel="loss", yscale="log")
steps = np.arange(320)
bottom.plot(steps / 16, schedule(steps), color="C1")
bottom.set(ylabel="learning rate", xlabel="epoch", ylim=0)
plt.show()
