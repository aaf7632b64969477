"""A search over the parameters of log annealing, on MNIST with NN-2 at a fifth of its width.

    python -m experiments.sweep --config=configs/sweeps/log_search.py

Hardware: any CPU. The sweep took 30 minutes on one core of an AMD EPYC. docs/results/README.md has
the accuracies.

Naveen 2024 leaves 'finding the best parameters for the scheduler' to future work. The sweep tries
three forms of the formula at 216 points each: eq. (4) with its own base, eq. (4) with base 2, and
the normalized variant. A point sets the peak, first_step, the length and growth of the cycles, and
the decay of their peaks. Every run has five epochs. Tuning uses one seed and 5,000 validation
examples. The best point of each form is then trained with five fresh seeds.
"""

from ml_collections import ConfigDict

from configs import nakamura2021
from configs.sweeps import base


def get_config() -> ConfigDict:
    run = nakamura2021.get_config("mnist,nn2,sig+")
    run.epochs = 5.0
    run.log_every_steps = 234
    run.model.width_multiplier = 0.2
    run.schedule.name = "cyclical_log_annealing"
    run.schedule.warmup_epochs = 0.0
    run.schedule.end_value = 0.01 * run.schedule.get_oneway_ref("peak_value")
    run.schedule.restart_interval_epochs = 5.0
    run.schedule.init_decay_epochs = run.schedule.get_oneway_ref("restart_interval_epochs")
    config = base.make(run)
    config.settings = (
        {"name": "log (paper)", "schedule.variant": "paper"},
        {"name": "log (paper, base 2)", "schedule.variant": "paper", "schedule.base": 2.0},
        {"name": "log (normalized)", "schedule.variant": "normalized"},
    )
    config.grid = (
        {"field": "schedule.peak_value", "values": (0.02, 0.05, 0.2)},
        {"field": "schedule.first_step", "values": (1.0, 10.0, 100.0)},
        {"field": "schedule.restart_interval_epochs", "values": (0.5, 1.0, 2.5, 5.0)},
        {"field": "schedule.restart_multiplier", "values": (1.0, 2.0)},
        {"field": "schedule.restart_decay", "values": (1.0, 0.5, 0.25)},
    )
    config.tune.seeds = (100,)
    config.tune.validation_examples = 5000
    return config
