"""Draws `schedules.png`: cyclical log annealing beside what it is compared with.

The parameters are those of the first experiment of Naveen 2024 (60 epochs, restarts after 10, 10
and 20 epochs) and of Nakamura et al. 2021 (10% warmup from 0.01), at 391 steps an epoch.

    python docs/schedules/plot.py
"""

import pathlib

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import optax

import loganneal_jax as la

EPOCH = 391  # batches of 128 in CIFAR-10
EPOCHS = 60
STEPS = EPOCHS * EPOCH
CYCLES = {
    "init_decay_steps": 10 * EPOCH,
    "restart_interval": 10 * EPOCH,
    "restart_multiplier": 2.0,
    "warmup_steps": 5 * EPOCH,
    "warmup_init_value": 0.01,
}
RESTARTS = (15, 25, 45)
WARMUP = {"warmup_steps": 6 * EPOCH, "warmup_init_value": 0.01}


def panels() -> dict[str, tuple[optax.Schedule, tuple[int, ...], str]]:
    """Title -> schedule, its restarts in epochs, its colour; the cyclical ones first."""
    log, cosine, other = "#c2410c", "#1d4ed8", "#0f766e"
    return {
        "cyclical log annealing, eq. (4)": (
            la.cyclical_log_annealing_schedule(0.1, 0.001, **CYCLES),
            RESTARTS,
            log,
        ),
        "cyclical log annealing, normalised": (
            la.cyclical_log_annealing_schedule(0.1, 0.001, **CYCLES, variant="normalised"),
            RESTARTS,
            log,
        ),
        "cyclical cosine": (
            la.cyclical_cosine_schedule(0.1, 0.001, **CYCLES),
            RESTARTS,
            cosine,
        ),
        "triangular2": (
            la.triangular_schedule(0.001, 0.1, 10 * EPOCH, mode="triangular2"),
            (20, 40),
            cosine,
        ),
        "sigmoid with warmup (sig+)": (
            la.warmup_sigmoid_decay_schedule(0.1, 0.001, STEPS, **WARMUP),
            (),
            other,
        ),
        "trapezoid (trap)": (
            la.trapezoid_schedule(0.1, 0.001, STEPS, cooldown_steps=20 * EPOCH, **WARMUP),
            (),
            other,
        ),
        "staircase with warmup (str+)": (
            la.warmup_staircase_schedule(0.1, boundaries=[30 * EPOCH, 45 * EPOCH], **WARMUP),
            (),
            other,
        ),
        "repeated sigmoid (rep)": (
            la.repeated_sigmoid_schedule(0.1, 0.001, STEPS // 2),
            (30,),
            other,
        ),
    }


def main() -> None:
    """Draws every panel on the same axes and saves the picture beside this file."""
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(2, 4, figsize=(13, 5.2), sharex=True, sharey="row")
    epochs = np.arange(STEPS) / EPOCH
    for axis, (title, (schedule, restarts, colour)) in zip(
        axes.flat, panels().items(), strict=True
    ):
        for restart in restarts:
            axis.axvline(restart, color="#d4d4d4", linewidth=1, zorder=0)
        axis.plot(epochs, la.tabulate(schedule, STEPS), color=colour, linewidth=1.6)
        axis.set_title(title, fontsize=10.5)
        axis.axhline(0.1, color="#a3a3a3", linewidth=0.8, linestyle=(0, (4, 4)), zorder=0)
        axis.set_xlim(0, EPOCHS)
        axis.set_xticks(range(0, EPOCHS + 1, 15))
    axes[0, 0].set_ylim(0, 0.3)
    axes[1, 0].set_ylim(0, 0.12)
    axes[0, 3].text(59, 0.112, "η_max = 0.1", ha="right", fontsize=9, color="#525252")
    figure.supxlabel("epoch (391 steps each; grey lines are restarts)", fontsize=10.5)
    for axis in axes[:, 0]:
        axis.set_ylabel("learning rate")
    figure.tight_layout()
    figure.savefig(pathlib.Path(__file__).with_name("schedules.png"), dpi=130, facecolor="white")


if __name__ == "__main__":
    main()
