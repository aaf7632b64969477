"""CIFAR-10 on a laptop: PLACEHOLDER."""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.epochs = 8.0
    config.log_every_steps = 20
    config.model.name = "resnet10"
    config.model.num_filters = 16
    config.schedule.variant = "normalised"
    config.schedule.init_value = 0.3
    config.schedule.warmup_epochs = 0.5
    config.schedule.init_decay_epochs = 2.5
    config.schedule.restart_interval_epochs = 5.0
    return config
