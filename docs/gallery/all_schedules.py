"""
The shapes of all schedules
===========================

``make_schedule`` builds any schedule from its name. The arguments are the same for all: the peak,
the number of steps of the run, and, if you like, a warmup.
"""

import matplotlib.pyplot as plt
import numpy as np

import loganneal_jax
from loganneal_jax.named import SCHEDULES

STEPS = 200

# %%
# Some schedules have options of their own. These are the required ones, and those that make a
# restart visible.

options = {
    "cosine_restarts": {"restart_interval": 40, "restart_multiplier": 1.5},
    "cyclical_cosine": {"init_decay_steps": 40, "restart_interval": 40},
    "cyclical_log_annealing": {"init_decay_steps": 40, "restart_interval": 40},
    "exponential": {"end_value": 0.001},
    "inverse_sqrt": {"timescale": 20},
    "inverse_time": {"time_steps": 50, "decay_rate": 1.0},
    "log_step_size": {"restart_interval": 40},
    "range_test": {"min_value": 0.001},
    "staircase": {"boundaries": [100, 150]},
    "step": {"step_size": 50},
    "triangular": {"half_cycle_steps": 25},
    "triangular2": {"half_cycle_steps": 25},
    "triangular_exp_range": {"half_cycle_steps": 25, "decay_rate": 0.99},
}

# %%
# A schedule maps an array of steps to an array of learning rates, so one call draws a curve.

steps = np.arange(STEPS)
columns = 4
rows = -(-len(SCHEDULES) // columns)
figure, panels = plt.subplots(rows, columns, sharex=True, sharey=True, figsize=(8, 1.5 * rows))
for panel in panels.flat[len(SCHEDULES) :]:
    panel.remove()
for name, panel in zip(SCHEDULES, panels.flat, strict=False):
    schedule = loganneal_jax.make_schedule(
        name, peak_value=0.1, total_steps=STEPS, **options.get(name, {})
    )
    panel.plot(steps, schedule(steps))
    panel.set_title(name, fontsize=9)
figure.supxlabel("step")
figure.supylabel("learning rate")
plt.show()

# %%
# A name is short for the call of a factory, which a schedule prints. You can write that call in
# your program instead.

print(loganneal_jax.make_schedule("cosine", peak_value=0.1, total_steps=STEPS, warmup_steps=20))
