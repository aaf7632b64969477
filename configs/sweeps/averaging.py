"""Last weights, EMA, SWA, and snapshots on handwritten digits: two schedules, five seeds.

    python -m experiments.sweep --config=configs/sweeps/averaging.py
    python -m experiments.report runs/averaging

The network is the quickstart's on images of 8x8 pixels. docs/averaging.md has the results.
"""

from ml_collections import ConfigDict

from configs import quickstart
from configs.sweeps import base


def get_config() -> ConfigDict:
    run = quickstart.get_config()
    run.data.image_size = 8
    run.averaging.ema_decay = 0.99
    run.averaging.swa_start_epoch = 15
    config = base.make(run)
    config.settings = (
        {"name": "constant", "schedule.name": "constant"},
        {
            "name": "cosine (restarts)",
            "schedule.name": "cyclical_cosine",
            "averaging.cycle_snapshots": True,
        },
    )
    return config
