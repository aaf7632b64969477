"""A sweep that takes seconds: narrow networks on the digits, 8 trials in blocks of 2."""

from configs.sweeps import digits


def get_config():
    config = digits.get_config()
    config.settings = (
        {"name": "constant", "schedule.name": "constant"},
        {"name": "cosine", "schedule.name": "cosine"},
    )
    config.grid = ({"field": "schedule.peak_value", "values": (0.2, 0.4)},)
    config.tune.seeds = (100,)
    config.seeds = (0, 1)
    config.base.epochs = 3.0
    config.base.batch_size = 256
    config.base.model.width_multiplier = 0.02
    config.block_size = 2
    return config
