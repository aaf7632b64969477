"""Experiment 2 of Naveen 2024 (section 2.2, figure 3): ResNet-50 with attention, Adam, 40 epochs.

    python -m experiments.train --config=configs/cifar10_attention.py
    the same with --config.schedule.name=cyclical_cosine for another curve

The cell 2,resnet50,log of configs/naveen2024.py, where it is said what the paper leaves unsaid.
"""

from ml_collections import ConfigDict

from configs import naveen2024


def get_config() -> ConfigDict:
    return naveen2024.get_config("2,resnet50,log")
