"""
A schedule in PyTorch
=====================

``to_torch`` returns the function that PyTorch's ``LambdaLR`` takes. The same scheduler works in
Lightning. The outputs are missing on this page where PyTorch was not installed.
"""

# sphinx_gallery_thumbnail_path = 'schedules/cyclical_log_annealing.png'

import matplotlib.pyplot as plt
import numpy as np
import torch

import loganneal_jax

# %%
# The schedule runs in JAX. On a machine with a GPU, set the environment variable
# ``JAX_PLATFORMS=cpu``, so that JAX leaves the memory of the GPU to PyTorch.
#
# ``LambdaLR`` multiplies the learning rate of the optimizer by the schedule, so the optimizer gets
# the learning rate 1. To keep another one, pass it as ``base_value`` to ``to_torch``.

schedule = loganneal_jax.cyclical_log_annealing_schedule(
    peak_value=0.1,
    end_value=0.001,
    init_decay_steps=150,
    restart_interval=150,
    warmup_steps=50,
)
torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Linear(2, 64),
    torch.nn.ReLU(),
    torch.nn.Linear(64, 1),
)
optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, loganneal_jax.to_torch(schedule))

# %%
# The task is to tell the two arms of a spiral apart. Call ``scheduler.step()`` after each step of
# the optimizer, not after each epoch.

rng = np.random.default_rng(0)
label = rng.integers(0, 2, size=1000)
radius = rng.uniform(0.2, 1.0, size=1000)
angle = 4 * radius + np.pi * label
points = radius * np.stack([np.cos(angle), np.sin(angle)])
x = torch.tensor(points.T + 0.03 * rng.normal(size=(1000, 2)), dtype=torch.float32)
y = torch.tensor(label, dtype=torch.float32)

losses, rates = [], []
for _ in range(500):
    optimizer.zero_grad()
    logits = model(x).squeeze(1)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y)
    loss.backward()
    rates.append(scheduler.get_last_lr()[0])
    losses.append(loss.item())
    optimizer.step()
    scheduler.step()

# %%
# The learning rates are those of the schedule.

assert np.allclose(rates, schedule(np.arange(500)))

figure, (top, bottom) = plt.subplots(2, sharex=True)
top.plot(losses)
top.set(ylabel="loss", yscale="log")
top.minorticks_off()
bottom.plot(rates, color="C1")
bottom.set(ylabel="learning rate", xlabel="step", ylim=0)
plt.show()
