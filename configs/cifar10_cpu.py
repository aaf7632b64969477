"""A narrow ResNet-10 with attention on CIFAR-10, with normalized cyclical log annealing.

    python -m experiments.train --config=configs/cifar10_cpu.py

Hardware: a laptop's CPU. On 2 cores of an AMD EPYC, the run takes 6 minutes, including decoding and
compilation, and reaches 79.7% test accuracy (one trial, seed 0). docs/reproducing.md lists every
epoch of that run.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.epochs = 8.0
    config.log_every_steps = 20
    config.model.name = "resnet10"
    config.model.width_multiplier = 0.25
    config.schedule.variant = "normalized"
    config.schedule.peak_value = 0.3
    config.schedule.warmup_epochs = 0.5
    config.schedule.init_decay_epochs = 2.5
    config.schedule.restart_interval_epochs = 5.0
    return config
