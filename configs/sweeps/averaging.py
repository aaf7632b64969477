"""Last weights, EMA, SWA, and snapshots on handwritten digits: two schedules, five seeds.

    python -m experiments.sweep --config=configs/sweeps/averaging.py
    python -m experiments.report runs/averaging

The network has two hidden layers of 100 units, as in configs/sweeps/digits.py. docs/averaging.md
has the results.
"""

from ml_collections import ConfigDict

from configs.sweeps import base, digits


def get_config() -> ConfigDict:
    run = digits.get_config().base
    run.epochs = 20.0
    run.schedule.peak_value = 0.1
    run.averaging.ema_decay = 0.99
    run.averaging.swa_start_epoch = 15
    config = base.make(run)
    config.settings = (
        {"name": "constant", "schedule.name": "constant"},
        {
            "name": "cosine (restarts)",
            "schedule.name": "cyclical_cosine",
            "schedule.init_decay_epochs": 6.0,
            "schedule.restart_interval_epochs": 6.0,
            "averaging.cycle_snapshots": True,
        },
    )
    return config
