"""Experiment 1 of Naveen 2024 (section 2.1, figure 2): ResNet-34 on CIFAR-10, SGD, 60 epochs.

    python -m experiments.train --config=configs/cifar10_resnet34.py
    the same with --config.schedule.name=cyclical_cosine for another curve

The cell 1,resnet34,log of configs/naveen2024.py, where it is said what the paper leaves unsaid.
"""

from ml_collections import ConfigDict

from configs import naveen2024


def get_config() -> ConfigDict:
    return naveen2024.get_config("1,resnet34,log")
