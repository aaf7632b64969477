"""The parameters of log annealing, searched: MNIST, NN-2 at a fifth of its width.

    python -m experiments.sweep --config=configs/sweeps/log_search.py

'Finding the best parameters for the scheduler' is what naveen2024 leaves to the future. Three
forms of the formula (eq. 4 with its own base, with base 2, and normalised) are each tried at 216
points: peak, first_step, length and growth of the cycles, and how their peaks decay. Five epochs a
run, one tuning seed, 5,000 validation examples; the best point of each form is trained with five
fresh seeds.
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
    run.schedule.end_value = 0.01 * run.schedule.get_oneway_ref("init_value")
    run.schedule.restart_interval_epochs = 5.0
    run.schedule.init_decay_epochs = run.schedule.get_oneway_ref("restart_interval_epochs")
    config = base.make(run)
    config.settings = (
        {"name": "log (paper)", "schedule.variant": "paper"},
        {"name": "log (paper, base 2)", "schedule.variant": "paper", "schedule.base": 2.0},
        {"name": "log (normalised)", "schedule.variant": "normalised"},
    )
    config.grid = (
        {"field": "schedule.init_value", "values": (0.02, 0.05, 0.2)},
        {"field": "schedule.first_step", "values": (1.0, 10.0, 100.0)},
        {"field": "schedule.restart_interval_epochs", "values": (0.5, 1.0, 2.5, 5.0)},
        {"field": "schedule.restart_multiplier", "values": (1.0, 2.0)},
        {"field": "schedule.restart_decay", "values": (1.0, 0.5, 0.25)},
    )
    config.tune.seeds = (100,)
    config.tune.validation_examples = 5000
    return config
