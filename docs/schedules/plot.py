"""Draws the pictures of docs/schedules.md, one per family of schedules.

    python -m docs.schedules.plot

docs/schedules/tables.py draws the thumbnails of the README, one per name.
"""

import pathlib

import numpy as np
import optax

import loganneal_jax as la
from experiments.results import schedule_curves
from loganneal_jax import shapes

STEPS = 200
PEAK, END = 0.1, 0.001
CYCLES = {
    "init_decay_steps": 40,
    "restart_interval": 40,
    "restart_multiplier": 1.5,
    "restart_decay": 0.8,
    "warmup_steps": 20,
}
WARMUP = {"warmup_steps": 20, "warmup_init_value": 0.01}

STEPS_PER_EPOCH = 391  # CIFAR-10 at batch size 128
OVERVIEW_EPOCHS = 60
OVERVIEW_CYCLES = {
    "init_decay_steps": 10 * STEPS_PER_EPOCH,
    "restart_interval": 10 * STEPS_PER_EPOCH,
    "restart_multiplier": 2.0,
    "warmup_steps": 5 * STEPS_PER_EPOCH,
    "warmup_init_value": 0.01,
}
OVERVIEW_WARMUP = {"warmup_steps": 6 * STEPS_PER_EPOCH, "warmup_init_value": 0.01}


def families() -> dict[str, dict[str, optax.Schedule]]:
    """Returns the schedules of each picture, by file name and panel title."""
    return {
        "log_annealing": {
            "eq. (4), base 1 / range": la.log_annealing_schedule(PEAK, END, STEPS, variant="paper"),
            "eq. (4), base 1 / eta_min": la.log_annealing_schedule(
                PEAK, END, STEPS, variant="paper", base=1 / END
            ),
            "eq. (4), base = range": la.log_annealing_schedule(
                PEAK, END, STEPS, variant="paper", base=PEAK - END
            ),
            "normalized": la.log_annealing_schedule(PEAK, END, STEPS),
        },
        "cyclical_log_annealing": {
            "eq. (4)": la.cyclical_log_annealing_schedule(PEAK, END, **CYCLES, variant="paper"),
            "normalized": la.cyclical_log_annealing_schedule(PEAK, END, **CYCLES),
        },
        "log_step_size": {
            "log step size": la.log_step_size_schedule(PEAK, 40, restart_multiplier=1.5)
        },
        "cyclical_cosine": {"cyclical cosine": la.cyclical_cosine_schedule(PEAK, END, **CYCLES)},
        "restarts": {
            "linear, shrinking interval": la.restarts(
                shapes.linear, PEAK, END, restart_interval=80, restart_multiplier=0.7
            ),
            "REX, warmup and hold": la.restarts(
                shapes.rex,
                PEAK,
                END,
                restart_interval=40,
                restart_decay=0.7,
                warmup_steps=15,
                hold_steps=12,
            ),
        },
        "linear": {"linear to zero": la.linear_decay_schedule(PEAK, 0.0, STEPS)},
        "polynomial": {
            "power 2": la.anneal(lambda e, r: shapes.polynomial(e, r, 2.0), PEAK, END, STEPS),
            "power 0.5": la.anneal(lambda e, r: shapes.polynomial(e, r, 0.5), PEAK, END, STEPS),
        },
        "exponential": {"exponential (exp)": la.exponential_decay_schedule(PEAK, END, STEPS)},
        "staircase": {
            "staircase (str)": la.staircase_schedule(PEAK, boundaries=[100, 150]),
            "with warmup (str+)": la.warmup_staircase_schedule(
                PEAK, boundaries=[100, 150], **WARMUP
            ),
        },
        "sigmoid": {
            "sigmoid (sig)": la.sigmoid_decay_schedule(PEAK, END, STEPS),
            "with warmup (sig+)": la.warmup_sigmoid_decay_schedule(PEAK, END, STEPS, **WARMUP),
            "repeated (rep)": la.repeated_sigmoid_schedule(PEAK, END, STEPS // 2),
        },
        "trapezoid": {
            f"cooldown {cooldown}": la.trapezoid_schedule(
                PEAK, END, STEPS, cooldown_steps=80, cooldown=cooldown, **WARMUP
            )
            for cooldown in ("linear", "1-sqrt", "cosine")
        },
        "inverse_sqrt": {"inverse square root": la.inverse_sqrt_schedule(PEAK, warmup_steps=20)},
        "rex": {"REX": la.rex_schedule(PEAK, END, STEPS)},
        "triangular": {
            mode: la.triangular_schedule(END, PEAK, 25, mode=mode, decay_rate=rate)
            for mode, rate in (("triangular", None), ("triangular2", None), ("exp_range", 0.99))
        },
        "one_cycle": {"one cycle": la.one_cycle_schedule(PEAK, STEPS)},
        "tanh": {"hyperbolic tangent": la.tanh_decay_schedule(PEAK, END, STEPS)},
        "inverse_time": {
            "inverse time": la.inverse_time_schedule(PEAK, 40, decay_rate=1.0),
            "in stairs": la.inverse_time_schedule(PEAK, 40, decay_rate=1.0, staircase=True),
        },
        "range_test": {
            spacing: la.range_test_schedule(END, PEAK, STEPS, spacing=spacing)
            for spacing in ("exponential", "linear")
        },
        "optax": {
            "constant": optax.constant_schedule(PEAK),
            "cosine": optax.cosine_decay_schedule(PEAK, STEPS, alpha=END / PEAK),
        },
    }


def overview() -> dict[str, optax.Schedule]:
    """Returns the schedules of the overview, by panel title.

    They have the length of the first experiment in Naveen 2024.
    """
    steps = OVERVIEW_EPOCHS * STEPS_PER_EPOCH
    return {
        "cyclical log annealing, eq. (4)": la.cyclical_log_annealing_schedule(
            PEAK, END, **OVERVIEW_CYCLES, variant="paper"
        ),
        "cyclical log annealing, normalized": la.cyclical_log_annealing_schedule(
            PEAK, END, **OVERVIEW_CYCLES
        ),
        "cyclical cosine": la.cyclical_cosine_schedule(PEAK, END, **OVERVIEW_CYCLES),
        "triangular2": la.triangular_schedule(END, PEAK, 10 * STEPS_PER_EPOCH, mode="triangular2"),
        "sigmoid with warmup (sig+)": la.warmup_sigmoid_decay_schedule(
            PEAK, END, steps, **OVERVIEW_WARMUP
        ),
        "trapezoid (trap)": la.trapezoid_schedule(
            PEAK, END, steps, cooldown_steps=20 * STEPS_PER_EPOCH, **OVERVIEW_WARMUP
        ),
        "staircase with warmup (str+)": la.warmup_staircase_schedule(
            PEAK, boundaries=[30 * STEPS_PER_EPOCH, 45 * STEPS_PER_EPOCH], **OVERVIEW_WARMUP
        ),
        "repeated sigmoid (rep)": la.repeated_sigmoid_schedule(PEAK, END, steps // 2),
    }


def save(
    name: str, schedules: dict[str, optax.Schedule], num_steps: int, steps_per_epoch: int
) -> None:
    """Draws one picture and saves it next to this file."""
    curves = {title: np.asarray(la.tabulate(s, num_steps)) for title, s in schedules.items()}
    figure = schedule_curves.draw(curves, steps_per_epoch)
    figure.savefig(pathlib.Path(__file__).with_name(f"{name}.png"))


def main() -> None:
    """Draws all pictures."""
    save("schedules", overview(), OVERVIEW_EPOCHS * STEPS_PER_EPOCH, STEPS_PER_EPOCH)
    for name, schedules in families().items():
        save(name, schedules, STEPS, 1)


if __name__ == "__main__":
    main()
