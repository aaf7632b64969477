"""CIFAR-10 on a laptop's CPU: a narrow ResNet-10 with attention, normalised cyclical log annealing.

    python -m experiments.train --config=configs/cifar10_cpu.py

Measured on 2 cores of an AMD EPYC: 79.7% test accuracy in 6 minutes, decoding and compiling
included (one trial, seed 0; docs/reproducing.md has the run).
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.epochs = 8.0
    config.log_every_steps = 20
    config.model.name = "resnet10"
    config.model.width_multiplier = 0.25
    config.schedule.variant = "normalised"
    config.schedule.init_value = 0.3
    config.schedule.warmup_epochs = 0.5
    config.schedule.init_decay_epochs = 2.5
    config.schedule.restart_interval_epochs = 5.0
    return config
